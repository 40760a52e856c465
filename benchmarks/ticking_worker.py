"""`arq worker.WorkerSettings` with a task beside it that tells how long the loop was held up. To be run, not imported:
it makes this process a worker."""

import asyncio
from typing import Any

from benchmarks.ticking import tick
from worker.main import WorkerSettings, run

_startup = WorkerSettings.on_startup


async def startup(ctx: dict[str, Any]) -> None:
    await _startup(ctx)
    ctx["ticking"] = asyncio.create_task(tick())


if __name__ == "__main__":
    WorkerSettings.on_startup = startup
    run()
