"""The end of a process whose event loop is blocked, or that was frozen: its jobs go to others, it must not go on too.

A timer of the kernel, set again and again by the loop. Its signal needs no interpreter lock, so it ends a regular
expression as well, and a process that was stopped dies before it runs one more line.
"""

import asyncio
import contextlib
import faulthandler
import signal
from collections.abc import AsyncIterator

TICKS = 10
STDERR = 2
BACKSTOP_S = 2.0


@contextlib.asynccontextmanager
async def watchdog(after_s: float) -> AsyncIterator[None]:
    """While the context lasts, the process ends by SIGALRM (142 in a shell) when the loop did not run for `after_s`
    seconds, without any clean-up. Where it was blocked is written to stderr: places in the code, no values.

    As process 1 of a container it would survive a signal's default action; there a thread ends it, a little later, with
    code 1.
    """

    async def tick() -> None:
        while True:
            signal.setitimer(signal.ITIMER_REAL, after_s)
            faulthandler.dump_traceback_later(after_s + BACKSTOP_S, exit=True, file=STDERR)
            await asyncio.sleep(after_s / TICKS)

    faulthandler.register(signal.SIGALRM, file=STDERR, all_threads=False, chain=True)
    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        faulthandler.unregister(signal.SIGALRM)
