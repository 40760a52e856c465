"""Long work on a loop, in steps: a generator that yields wherever others may have their turn, and returns its result.

The trap: one that is called and given neither to `Turns` nor to `at_once` does nothing.
"""

import asyncio
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]

TURN_S = 0.005
"""Work of about so long between two steps."""


def at_once(steps: Steps[T]) -> T:
    """For whoever has a thread to himself, or knows that it is short."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # typeshed says Any


class Turns:
    """Of one loop: one step at a time of all that is long there, and everything else between two of them."""

    def __init__(self) -> None:
        self._step = asyncio.Lock()

    async def take(self, steps: Steps[T]) -> T:
        while True:
            async with self._step:
                try:
                    next(steps)
                except StopIteration as done:
                    return done.value  # type: ignore[no-any-return]  # typeshed says Any
                await asyncio.sleep(0)  # nobody else's step is in this round of the loop
