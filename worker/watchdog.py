"""The end of a process whose event loop is blocked: its jobs go to others, and it must not wake up beside them."""

import asyncio
import contextlib
import faulthandler
from collections.abc import AsyncIterator

TICKS = 10


@contextlib.asynccontextmanager
async def watchdog(after_s: float) -> AsyncIterator[None]:
    """While the context lasts, the process ends itself when the loop did not run for `after_s` seconds.

    faulthandler's thread needs no interpreter lock, so that it works within a regular expression too. It writes each
    thread's place in the code (no values) to stderr and exits with code 1, without any clean-up.
    """

    async def tick() -> None:
        while True:
            faulthandler.dump_traceback_later(after_s, exit=True, file=2)  # stderr; replaces the one before
            await asyncio.sleep(after_s / TICKS)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        faulthandler.cancel_dump_traceback_later()
