"""An idle worker is woken when something becomes due, also after its line to the queue server went dead."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, Self

import pytest

from mailer.server import parse_queue_url
from mailer.store import keys, listening, wake
from mailer.store.connection import RedisClient, connect
from tests.support.proxy import Wire, wire_to
from tests.support.waiting import until


class Sleeper:
    """Counts how often it was woken."""

    times = 0

    def wake(self) -> None:
        self.times += 1

    async def more_than(self, times: int, what: str) -> None:
        async def look() -> bool:
            return self.times > times

        await until(look, what=what)


@pytest.fixture
async def wire(queue_url: str) -> AsyncIterator[Wire]:
    async with wire_to(queue_url) as wire:
        yield wire


@pytest.fixture
async def sleeper(wire: Wire) -> AsyncIterator[Sleeper]:
    """Listens over the wire."""
    sleeper = Sleeper()
    async with connect(parse_queue_url(wire.url)) as client:
        listening = asyncio.create_task(wake.listen_for_work(client, sleeper.wake))
        await sleeper.more_than(0, "the beginning")
        yield sleeper
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


async def test_a_word_on_the_channel_wakes(redis: RedisClient, sleeper: Sleeper) -> None:
    before = sleeper.times
    await redis.publish(keys.WAKE, "1")
    await sleeper.more_than(before, "a wake")


async def test_a_line_that_went_dead_without_a_word_is_replaced(
    redis: RedisClient, sleeper: Sleeper, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall that forgot the connection says nothing to either side."""
    monkeypatch.setattr(listening, "LISTEN_S", 0.05)  # 5 s and 2 s, shortened
    monkeypatch.setattr(listening, "PONG_S", 0.1)
    await redis.publish(keys.WAKE, "1")  # what is under way still has its 5 s
    before, line = sleeper.times, await newest_listener(redis)
    wire.swallow()

    async def is_replaced() -> bool:
        return await newest_listener(redis) != line

    await until(is_replaced, what="a new line")
    await sleeper.more_than(before, "a look at what the dead one has missed")
    monkeypatch.setattr(listening, "LISTEN_S", 60.0)
    for _ in range(3):  # one sign of life may still be under way
        before = sleeper.times
        await redis.publish(keys.WAKE, "1")
        await sleeper.more_than(before, "a wake over the new line")


async def test_a_line_that_is_only_silent_is_kept(
    redis: RedisClient, sleeper: Sleeper, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "LISTEN_S", 0.02)
    monkeypatch.setattr(listening, "PONG_S", 10.0)
    await redis.publish(keys.WAKE, "1")
    line = await newest_listener(redis)
    await sleeper.more_than(sleeper.times + 3, "signs of life")
    assert await newest_listener(redis) == line


class Swallowing:
    """A channel on which a cancellation comes at the very moment of a word, and is lost."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def subscribe(self, name: str) -> None:
        pass

    async def get_message(self, timeout: float) -> dict[str, object]:  # noqa: ASYNC109 - as redis-py has it
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(timeout)
        return {"type": "pong", "data": b""}


async def test_who_listens_leaves_though_a_word_came_when_it_was_told_to() -> None:
    """Python 3.11 and redis-py together lose that now and then; a process would never have ended."""
    client: Any = SimpleNamespace(pubsub=Swallowing)
    listening = asyncio.create_task(wake.listen_for_work(client, lambda: None))
    await asyncio.sleep(0)
    listening.cancel()
    await asyncio.wait({listening}, timeout=10)
    assert listening.cancelled()


async def newest_listener(redis: RedisClient) -> int:
    return max(int(item["id"]) for item in await redis.client_list(_type="pubsub"))
