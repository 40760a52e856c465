"""What `postroom check` found, as values, and how they are shown: lines for a terminal, or an object for programs.

The trap: a relay's words come from outside, and a terminal obeys some characters.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

LONGEST_NAME = 30
MOST_NAMES = 5
NARROWEST = 40
"""Columns for words, on however narrow a terminal."""


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `origin`: where a setting's value is from. `fix`: what to do, where it is not ok."""

    state: State
    name: str
    detail: str
    fix: str | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """What was tried in one place. `facts`: more of it, for programs."""

    findings: tuple[Finding, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> State:
        return worst(finding.state for finding in self.findings)


def ok(name: str, detail: str) -> Finding:
    return Finding(State.OK, name, detail)


def warning(name: str, detail: str, fix: str | None = None) -> Finding:
    return Finding(State.WARNING, name, detail, fix)


def broken(name: str, detail: str, fix: str | None = None) -> Finding:
    return Finding(State.BROKEN, name, detail, fix)


def worst(states: Iterable[State]) -> State:
    return max(states, key=list(State).index, default=State.OK)


def lines(findings: Sequence[Finding], width: int) -> list[str]:
    """For a terminal of so many columns."""
    longest = min(LONGEST_NAME, max((len(finding.name) for finding in findings), default=0))
    origins = max((len(finding.origin or "") for finding in findings), default=0)
    shown: list[str] = []
    for finding in findings:
        origin = f"{printable(finding.origin or ''):<{origins}}  " if origins else ""
        head = f"  {finding.state:<7}  {printable(finding.name):<{longest}}  {origin}"
        shown += _hung(head, printable(finding.detail), width)
        if finding.fix is not None:
            shown += _hung(" " * (longest + 13), f"Fix: {finding.fix}", width)
    return shown


def summary(findings: Iterable[Finding]) -> str:
    states = [finding.state for finding in findings]
    counts = [(states.count(State.BROKEN), "broken", "broken"), (states.count(State.WARNING), "warning", "warnings")]
    told = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
    return f"{', '.join(told)}." if told else "All is well."


def as_object(section: Section) -> dict[str, Any]:
    findings = [
        {name: value for name in Finding.__slots__ if (value := getattr(finding, name)) is not None}
        for finding in section.findings
    ]
    return {"state": section.state, **section.facts, "findings": findings}


def printable(text: str) -> str:
    """On one line, and nothing that a terminal would obey."""
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return printable(", ".join(names[:MOST_NAMES]) + more) or "nobody"


def day(at: float) -> str:
    """`at`: seconds since 1970."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def days(seconds: float) -> str:
    whole = int(seconds // 86400)
    return "less than a day" if whole < 1 else "1 day" if whole == 1 else f"{whole} days"


def _hung(head: str, text: str, width: int) -> list[str]:
    """The text beside its head, and below itself where it does not fit."""
    room = max(NARROWEST, width - len(head))
    first, *rest = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    return [(head + first).rstrip(), *(" " * len(head) + line for line in rest)]
