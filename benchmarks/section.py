"""What a section of the measurements is: a name, and what yields its runs one after another."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from benchmarks.plan import Plan

Figures = dict[str, float]
"""Names say the unit: `..._per_s`, `..._ms`, `..._cpu_ms` (CPU milliseconds each, which are seconds per 1,000),
`..._octets`, `..._mb`. table.py has what a reader is shown."""


class Stopped(RuntimeError):
    """A measurement cannot be trusted, or not be made; the text says why."""


@dataclass(frozen=True, slots=True)
class Run:
    """One, of one subject: a tool, or a way to do something."""

    subject: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A subject that this machine cannot measure, and the fix."""

    subject: str
    reason: str


Runs = AsyncGenerator[Run | LeftOut, None]


@dataclass(frozen=True, slots=True)
class Section:
    """`runs`: those of a subject in each of the plan's rounds, the subjects of one round after another."""

    name: str
    title: str
    runs: Callable[[Plan], Runs]
