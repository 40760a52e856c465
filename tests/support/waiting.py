"""Waiting for what real processes do: by looking, within a bound, and saying what was seen last."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T]], *, within_s: float = 15.0, what: str = "it") -> T:
    """The first truthy result of `look`."""
    deadline = time.monotonic() + within_s
    while True:
        seen = await look()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"{what} did not happen within {within_s:g} s; seen last: {seen!r}"
        await asyncio.sleep(0.02)
