"""How many of a relay's connections one worker uses at a time, with a share that is kept for critical mail."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

KEPT_FOR_CRITICAL = 0.3
"""Share of the connections that other mail leaves free; with a single one nothing is kept."""


class Busy(Exception):
    """Not now: no connection is free, the rate is used up, or nobody's mail goes there. `wait_s`: for about so long.
    `elsewhere`: another relay may be asked meanwhile."""

    def __init__(self, text: str, wait_s: float, *, elsewhere: bool = False) -> None:
        super().__init__(text)
        self.wait_s = wait_s
        self.elsewhere = elsewhere


class Gate:
    """`limit`: asked each time, so that it may change."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._inside = {True: 0, False: 0}
        self._waiting: dict[bool, deque[asyncio.Future[None]]] = {True: deque(), False: deque()}

    @asynccontextmanager
    async def passed(self, *, critical: bool, within_s: float) -> AsyncIterator[None]:
        """Raises Busy where no connection became free in time."""
        await self._enter(critical=critical, within_s=within_s)
        try:
            yield
        finally:
            self._inside[critical] -= 1
            self._let_in()

    async def _enter(self, *, critical: bool, within_s: float) -> None:
        if not any(self._waiting.values()) and self._has_room(critical=critical):
            self._inside[critical] += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[critical].append(turn)
        self._let_in()
        try:
            async with asyncio.timeout(within_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # let in while it was giving up
                self._inside[critical] -= 1
            turn.cancel()
            self._let_in()
            if isinstance(error, TimeoutError):
                raise Busy("all of its connections are in use", within_s) from error
            raise

    def _let_in(self) -> None:
        """Critical mail first."""
        for critical in (True, False):
            while self._waiting[critical] and self._has_room(critical=critical):
                turn = self._waiting[critical].popleft()
                if not turn.done():
                    self._inside[critical] += 1
                    turn.set_result(None)

    def _has_room(self, *, critical: bool) -> bool:
        limit = max(1, self._limit())
        if sum(self._inside.values()) >= limit:
            return False
        return critical or self._inside[False] < max(1, limit - math.ceil(limit * KEPT_FOR_CRITICAL))
