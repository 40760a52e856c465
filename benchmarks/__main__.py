"""`make bench`, or `python -m benchmarks`: everything measured, section after section, and written down."""

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine
from benchmarks.accepting import ACCEPTING
from benchmarks.draining import DRAINING
from benchmarks.end_to_end import END_TO_END
from benchmarks.growth import GROWTH
from benchmarks.holding_up import HOLDING_UP
from benchmarks.latency import LATENCY
from benchmarks.memory import MEMORY
from benchmarks.peers.environments import BENCH
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.publishing import draw, publish, write
from benchmarks.rendering import RENDERING
from benchmarks.results import Results
from benchmarks.section import LeftOut, Run, Section, Stopped
from benchmarks.table import line, reached, warnings
from benchmarks.transaction import TRANSACTION
from benchmarks.waiting import WAITING
from mailer.errors import QueueUnavailable

SECTIONS = (TRANSACTION, RENDERING, DRAINING, ACCEPTING, END_TO_END, LATENCY, MEMORY, GROWTH, WAITING, HOLDING_UP)
MOST_ROUNDS = 20


def _sections(names: str) -> tuple[Section, ...]:
    asked = [name.strip() for name in names.split(",")]
    known = [section.name for section in SECTIONS]
    if unknown := [name for name in asked if name not in known]:
        raise argparse.ArgumentTypeError(f"there is no {unknown[0]!r}; there are {', '.join(known)}")
    return tuple(section for section in SECTIONS if section.name in asked)


def _rounds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_ROUNDS:
        raise argparse.ArgumentTypeError(f"write a number from 1 to {MOST_ROUNDS}")
    return int(text)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = ", ".join(section.name for section in SECTIONS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", type=_sections, default=SECTIONS, metavar="NAME,...", help=f"some of {names}")
    parser.add_argument("--rounds", type=_rounds, help=f"how often, in turn; {FULL.rounds} unless --quick")
    parser.add_argument("--quick", action="store_true", help="small counts and one round: to see that it works")
    parser.add_argument("--out", type=Path, default=BENCH / "results", metavar="FOLDER", help="%(default)s")
    parser.add_argument("--even-if-busy", action="store_true", help="though others use the machine")
    parser.add_argument("--publish", action="store_true", help="measure nothing: put what FOLDER has into the README")
    return parser.parse_args(arguments)


async def measure(sections: Sequence[Section], plan: Plan, results: Results, out: Path) -> None:
    """What is there is written after each section and however it ends, so that a long run that is stopped was not for
    nothing. One that is stopped before its first figure leaves what the last one wrote."""
    for turn, section in enumerate(sections):
        if turn:  # before the first, somebody has looked
            results.note_busy(await asyncio.to_thread(machine.busy, machine.BETWEEN_S), section.name)
        try:
            async with aclosing(section.runs(plan)) as runs:
                async for found in runs:
                    _note(section, found, results)
        finally:
            if results.sections:
                write(results, sections, out)


def _note(section: Section, found: Run | LeftOut, results: Results) -> None:
    results.add(section.name, found)
    if isinstance(found, LeftOut):
        print(f"{section.name} · {found.subject} · left out: {found.reason}", flush=True)
    else:
        print(line(section.name, found.subject, found.figures), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    try:
        if options.publish:
            publish(options.out)
            return
        _measured(options)
    except (Stopped, QueueUnavailable, subprocess.TimeoutExpired) as reason:
        sys.exit(f"Stopped. {reason}")
    except AssertionError as error:  # of `until`, which says what did not happen
        if not error.args:
            raise
        sys.exit(f"Stopped. {error}")


def _measured(options: argparse.Namespace) -> None:
    if (reason := machine.lacking()) is not None:
        raise Stopped(reason)
    busy = machine.busy()
    if (reason := machine.too_busy(busy)) is not None and not options.even_if_busy:
        raise Stopped(reason)
    plan = (QUICK if options.quick else FULL).with_rounds(options.rounds)
    now = datetime.now(UTC).isoformat(timespec="minutes")
    results = Results(now, plan.rounds, plan.quick, round(busy, 3), machine.described(), machine.work_ms())
    asyncio.run(measure(options.only, plan, results, options.out))
    results.work_after_ms = machine.work_ms()
    write(results, options.only, options.out)
    said = [*warnings(results), draw(results, options.out)]
    print("", reached(results), "", *(text for text in said if text), f"Written to {options.out}", sep="\n")


if __name__ == "__main__":
    main()
