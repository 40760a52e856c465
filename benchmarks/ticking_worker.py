"""`arq worker.WorkerSettings`, with a task beside it that only ticks, and says on stdout each time it was late by more
than NOTED_S: whatever held up the loop, its own code or a thread that Python did not interrupt."""

import asyncio
import sys
import time
from typing import Any

from worker.main import WorkerSettings, run

TICK_S, NOTED_S = 0.001, 0.002
HELD_UP = "held up for ms:"
_startup = WorkerSettings.on_startup


async def tick() -> None:
    while True:
        due_at = time.perf_counter() + TICK_S
        await asyncio.sleep(TICK_S)
        if (late_s := time.perf_counter() - due_at) > NOTED_S:
            line = f"{HELD_UP} {late_s * 1000:.3f}\n"
            sys.stdout.write(line)  # at once, as print would not: the log is read meanwhile
            sys.stdout.flush()


async def startup(ctx: dict[str, Any]) -> None:
    await _startup(ctx)
    ctx["ticking"] = asyncio.create_task(tick())


if __name__ == "__main__":
    WorkerSettings.on_startup = startup
    run()
