"""Calls that come while one is under way go together in the next, and nobody pays for a neighbour."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Sequence

import pytest

from mailer.errors import QueueRefused, QueueUnavailable, WritesRefused
from mailer.store import gather
from mailer.store.gather import MOST_BYTES, MOST_ITEMS, Gatherer


class Server:
    """Answers each item with its double. While `closed`, calls wait; items in `bad` have the server refuse the call."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.bad: set[int] = set()
        self.refusal = QueueRefused("no")
        self.open = asyncio.Event()
        self.open.set()
        self.under_way = 0
        self.most_under_way = 0

    async def call(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0)
            await self.open.wait()
        finally:
            self.under_way -= 1
        if self.bad & set(items):
            raise self.refusal
        return [2 * item for item in items]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    yield server
    server.open.set()


async def asked(gatherer: Gatherer[int, int], *items: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(gatherer.ask(item)) for item in items]
    await asyncio.sleep(0.001)
    return tasks


async def test_one_alone_goes_at_once(server: Server) -> None:
    assert await Gatherer(server.call).ask(21) == 42
    assert server.calls == [[21]]


async def test_what_comes_while_a_call_is_under_way_goes_together_in_the_next(server: Server) -> None:
    gatherer = Gatherer(server.call)
    server.open.clear()
    tasks = await asked(gatherer, 1)
    for item in (2, 3, 4):
        tasks += await asked(gatherer, item)
    assert server.calls == [[1]]
    server.open.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert server.calls == [[1], [2, 3, 4]]


async def test_a_group_has_a_hundred_at_most(server: Server) -> None:
    tasks = await asked(Gatherer(server.call), *range(250))
    assert await asyncio.gather(*tasks) == [2 * item for item in range(250)]
    assert [len(call) for call in server.calls] == [MOST_ITEMS, MOST_ITEMS, 50]


async def test_a_group_has_a_megabyte_at_most_but_one_item_may_have_more(server: Server) -> None:
    gatherer = Gatherer(server.call, size=lambda item: item)
    sizes = (400_000, 400_000, 400_000, 3 * MOST_BYTES, 10, 10)
    await asyncio.gather(*await asked(gatherer, *sizes))
    assert server.calls == [[400_000, 400_000], [400_000], [3 * MOST_BYTES], [10, 10]]


async def test_several_calls_may_be_under_way_but_no_more_than_that(server: Server) -> None:
    gatherer = Gatherer(server.call, at_once=3)
    server.open.clear()
    tasks = []
    for item in range(5):
        tasks += await asked(gatherer, item)
    assert server.calls == [[0], [1], [2]]
    server.open.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8]
    assert server.calls[3:] == [[3, 4]]
    assert server.most_under_way == 3


async def test_one_items_trouble_is_not_its_neighbours(server: Server) -> None:
    server.bad = {3}
    results = await asyncio.gather(*await asked(Gatherer(server.call), 1, 2, 3, 4), return_exceptions=True)
    assert [type(result) for result in results] == [int, int, QueueRefused, int]
    assert server.calls == [[1, 2, 3, 4], [1], [2], [3], [4]]


async def test_those_who_ask_together_have_an_answer_each_and_go_in_one_call(server: Server) -> None:
    gatherer = Gatherer(server.call)
    assert await gatherer.ask_all([1, 2, 3]) == [2, 4, 6]
    assert server.calls == [[1, 2, 3]]
    server.bad = {5}
    answers = await gatherer.ask_all([4, 5, 6])
    assert [type(answer) for answer in answers] == [int, QueueRefused, int]


async def test_those_who_ask_together_and_give_up_are_not_asked_for_any_more(server: Server) -> None:
    gatherer = Gatherer(server.call)
    server.open.clear()
    first = await asked(gatherer, 1)
    gone = asyncio.create_task(gatherer.ask_all([2, 3]))
    await asyncio.sleep(0.001)
    gone.cancel()
    await asyncio.wait({gone})
    server.open.set()
    assert await asyncio.gather(*first) == [2]
    assert await gatherer.ask(4) == 8
    assert server.calls == [[1], [4]]


async def test_a_server_that_takes_no_writes_is_asked_once_and_not_for_each(server: Server) -> None:
    server.refusal = WritesRefused("READONLY")
    server.bad = {3}
    results = await asyncio.gather(*await asked(Gatherer(server.call), 1, 2, 3, 4), return_exceptions=True)
    assert [type(result) for result in results] == [WritesRefused] * 4
    assert server.calls == [[1, 2, 3, 4]]


async def test_who_gave_up_while_the_others_were_asked_for_one_by_one_is_not_asked_for(server: Server) -> None:
    server.bad = {1}
    server.open.clear()
    tasks = await asked(Gatherer(server.call), 1, 2, 3)
    tasks[1].cancel()
    await asyncio.wait({tasks[1]})
    server.open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [QueueRefused, asyncio.CancelledError, int]
    assert server.calls == [[1, 2, 3], [1], [3]]


async def test_a_server_that_is_away_is_everybodys_trouble_and_the_next_call_is_made() -> None:
    calls = 0

    async def call(items: Sequence[int]) -> list[int]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise QueueUnavailable("gone")
        return list(items)

    gatherer = Gatherer(call)
    results = await asyncio.gather(*await asked(gatherer, 1, 2), return_exceptions=True)
    assert [type(result) for result in results] == [QueueUnavailable, QueueUnavailable]
    assert calls == 1, "who asked decides whether to ask again"
    assert await gatherer.ask(3) == 3


async def test_who_gave_up_while_waiting_is_not_asked_for_any_more(server: Server) -> None:
    gatherer = Gatherer(server.call)
    server.open.clear()
    first, gone, last = [*await asked(gatherer, 1), *await asked(gatherer, 2), *await asked(gatherer, 3)]
    gone.cancel()
    await asyncio.wait({gone})
    server.open.set()
    assert (await first, await last) == (2, 6)
    assert server.calls == [[1], [3]]


async def test_who_gave_up_during_the_call_disturbs_nobody(server: Server) -> None:
    gatherer = Gatherer(server.call)
    server.open.clear()
    gone, stays = await asked(gatherer, 1, 2)
    gone.cancel()
    await asyncio.wait({gone})
    server.open.set()
    assert await stays == 4
    assert await gatherer.ask(5) == 10


async def test_nobody_waits_longer_than_the_bound(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "CALL_TIMEOUT_S", 0.05)  # 1.8 s, shortened
    gatherer = Gatherer(server.call)
    server.open.clear()
    async with asyncio.timeout(1):
        results = await asyncio.gather(*await asked(gatherer, 1), *await asked(gatherer, 2), return_exceptions=True)
    assert [type(result) for result in results] == [QueueUnavailable, QueueUnavailable]
    server.open.set()
    await asyncio.sleep(0.01)
    assert await gatherer.ask(3) == 6
    assert server.calls == [[1], [3]], "what nobody waits for is not asked for"


class Body:
    """Of a request: large."""


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("refused", [False, True])
async def test_nothing_is_kept_of_what_was_asked_in_vain(
    server: Server, monkeypatch: pytest.MonkeyPatch, together: bool, refused: bool
) -> None:
    monkeypatch.setattr(gather, "CALL_TIMEOUT_S", 0.02)
    gatherer, kept = Gatherer(server.call), list[weakref.ref[Body]]()
    if refused:
        server.bad = set(range(20))
    else:
        server.open.clear()

    async def ask(item: int) -> None:
        body = Body()
        kept.append(weakref.ref(body))
        if together:
            await gatherer.ask_all([item, item])
        else:
            with contextlib.suppress(QueueUnavailable, QueueRefused):
                await gatherer.ask(item)
        del body

    gc.disable()  # what only the garbage collector finds is kept for long
    try:
        await asyncio.gather(*(ask(item) for item in range(20)))
        assert [one for one in kept if one() is not None] == []
    finally:
        gc.enable()
