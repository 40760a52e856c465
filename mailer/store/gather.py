"""Calls that come while one is under way go together in the next: no latency when idle, few round trips when busy."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar, cast

from mailer.errors import QueueRefused, QueueUnavailable, WritesRefused
from mailer.store.connection import CALL_TIMEOUT_S

T = TypeVar("T")
R = TypeVar("R")

MOST_ITEMS = 100
MOST_BYTES = 1_000_000
SYNCING_AT_ONCE = 32
"""Calls under way at a time where each waits for the disk; else one, and the next takes all that has gathered."""


@dataclass(slots=True)
class _Asked(Generic[T, R]):
    item: T
    size: int
    answer: asyncio.Future[R]


class Gatherer(Generic[T, R]):
    """Hands items to `call` in groups of at most MOST_ITEMS and, beyond one item, MOST_BYTES.

    `call` gives an answer for each item, in order. `at_once`: how many calls may be under way. `pause_s`: least time
    between the beginnings of two, so that a steady stream gathers too; what comes after a longer silence never waits.
    """

    def __init__(
        self,
        call: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        size: Callable[[T], int] = lambda _: 0,
        at_once: int = 1,
        pause_s: float = 0.0,
    ) -> None:
        self._call = call
        self._size = size
        self._at_once = at_once
        self._waiting: deque[_Asked[T, R]] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._pause_s = pause_s
        self._last = -pause_s
        self._setting_out = False

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """Looked up once: on Python 3.11 that is a system call."""
        return asyncio.get_running_loop()

    async def ask(self, item: T) -> R:
        """The item's own answer. Raises QueueUnavailable, at the latest after CALL_TIMEOUT_S seconds."""
        (asked,) = self._put([item])
        patience = self._loop.call_later(CALL_TIMEOUT_S, _fail_late, [asked])
        try:
            return await asked.answer
        finally:
            patience.cancel()
            asked.answer.cancel()  # whoever gives up is not asked for any more; an answer that is there stays
            del asked  # its error's traceback leads here: in such a circle a body would wait for the garbage collector

    async def ask_all(self, items: Sequence[T]) -> list[R | Exception]:
        """The answer to each; what `ask` would raise for one stands in its place."""
        together = self._put(items)
        patience = self._loop.call_later(CALL_TIMEOUT_S, _fail_late, together)
        try:
            answers = await asyncio.gather(*(asked.answer for asked in together), return_exceptions=True)
        finally:
            patience.cancel()
            while together:
                together.pop().answer.cancel()
        return cast("list[R | Exception]", answers)

    def _put(self, items: Iterable[T]) -> list[_Asked[T, R]]:
        together = [_Asked(item, self._size(item), self._loop.create_future()) for item in items]
        self._waiting += together
        self._begin()
        return together

    def _begin(self) -> None:
        """The next group sets out when this turn of the loop is over, and not before the pause: what is asked for until
        then goes with it."""
        if self._setting_out or not self._waiting or len(self._calls) >= self._at_once:
            return
        self._setting_out = True
        self._loop.call_at(max(self._loop.time(), self._last + self._pause_s), self._set_out)

    def _set_out(self) -> None:
        self._setting_out = False
        if group := self._take_group():
            self._last = self._loop.time()
            task = self._loop.create_task(self._answer(group))
            self._calls.add(task)
            task.add_done_callback(self._ended)
        self._begin()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._begin()

    async def _answer(self, group: list[_Asked[T, R]]) -> None:
        try:
            answers = await self._call([asked.item for asked in group])
        except QueueRefused as error:
            if len(group) == 1 or isinstance(error, WritesRefused):
                _fail(group, error)
                return
            for asked in group:  # one item's trouble is not its neighbours'
                if not asked.answer.done():
                    await self._answer_alone(asked)
        except Exception as error:  # noqa: BLE001 - it is raised again, for each of those who asked
            _fail(group, error)
        else:
            for asked, answer in zip(group, answers, strict=True):
                if not asked.answer.done():
                    asked.answer.set_result(answer)
        finally:
            group.clear()  # as in `ask`

    async def _answer_alone(self, asked: _Asked[T, R]) -> None:
        try:
            (answer,) = await self._call([asked.item])
        except Exception as error:  # noqa: BLE001 - it is raised again, for the one who asked
            _fail([asked], error)
        else:
            if not asked.answer.done():
                asked.answer.set_result(answer)
        finally:
            del asked

    def _take_group(self) -> list[_Asked[T, R]]:
        group: list[_Asked[T, R]] = []
        octets = 0
        while self._waiting and len(group) < MOST_ITEMS:
            asked = self._waiting[0]
            if asked.answer.done():  # whoever asked has gone
                self._waiting.popleft()
                continue
            octets += asked.size
            if group and octets > MOST_BYTES:
                break
            group.append(self._waiting.popleft())
        return group


def _fail_late(group: Sequence[_Asked[T, R]]) -> None:
    _fail(group, QueueUnavailable(f"The queue server did not answer within {CALL_TIMEOUT_S:g} s"))


def _fail(group: Sequence[_Asked[T, R]], error: Exception) -> None:
    for asked in group:
        if not asked.answer.done():
            asked.answer.set_exception(error)
