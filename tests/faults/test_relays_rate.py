"""A relay's rate holds for all workers together, and a relay that is paused is waited for: real processes."""

import asyncio
import signal
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from mailer.addresses import Address
from mailer.jobs import NewJob, Payload, Recipient
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.jobs import EnqueueRequest, JobStore
from tests.faults.conftest import faulty
from tests.support.jobs import all_sent, come_due, each_once, job, post
from tests.support.processes import api_process, said, workers_at_work
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until

RATE = 20
WINDOW_S = 2.0
FROZEN_S = 1.2
"""Shorter than a lease, so that its watchdog lets it go on."""


@pytest.fixture
def env(redis: RedisClient, queue_url: str, relay: ScriptedRelay) -> dict[str, str]:
    limited = {"POSTROOM_SMTP_URL": f"{relay.url}&name=acme&rate={RATE}/s"}
    return faulty(queue_url, relay, log_format="json") | limited


@dataclass
class Heard:
    """When the relay was told of each mail, by its own clock."""

    at: list[float] = field(default_factory=list)

    async def before_reply(self, moment: str) -> None:
        if moment == "MAIL":
            self.at.append(time.monotonic())

    def most_within(self, window_s: float) -> int:
        return max(sum(start <= moment < start + window_s for moment in self.at) for start in self.at)


async def enqueue(store: JobStore, mails: int) -> None:
    to = (Recipient(Address("ada@example.com", None)),)
    for _ in range(mails):
        new = NewJob(id=uuid.uuid4().hex, payload=Payload(subject="Hello", text="Hi"), recipients=to)
        await store.enqueue(EnqueueRequest((new,)))


async def test_four_workers_together_keep_to_a_relays_rate(
    env: dict[str, str], store: JobStore, relay: ScriptedRelay, log: Path
) -> None:
    """Also where one of them stood still: it does not make up for what it missed."""
    heard, mails = Heard(), 150
    relay.before_reply = heard.before_reply

    async def have_arrived(number: int) -> bool:
        return len(relay.received) >= number

    async with workers_at_work(4, env, log) as workers:
        await enqueue(store, mails)
        await until(lambda: have_arrived(mails // 3), what="a third of the mails")
        workers[0].send_signal(signal.SIGSTOP)
        await asyncio.sleep(FROZEN_S)
        workers[0].send_signal(signal.SIGCONT)
        await until(lambda: have_arrived(mails), within_s=30, what="all mails")
        assert workers[0].returncode is None
    assert each_once(relay, mails)
    assert heard.most_within(WINDOW_S) <= RATE * WINDOW_S


async def test_a_queue_server_that_forgot_the_slots_lets_nothing_go_faster(
    env: dict[str, str], redis: RedisClient, store: JobStore, relay: ScriptedRelay, log: Path
) -> None:
    """As one that came back with older data: workers hold slots that it knows nothing of."""
    heard, mails = Heard(), 150
    relay.before_reply = heard.before_reply

    async def have_arrived(number: int) -> bool:
        return len(relay.received) >= number

    async with workers_at_work(4, env, log):
        await enqueue(store, mails)
        await until(lambda: have_arrived(mails // 5), what="a fifth of the mails")
        assert await redis.delete(keys.slot("acme")) == 1
        await until(lambda: have_arrived(mails), within_s=30, what="all mails")
    assert each_once(relay, mails)
    assert heard.most_within(WINDOW_S) <= RATE * WINDOW_S


async def wait_for(api: httpx.AsyncClient, job_ids: list[str], what: str) -> None:
    async def all_say_so() -> bool:
        return {(await job(api, job_id))["detail"] for job_id in job_ids} == {what}

    await until(all_say_so, what=f"the detail {what!r}")


async def test_a_paused_relay_is_waited_for_without_an_attempt(
    env: dict[str, str], redis: RedisClient, relay: ScriptedRelay, log: Path
) -> None:
    async with api_process(env, log) as api:
        async with workers_at_work(2, env, log) as (first, _):
            await until(lambda: is_known(api), what="the relay")
            assert (await api.post("/relays/acme/pause")).json()["paused_at"]
            await said(log, "relay.paused", 2)
            job_ids = [await post(api) for _ in range(12)]
            await wait_for(api, job_ids, "acme: paused")
            first.kill()
        async with workers_at_work(2, env, log):
            for job_id in job_ids[:6]:
                await come_due(redis, job_id)
            later = await post(api)
            await wait_for(api, [later], "acme: paused")
            jobs = [await job(api, job_id) for job_id in (*job_ids, later)]
            assert {(found["status"], found["attempt_count"]) for found in jobs} == {("queued", 0)}
            assert (relay.connections, relay.received) == (0, [])
            assert (await api.post("/relays/acme/resume")).json()["paused_at"] is None
            for job_id in (*job_ids, later):
                await come_due(redis, job_id)
            await all_sent(api, [*job_ids, later])
            jobs = [await job(api, job_id) for job_id in (*job_ids, later)]
    assert {(found["attempt_count"], found["detail"]) for found in jobs} == {(1, None)}
    assert each_once(relay, len(jobs))


async def is_known(api: httpx.AsyncClient) -> bool:
    return [relay["name"] for relay in (await api.get("/relays")).json()["data"]] == ["acme"]
