"""Two relays, the first of which refuses, dies and returns: each mail is sent once, and none waits for its return."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailer import queue
from mailer.store.connection import RedisClient
from mailer.store.relays import RelayStore
from tests.faults.conftest import faulty
from tests.support.jobs import come_due, copies, job, post, reached
from tests.support.processes import api_process, free_port, said, workers_at_work
from tests.support.smtp import ScriptedRelay, scripted_relay
from tests.support.waiting import until

THRESHOLD = 3
"""Connections that fail before a breaker opens, where a relay has so few."""
LONG_S = 10
"""Longer than any lease here."""
LARGE = "Строка отчёта, который кто-то выгрузил текстом.\n" * 40_000
"""Several MB in a mail: more than the buffers between worker and relay hold, so that it is cut before its final dot."""
WORKERS = 2

RELAYS = """
[[relays]]
name = "first"
url = "smtp://127.0.0.1:{first}?tls=none"
connections = 4

[[relays]]
name = "second"
url = "smtp://127.0.0.1:{second}?tls=none"
connections = 4
"""


@dataclass(frozen=True, slots=True)
class Ports:
    first: int
    second: int


@pytest.fixture
def ports() -> Ports:
    return Ports(free_port(), free_port())


@pytest.fixture
def env(redis: RedisClient, queue_url: str, relay: ScriptedRelay, ports: Ports, tmp_path: Path) -> dict[str, str]:
    config = tmp_path / "postroom.toml"
    config.write_text(RELAYS.format(first=ports.first, second=ports.second))
    env = faulty(queue_url, relay, config=str(config), log_format="json")
    return {name: value for name, value in env.items() if name != "POSTROOM_SMTP_URL"}


async def breakers(api: httpx.AsyncClient) -> list[str]:
    return [relay["breaker"]["state"] for relay in (await api.get("/relays")).json()["data"]]


async def come_to(api: httpx.AsyncClient, *states: str) -> None:
    async def look() -> bool:
        return await breakers(api) == list(states)

    await until(look, what=f"breakers that are {states}")


async def its_time_is_over(redis: RedisClient, name: str) -> None:
    """As if the breaker had been open for so long."""
    await RelayStore(redis).change(name, lambda state, now: replace(state, open_until=now - 1))


async def sent(api: httpx.AsyncClient, **fields: Any) -> list[tuple[str, str, str]]:
    """A mail from its POST to its end: which relays were asked, where that ended, and how."""
    found = await reached(api, await post(api, **fields), "sent")
    assert found["attempt_count"] == 1
    return [(attempt["relay"], attempt["phase"], attempt["outcome"]) for attempt in found["attempts"]]


AT_FIRST, AT_SECOND = ("first", "dot", "sent"), ("second", "dot", "sent")
REFUSED, DIED = ("first", "connect", "failed_over"), ("first", "data", "failed_over")


async def die() -> None:
    raise ConnectionAbortedError


async def sent_by_first(api: httpx.AsyncClient) -> int:
    """Mails until one is given to the first relay again: a worker looks each second at how relays stand."""
    mails = 0

    async def look() -> bool:
        nonlocal mails
        mails += 1
        return (await sent(api))[0][0] == "first"

    await until(look, what="a mail by the first relay")
    return mails


async def refused_until_open(api: httpx.AsyncClient) -> int:
    """Mails that the first relay does not get. What went well before may be told by a worker a second later, and begins
    the count anew."""
    mails = 0
    while (await breakers(api))[0] == "closed":
        assert await sent(api) == [REFUSED, AT_SECOND]
        mails += 1
    return mails


async def test_a_relay_that_refuses_and_dies_and_recovers_costs_no_mail_and_makes_none_twice(
    env: dict[str, str], redis: RedisClient, ports: Ports, log: Path
) -> None:
    first, mails = ScriptedRelay(), 0
    async with (
        scripted_relay(port=ports.second) as second,
        api_process(env, log) as api,
        workers_at_work(WORKERS, env, log),
    ):
        await come_to(api, "closed", "closed")
        mails += await refused_until_open(api)
        assert mails == THRESHOLD
        await said(log, "relay.opened", WORKERS)

        async with scripted_relay(first, ports.first):
            for _ in range(THRESHOLD):
                assert await sent(api) == [AT_SECOND], "while it is open it is not asked"
            mails += THRESHOLD
            assert first.connections == 0
            first.in_body = die
            await its_time_is_over(redis, "first")
            assert await breakers(api) == ["half_open", "closed"]
            await said(log, "relay.closed", 0)
            mails += await sent_by_first(api)
            await come_to(api, "closed", "closed")
            await said(log, "relay.closed", WORKERS)
            assert await sent(api, text=LARGE) == [DIED, AT_SECOND]
            mails += 1

        mails += await refused_until_open(api)
        await said(log, "relay.opened", 2 * WORKERS)
        first.in_body = None

        async with scripted_relay(first, ports.first):
            await its_time_is_over(redis, "first")
            mails += await sent_by_first(api)
            await come_to(api, "closed", "closed")
            await said(log, "relay.closed", 2 * WORKERS)
            assert await sent(api, text=LARGE) == [AT_FIRST]
            mails += 1
    both = copies(first) + copies(second)
    assert (len(both), set(both.values())) == (mails, {1})


async def are_over(redis: RedisClient) -> bool:
    """What waits for long is made due: a worker that has not yet looked at the relays puts it back once more."""
    seconds, _ = await redis.time()
    for job_id in await redis.zrangebyscore(queue.QUEUE, (seconds + LONG_S) * 1000, "+inf"):
        await come_due(redis, job_id.decode())
    return await redis.zcard(queue.QUEUE) == 0


async def test_while_every_breaker_is_open_mails_wait_and_no_attempt_is_counted(
    env: dict[str, str], redis: RedisClient, ports: Ports, log: Path
) -> None:
    async with api_process(env, log) as api, workers_at_work(WORKERS, env, log):
        tried = [await post(api) for _ in range(THRESHOLD)]
        await said(log, "relay.opened", 2 * WORKERS)
        for job_id in tried:
            await reached(api, job_id, "deferred")
        untried = [await post(api) for _ in range(THRESHOLD)]
        for job_id in tried:
            await come_due(redis, job_id)

        async def all_wait() -> bool:
            found = [await job(api, job_id) for job_id in (*tried, *untried)]
            return {each["detail"] for each in found} == {"first: open (connection); second: open (connection)"}

        await until(all_wait, what="jobs that wait for a relay")
        assert [(await job(api, job_id))["attempt_count"] for job_id in (*tried, *untried)] == [1, 1, 1, 0, 0, 0]
        async with scripted_relay(port=ports.first) as first, scripted_relay(port=ports.second) as second:
            for name in ("first", "second"):
                await its_time_is_over(redis, name)
            await come_to(api, "half_open", "half_open")

            await until(lambda: are_over(redis), what="the mails")
            assert [(await job(api, job_id))["attempt_count"] for job_id in (*tried, *untried)] == [2, 2, 2, 1, 1, 1]
    both = copies(first) + copies(second)
    assert (len(both), set(both.values())) == (2 * THRESHOLD, {1})
