"""What is accepted is recorded and queued in one step, once, and arq can read it."""

import asyncio
import time
from dataclasses import replace

import pytest
from arq.connections import ArqRedis

from mailer import queue
from mailer.addresses import Address
from mailer.errors import QueueUnavailable
from mailer.jobs import Event, NewJob, Payload, Recipient, Status, Stream
from mailer.server import parse_queue_url
from mailer.settings import Durability, MailerSettings
from mailer.store import keys, records
from mailer.store.connection import RedisClient, connect
from mailer.store.jobs import EnqueueRequest, Idempotency, JobStore, Verdict

RECIPIENTS = (Recipient(Address("ada@example.com", "Ada")),)


def new_job(job_id: str = "a" * 32, **more: object) -> NewJob:
    return NewJob(id=job_id, payload=Payload(subject="Hello", text="Hi"), recipients=RECIPIENTS, **more)  # type: ignore[arg-type]  # **more is a test's


def keyed(fingerprint: str = "f1", job_id: str = "a" * 32, answer: bytes = b'{"n":1}') -> EnqueueRequest:
    return EnqueueRequest((new_job(job_id),), Idempotency("ada", "key", fingerprint, answer))


async def test_a_job_is_record_payload_blob_and_queue_entry(store: JobStore, redis: RedisClient) -> None:
    event = Event(name="user.signed_up", id="e1", source="/app")
    job = new_job(stream=Stream.CRITICAL, template="welcome", template_version="v1", event=event, expires_in_ms=5000)
    result = await store.enqueue(EnqueueRequest((job,)))
    assert result.verdict is Verdict.ACCEPTED
    stored = await redis.get(keys.payload(job.id))
    assert stored is not None
    assert records.decode_payload(stored) == job.payload
    view = await store.view(job.id)
    assert view is not None
    record = view.job
    assert (record.status, record.stream, record.template, record.event) == (
        Status.PENDING,
        Stream.CRITICAL,
        "welcome",
        event,
    )
    assert record.recipients == RECIPIENTS
    assert record.created_at == record.due_at <= time.time() * 1000
    assert record.expires_at == record.due_at + 5000
    assert await redis.zscore("arq:queue:critical", job.id) == record.due_at


async def test_stock_arq_reads_our_blobs(store: JobStore, redis: RedisClient) -> None:
    await store.enqueue(EnqueueRequest((new_job(),)))
    arq = ArqRedis(redis.connection_pool, job_deserializer=queue.deserialize)
    (job,) = await arq.queued_jobs()
    assert (job.function, list(job.args), job.kwargs, job.job_id) == ("deliver", ["a" * 32], {}, "a" * 32)


async def test_nothing_of_an_unfinished_job_expires(store: JobStore, redis: RedisClient) -> None:
    await store.enqueue(EnqueueRequest((new_job(),)))
    index_of_ada = keys.recipient("ada@example.com").encode()
    left = {key: await redis.ttl(key) for key in await redis.keys("*")}
    assert left.pop(index_of_ada) == MailerSettings().retention.recipient_ms / 1000
    assert set(left.values()) == {-1}


async def test_an_event_with_two_templates_is_two_jobs_or_none(store: JobStore, redis: RedisClient) -> None:
    await redis.set(keys.job("b" * 32), "not a hash")
    with pytest.raises(QueueUnavailable, match="is a string"):
        await store.enqueue(EnqueueRequest((new_job(), new_job("b" * 32))))
    assert await redis.keys("*") == [keys.job("b" * 32).encode()]


async def test_a_call_whose_reply_was_lost_can_be_repeated(store: JobStore, redis: RedisClient) -> None:
    request = EnqueueRequest((new_job(),))
    await store.enqueue(request)
    before = await redis.hgetall(keys.job("a" * 32))
    again = await store.enqueue(request)
    assert again.verdict is Verdict.ACCEPTED
    assert await redis.hgetall(keys.job("a" * 32)) == before
    assert await redis.zcard("arq:queue") == 1


async def test_requests_that_go_together_get_verdicts_of_their_own(store: JobStore, redis: RedisClient) -> None:
    await store.enqueue(keyed())
    requests = (keyed(job_id="b" * 32, answer=b"other"), keyed("f2", "c" * 32), EnqueueRequest((new_job("d" * 32),)))
    verdicts = await asyncio.gather(*map(store.enqueue, requests))
    assert [(item.verdict, item.answer) for item in verdicts] == [
        (Verdict.REPLAYED, b'{"n":1}'),
        (Verdict.REUSED, None),
        (Verdict.ACCEPTED, None),
    ]
    assert sorted(await redis.zrange("arq:queue", 0, -1)) == [b"a" * 32, b"d" * 32]


async def test_a_request_that_cannot_be_written_is_no_trouble_of_its_neighbours(
    store: JobStore, redis: RedisClient
) -> None:
    await redis.set(keys.job("b" * 32), "not a hash")
    jobs = [new_job(letter * 32) for letter in "abc"]
    results = await asyncio.gather(*(store.enqueue(EnqueueRequest((job,))) for job in jobs), return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["EnqueueResult", "QueueRefused", "EnqueueResult"]
    assert sorted(await redis.zrange("arq:queue", 0, -1)) == [b"a" * 32, b"c" * 32]


@pytest.mark.parametrize("stream", Stream)
async def test_each_stream_has_a_queue_of_its_own(store: JobStore, redis: RedisClient, stream: Stream) -> None:
    await store.enqueue(EnqueueRequest((new_job(stream=stream),)))
    assert sorted(await redis.keys("arq:queue*")) == [queue.QUEUES[stream].encode()]


async def test_a_server_that_was_restarted_knows_no_scripts_and_accepts(store: JobStore, redis: RedisClient) -> None:
    await redis.script_flush()
    result = await store.enqueue(EnqueueRequest((new_job(),)))
    assert result.verdict is Verdict.ACCEPTED


async def test_with_fsync_many_requests_are_accepted_at_once(redis: RedisClient, fsync: Durability) -> None:
    store = JobStore(redis, fsync, MailerSettings().retention)
    jobs = [new_job(f"{number:032x}") for number in range(300)]
    results = await asyncio.gather(*(store.enqueue(EnqueueRequest((job,))) for job in jobs))
    assert {result.verdict for result in results} == {Verdict.ACCEPTED}
    assert await redis.zcard("arq:queue") == 300


async def test_with_fsync_a_replica_that_is_missing_is_said_in_time(redis: RedisClient, fsync: Durability) -> None:
    store = JobStore(redis, replace(fsync, replicas=1), MailerSettings().retention)
    with pytest.raises(QueueUnavailable, match="on replicas 0 of 1"):
        async with asyncio.timeout(2):
            await store.enqueue(EnqueueRequest((new_job(),)))


async def test_an_idempotency_key_is_kept_a_day(store: JobStore, redis: RedisClient) -> None:
    await store.enqueue(keyed())
    assert 86_000 < await redis.ttl(keys.idempotency("ada", "key")) <= 86_400


async def test_twenty_at_once_with_one_key_are_one_job(store: JobStore, redis: RedisClient) -> None:
    calls = (store.enqueue(keyed(job_id=f"{number:032x}")) for number in range(20))
    verdicts = [result.verdict for result in await asyncio.gather(*calls)]
    assert verdicts.count(Verdict.ACCEPTED) == 1
    assert verdicts.count(Verdict.REPLAYED) == 19
    assert await redis.zcard("arq:queue") == 1


async def test_whoever_listens_is_woken(store: JobStore, redis: RedisClient) -> None:
    async with redis.pubsub() as listener:
        await listener.subscribe(keys.WAKE)
        await listener.get_message(timeout=5)
        await store.enqueue(EnqueueRequest((new_job(),)))
        message = await listener.get_message(ignore_subscribe_messages=True, timeout=5)
    assert message is not None
    assert message["channel"] == keys.WAKE.encode()


async def test_a_delayed_job_is_due_later_by_the_servers_clock(store: JobStore, redis: RedisClient) -> None:
    await store.enqueue(EnqueueRequest((new_job(delay_ms=60_000),)))
    view = await store.view("a" * 32)
    assert view is not None
    assert view.status == "scheduled"
    assert view.job.due_at == view.job.created_at + 60_000
    assert await redis.zscore("arq:queue", "a" * 32) == view.job.due_at


async def test_a_job_with_a_time_of_its_own_is_due_then_whatever_its_template_would_have(
    store: JobStore, redis: RedisClient
) -> None:
    seconds, _ = await redis.time()
    at = (seconds + 3600) * 1000
    await store.enqueue(EnqueueRequest((new_job(delay_ms=60_000, send_at=at, expires_in_ms=5000),)))
    view = await store.view("a" * 32)
    assert view is not None
    assert (view.status, view.job.due_at, view.job.expires_at) == ("scheduled", at, at + 5000)
    assert await redis.zscore("arq:queue", "a" * 32) == at


async def test_a_time_that_has_just_passed_is_now(store: JobStore) -> None:
    await store.enqueue(EnqueueRequest((new_job(send_at=1000, expires_at=9_999_999_999_999),)))
    view = await store.view("a" * 32)
    assert view is not None
    assert (view.status, view.job.due_at) == ("queued", view.job.created_at)
    assert view.job.expires_at == 9_999_999_999_999


async def test_a_server_without_memory_accepts_nothing_of_a_job(store: JobStore, redis: RedisClient) -> None:
    await redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(QueueUnavailable, match=r"maxmemory|OOM"):
            await store.enqueue(EnqueueRequest((new_job(),)))
    finally:
        await redis.config_set("maxmemory", 0)
    assert await redis.keys("*") == []


async def test_a_server_that_is_not_there_is_said_within_two_seconds() -> None:
    async with connect(parse_queue_url("redis://127.0.0.1:1/0")) as client:
        store = JobStore(client, Durability(), MailerSettings().retention)
        with pytest.raises(QueueUnavailable):
            async with asyncio.timeout(2):
                await store.enqueue(EnqueueRequest((new_job(),)))
