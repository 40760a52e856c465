"""How a loop tells that it was held up: a task that only ticks, and says on stdout each time it was late by more than
NOTED_S, whatever held it up, the loop's own code or a thread that Python did not interrupt."""

import asyncio
import sys
import time
from collections.abc import Iterable

TICK_S, NOTED_S = 0.001, 0.002
_HELD_UP = "held up for ms:"


async def tick() -> None:
    while True:
        due_at = time.perf_counter() + TICK_S
        await asyncio.sleep(TICK_S)
        if (late_s := time.perf_counter() - due_at) > NOTED_S:
            sys.stdout.write(f"{_HELD_UP} {late_s * 1000:.3f}\n")  # in one go, as print would not: it is read meanwhile
            sys.stdout.flush()


def longest_ms(said: Iterable[str]) -> float:
    """Of the lines that a process with such a task has said."""
    return max((float(line.removeprefix(_HELD_UP)) for line in said if line.startswith(_HELD_UP)), default=0.0)
