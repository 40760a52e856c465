"""How many of a relay's connections one worker uses at a time. Some are kept for critical mail, which goes first; but
of those who enter while both wait, a part are others, so that no amount of critical mail stops them."""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable
from functools import cached_property

KEPT_FOR_CRITICAL = 0.3
"""Share of the connections that other mail leaves free; with a single one nothing is kept."""
OTHERS_PART = 0.3
"""Of those who enter while critical mail and others wait: as of the jobs that a worker claims (worker/shares.py)."""
_OWED_BY_ONE = OTHERS_PART / (1 - OTHERS_PART)
_MOST_OWED = 2.0


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
        self._waiting: dict[bool, deque[asyncio.Future[bool]]] = {True: deque(), False: deque()}
        self._owed = 0.0
        """To others who wait, by critical mails that went before them."""

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """Looked up once: on Python 3.11 that is a system call."""
        return asyncio.get_running_loop()

    def leave(self, *, critical: bool) -> None:
        """Whoever has entered leaves, whatever happened inside."""
        self._inside[critical] -= 1
        self._let_in()

    def is_exceeded(self, idle: int) -> bool:
        """Whether those inside would, with a connection for each and these idle ones, have more than there may be."""
        return sum(self._inside.values()) + idle > max(1, self._limit())

    async def enter(self, *, critical: bool, within_s: float) -> None:
        """Raises Busy where no connection became free in time."""
        if not any(self._waiting.values()) and self._has_room(critical=critical):
            self._inside[critical] += 1
            return
        turn: asyncio.Future[bool] = self._loop.create_future()
        self._waiting[critical].append(turn)
        self._let_in()
        patience = self._loop.call_later(within_s, _turn_away, turn)
        try:
            is_in = await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.result():  # let in while it was giving up
                self._inside[critical] -= 1
            turn.cancel()
            self._leave_line(turn, critical=critical)
            raise
        finally:
            patience.cancel()
        if not is_in:
            self._leave_line(turn, critical=critical)
            raise Busy("all of its connections are in use", within_s)

    def _leave_line(self, turn: asyncio.Future[bool], *, critical: bool) -> None:
        """Nothing is kept of who has gone, however long the line does not move."""
        with contextlib.suppress(ValueError):
            self._waiting[critical].remove(turn)
        self._let_in()

    def _let_in(self) -> None:
        while (critical := self._next()) is not None:
            turn = self._waiting[critical].popleft()
            if turn.done():
                continue
            self._inside[critical] += 1
            turn.set_result(True)
            owed = self._owed + (_OWED_BY_ONE if critical else -1)
            self._owed = min(max(0.0, owed), _MOST_OWED) if self._waiting[False] else 0.0

    def _next(self) -> bool | None:
        """Whose turn it is: critical mail's, but for the part of the others. None: nobody may enter."""
        if not (self._waiting[True] or self._waiting[False]):
            return None
        order = (False, True) if self._owed >= 1 else (True, False)
        return next((kind for kind in order if self._waiting[kind] and self._has_room(critical=kind)), None)

    def _has_room(self, *, critical: bool) -> bool:
        limit = max(1, self._limit())
        if sum(self._inside.values()) >= limit:
            return False
        return critical or self._inside[False] < max(1, limit - math.ceil(limit * KEPT_FOR_CRITICAL))


def _turn_away(turn: asyncio.Future[bool]) -> None:
    if not turn.done():
        turn.set_result(False)
