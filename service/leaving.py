"""A process that is told to stop says so to whoever waits in it, so that no answer is cut off when its patience ends.

The web server keeps its own handlers: they run right after.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def told_to_leave(leave: Callable[[], None]) -> Iterator[None]:
    """Meanwhile `leave` is called in the running loop for each signal that somebody handles."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    loop = asyncio.get_running_loop()
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}

    def handle(signum: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(leave)
        handler = before[signal.Signals(signum)]
        if callable(handler):
            handler(signum, frame)

    for signum, handler in before.items():
        if callable(handler):
            signal.signal(signum, handle)
    try:
        yield
    finally:
        for signum, handler in before.items():
            if signal.getsignal(signum) is handle:
                signal.signal(signum, handler)
