"""A job that is unfinished but stands in no queue is put back; one that rests, or waits elsewhere, is left alone."""

import pytest

from mailer import queue
from mailer.errors import QueueRefused
from mailer.jobs import FINAL, Status, Stream
from mailer.store import keys, reconciling
from mailer.store.connection import RedisClient
from mailer.store.reconciling import Reconciler
from tests.support.workers import Workers, ids


@pytest.fixture
def reconciler(redis: RedisClient) -> Reconciler:
    return Reconciler(redis)


async def lose(workers: Workers, job_id: str) -> None:
    """Its places in the queue, and its blob, are gone."""
    for name in await workers.places(job_id):
        await workers.redis.zrem(name, job_id)
    await workers.redis.delete(keys.arq_job(job_id), keys.arq_in_progress(job_id))


async def test_a_job_in_no_queue_is_put_back_with_a_new_blob(workers: Workers, reconciler: Reconciler) -> None:
    await workers.accept("a", "b")
    await lose(workers, "a")
    assert await reconciler.step("anna") == ("a",)
    assert await reconciler.step("anna") == ()
    claim = await workers.claim("anna")
    assert ids(claim) == ["a", "b"]
    blobs = [claimed.blob and queue.read_blob(claimed.blob) for claimed in claim.jobs]
    assert blobs == [queue.Call("deliver", (job_id,), {}) for job_id in "ab"]


async def test_it_is_put_back_at_its_time(workers: Workers, reconciler: Reconciler) -> None:
    await workers.accept("new", delay_ms=60_000, stream=Stream.BULK)
    await workers.accept("tried")
    await workers.finish(await workers.hold("anna", "tried"), Status.DEFERRED, next_attempt_at=2**42)
    for job_id in ("new", "tried"):
        await lose(workers, job_id)
    assert sorted(await reconciler.step("anna")) == ["new", "tried"]
    assert 50_000 < await workers.due_in_ms("new") <= 60_000
    assert await workers.places("new") == [queue.QUEUES[Stream.BULK]]
    assert await workers.redis.zscore(queue.QUEUE, "tried") == 2**42


async def test_a_worker_that_is_idle_is_woken(workers: Workers, reconciler: Reconciler, redis: RedisClient) -> None:
    await workers.accept("a")
    await lose(workers, "a")
    async with redis.pubsub() as listener:
        await listener.subscribe(keys.WAKE)
        await listener.get_message(timeout=5)
        await reconciler.step("anna")
        assert await listener.get_message(ignore_subscribe_messages=True, timeout=5) is not None


@pytest.mark.parametrize("status", sorted({*FINAL, Status.UNKNOWN} - {Status.CANCELLED}))
async def test_what_rests_is_left_alone(workers: Workers, reconciler: Reconciler, status: Status) -> None:
    await workers.accept("a")
    await workers.finish(await workers.hold("anna", "a"), status)
    assert await reconciler.step("anna") == ()
    assert await workers.places("a") == []
    assert not await workers.redis.exists(keys.arq_job("a"))


async def test_what_runs_or_waits_or_was_put_aside_is_left_alone(workers: Workers, reconciler: Reconciler) -> None:
    await workers.accept("runs")
    await workers.hold("anna", "runs")
    await workers.accept("waits", delay_ms=60_000)
    await workers.redis.zadd(queue.QUARANTINE, {"bad": 0})
    await workers.accept("bad")
    await workers.redis.zrem(queue.QUEUE, "bad")
    assert await reconciler.step("anna") == ()
    assert await workers.places("bad") == [queue.QUARANTINE]


async def test_a_blob_that_is_still_there_is_kept(workers: Workers, reconciler: Reconciler) -> None:
    await workers.accept("a")
    await workers.redis.set(keys.arq_job("a"), "as it was")
    await workers.redis.zrem(queue.QUEUE, "a")
    assert await reconciler.step("anna") == ("a",)
    assert await workers.redis.get(keys.arq_job("a")) == b"as it was"


async def test_one_worker_at_a_time_has_the_turn(workers: Workers, reconciler: Reconciler, redis: RedisClient) -> None:
    assert await reconciler.step("anna") == ()
    await workers.accept("a")
    await lose(workers, "a")
    assert await reconciler.step("bert") == ()
    assert 0 < await redis.pttl(keys.RECONCILER) <= reconciling.TURN_MS
    await redis.delete(keys.RECONCILER)  # what its TTL does when the other is dead
    assert await reconciler.step("bert") == ("a",)


async def test_step_by_step_every_record_is_looked_at(
    workers: Workers, reconciler: Reconciler, redis: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "LOOKED_AT", 10)
    names = [f"{number:03}" for number in range(150)]
    await workers.accept(*names)
    for job_id in names:
        await lose(workers, job_id)
    put_back: list[str] = []
    steps = 0
    while steps == 0 or int(await redis.get(keys.RECONCILER_CURSOR)):
        put_back += await reconciler.step("anna")
        steps += 1
        assert steps < 500
    assert sorted(put_back) == names
    assert steps > 3
    assert await redis.ttl(keys.RECONCILER_CURSOR) > 0


async def test_what_is_no_record_is_passed_over_and_the_walk_goes_on(
    workers: Workers, reconciler: Reconciler, redis: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "LOOKED_AT", 10)
    names = [f"{number:03}" for number in range(60)]
    await workers.accept(*names)
    for job_id in names:
        await lose(workers, job_id)
    for number in range(20):
        await redis.set(keys.job(f"odd {number}"), "no record")
    put_back: list[str] = []
    for _ in range(500):
        put_back += await reconciler.step("anna")
        if not int(await redis.get(keys.RECONCILER_CURSOR)):
            break
    assert sorted(put_back) == names
    assert await redis.get(keys.job("odd 0")) == b"no record"


async def test_a_step_that_goes_wrong_is_not_taken_again_and_again(
    workers: Workers, reconciler: Reconciler, redis: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the trouble is: the others are looked at, and this place again in the next round."""
    monkeypatch.setattr(reconciling, "LOOKED_AT", 10)
    names = [f"{number:03}" for number in range(60)]
    await workers.accept(*names)
    for job_id in names:
        await lose(workers, job_id)
    await redis.set(queue.QUEUES[Stream.BULK], "no queue")
    refused = 0
    for _ in range(500):
        try:
            await reconciler.step("anna")
        except QueueRefused:
            refused += 1
        if not int(await redis.get(keys.RECONCILER_CURSOR)):
            break
    else:
        pytest.fail("the walk came to no end")
    assert refused > 1
