"""With POSTROOM_DURABILITY=fsync nothing is confirmed that is not on disk, be it that another asks for it again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from mailer.errors import QueueRefused, QueueUnavailable
from mailer.jobs import NewJob, Payload, Status
from mailer.server import parse_queue_url
from mailer.settings import Durability, MailerSettings
from mailer.store.connection import RedisClient, connect
from mailer.store.jobs import EnqueueRequest, Idempotency, JobStore, Verdict
from mailer.store.leases import LeaseStore
from mailer.store.runs import FinishVerdict, JournalVerdict
from tests.support.workers import RECIPIENTS, Workers, held

Client = Callable[[], Awaitable[Workers]]


@pytest.fixture
async def client(queue_url: str, mailer_settings: MailerSettings, fsync: Durability) -> AsyncIterator[Client]:
    """Another process of Postroom, with connections of its own."""
    async with AsyncExitStack() as stack:

        async def make() -> Workers:
            redis = await stack.enter_async_context(connect(parse_queue_url(queue_url)))
            leases = LeaseStore(redis, mailer_settings.retention, fsync, lease_ms=60_000)
            return Workers(JobStore(redis, fsync, MailerSettings().retention), leases, redis)

        yield make


def request(job_id: str) -> EnqueueRequest:
    job = NewJob(id=job_id, payload=Payload(subject="s", text="t"), recipients=RECIPIENTS)
    return EnqueueRequest((job,), Idempotency("ada", job_id, "f", b"{}"))


async def is_not_confirmed(call: Awaitable[object]) -> None:
    with pytest.raises(QueueUnavailable) as caught:
        await call
    assert not isinstance(caught.value, QueueRefused), "it was done, but nobody may rely on it yet"


async def test_what_was_not_synced_is_not_taken_for_synced_when_another_asks_again(
    redis: RedisClient, workers: Workers, client: Client
) -> None:
    await workers.accept("journaled", "finished")
    runs = {claimed.job_id: held(claimed) for claimed in (await workers.claim("anna")).jobs}
    calls: dict[object, Callable[[Workers], Awaitable[object]]] = {
        Verdict.REPLAYED: lambda asked: asked.store.enqueue(request("accepted")),
        b"{}": lambda asked: asked.store.earlier_answer("ada", "answered", "f"),
        JournalVerdict.GO: lambda asked: asked.journal(runs["journaled"]),
        FinishVerdict.FINISHED: lambda asked: asked.finish(runs["finished"], Status.SENT),
    }

    async def twice(call: Callable[[Workers], Awaitable[object]]) -> None:
        await is_not_confirmed(call(await client()))
        await is_not_confirmed(call(await client()))

    async def answer() -> None:
        await is_not_confirmed((await client()).store.enqueue(request("answered")))
        await is_not_confirmed(calls[b"{}"](await client()))

    others = [call for word, call in calls.items() if word != b"{}"]
    setting = (await redis.config_get("appendfsync"))["appendfsync"]
    await redis.config_set("appendfsync", "no")
    try:
        await asyncio.gather(answer(), *(twice(call) for call in others))
    finally:
        await redis.config_set("appendfsync", setting)
    for word, call in calls.items():
        confirmed = await call(await client())
        assert getattr(confirmed, "verdict", confirmed) == word
