"""A status moves only as the table of moves allows, once for each run, and retention begins where the job rests."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailer import queue
from mailer.jobs import ATTEMPTS_KEPT, FINAL, MOVES, OPEN, Status, Stream
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobStore
from mailer.store.leases import LeaseStore
from mailer.store.runs import Ending, FinishVerdict, Held
from tests.support.workers import Workers, attempt, held

DAY_S = 86_400
FINISHED, STALE, GONE = FinishVerdict.FINISHED, FinishVerdict.STALE, FinishVerdict.GONE
REST = sorted({*FINAL, Status.UNKNOWN} - {Status.CANCELLED})
"""Where a run leaves a job. Only a person cancels one: test_controls.py."""
A = keys.job("a")


@pytest.fixture
async def run(workers: Workers) -> Held:
    await workers.accept("a")
    return await workers.hold("anna", "a")


async def status_of(workers: Workers, job_id: str = "a") -> Status:
    job = await workers.job(job_id)
    assert job is not None
    return job.status


@given(path=st.lists(st.sampled_from(list(Status)), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_only_the_moves_of_the_table_happen(workers: Workers, redis: RedisClient, path: list[Status]) -> None:
    await redis.flushall()
    await workers.accept("a")
    for step, wanted in enumerate(path):
        await redis.hset(A, "run", f"anna/{step}")  # whoever has the job by now
        before = await workers.job("a")
        assert before is not None
        verdict = await workers.finish(Held("a", queue.QUEUE, f"anna/{step}"), wanted, number=before.attempts + 1)
        after = await workers.job("a")
        assert after is not None
        moved = wanted in MOVES[before.status]
        assert verdict is (FINISHED if moved else STALE)
        assert after.status is (wanted if moved else before.status)
        assert after.attempts == before.attempts + moved
        assert (await workers.places("a") == []) == (after.status not in OPEN)


async def test_a_finish_whose_reply_was_lost_is_repeated_and_counts_once(
    workers: Workers, store: JobStore, run: Held
) -> None:
    for _ in range(3):
        assert await workers.finish(run, Status.DEFERRED) is FINISHED
    view = await store.view("a")
    assert view is not None
    assert (len(view.attempts), view.job.attempts) == (1, 1)


async def test_a_repetition_that_comes_after_the_next_run_has_begun_changes_nothing(
    workers: Workers, run: Held
) -> None:
    await workers.finish(run, Status.DEFERRED)
    await workers.lapse("a")
    bert = await workers.hold("bert", "a")
    assert await workers.finish(run, Status.DEFERRED, next_attempt_at=77) is FINISHED
    assert (await workers.job("a")).next_attempt_at == 9  # type: ignore[union-attr]  # it was just claimed
    assert await workers.finish(bert, Status.SENT, number=2) is FINISHED


async def test_of_two_runs_of_one_job_only_the_owners_counts(workers: Workers, run: Held) -> None:
    await workers.lapse("a")
    bert = await workers.hold("bert", "a")
    for status in (Status.DEFERRED, Status.FAILED, Status.SKIPPED, Status.EXPIRED, Status.UNKNOWN):
        assert await workers.finish(run, status) is STALE
    assert await status_of(workers) is Status.PENDING
    assert await workers.finish(bert, Status.FAILED) is FINISHED


async def test_a_mail_that_was_sent_counts_though_the_lease_was_lost(workers: Workers, run: Held) -> None:
    await workers.lapse("a")
    bert = await workers.hold("bert", "a")
    assert await workers.finish(run, Status.SENT) is FINISHED
    assert await status_of(workers) is Status.SENT
    assert await workers.places("a") == []
    assert await workers.journal(bert) == "lost", "who has the job by now withholds its copy"
    assert await workers.finish(bert, Status.DEFERRED) is STALE


async def test_a_mail_that_was_sent_after_all_is_no_longer_in_doubt(workers: Workers, run: Held) -> None:
    await workers.lapse("a")
    bert = await workers.hold("bert", "a")
    assert await workers.finish(bert, Status.UNKNOWN) is FINISHED
    assert await workers.finish(run, Status.SENT) is FINISHED
    job = await workers.job("a")
    assert job is not None
    assert (job.status, job.finished_at) == (Status.SENT, 5)


async def test_a_mail_that_was_only_assumed_to_be_sent_does_not_count_without_the_lease(
    workers: Workers, leases: LeaseStore, run: Held
) -> None:
    job = await workers.job("a")
    assert job is not None
    await workers.lapse("a")
    await workers.hold("bert", "a")
    assumed = Ending(Status.SENT, at=5, attempts=(attempt(1),), assumed=True)
    assert await leases.finish(run, job, assumed) is STALE


@pytest.mark.parametrize("status", REST)
async def test_where_a_job_rests_nothing_waits_in_a_queue_and_nothing_stays_for_good(
    workers: Workers, redis: RedisClient, run: Held, status: Status
) -> None:
    await workers.journal(run, fetched={"user": 1})
    await workers.finish(run, status)
    assert await workers.places("a") == []
    assert not await redis.exists(keys.arq_job("a"), keys.arq_in_progress("a"))
    assert not await redis.hexists(A, "run")
    assert not await redis.hexists(A, "journal")
    assert await redis.exists(keys.frozen("a")) == (status is not Status.SENT)
    left: Sequence[bytes] = await redis.keys("*:a")
    assert {key: await redis.ttl(key) for key in left if await redis.ttl(key) <= 0} == {}


@pytest.mark.parametrize("status", REST)
async def test_retention_begins_where_the_job_rests(
    workers: Workers, redis: RedisClient, run: Held, status: Status
) -> None:
    await workers.journal(run, fetched={"user": 1})
    await workers.finish(run, status)
    longer = status in {Status.FAILED, Status.UNKNOWN}
    record, payload = (30 * DAY_S, 14 * DAY_S) if longer else (7 * DAY_S, DAY_S)
    assert record - 60 < await redis.ttl(A) <= record
    assert record - 60 < await redis.ttl(keys.attempts("a")) <= record
    assert payload - 60 < await redis.ttl(keys.payload("a")) <= payload
    if status is not Status.SENT:
        assert payload - 60 < await redis.ttl(keys.frozen("a")) <= payload


async def test_a_mail_in_doubt_is_not_finished(workers: Workers, run: Held) -> None:
    await workers.finish(run, Status.UNKNOWN)
    job = await workers.job("a")
    assert job is not None
    assert (job.status, job.finished_at) == (Status.UNKNOWN, None)


async def test_a_deferred_job_is_kept_without_end_and_free_for_the_next(
    workers: Workers, redis: RedisClient, run: Held
) -> None:
    await workers.journal(run, fetched={"user": 1})
    await workers.finish(run, Status.DEFERRED, next_attempt_at=9)
    assert {await redis.ttl(key) for key in await redis.keys("*:a")} == {-1}
    assert await redis.zscore(queue.QUEUE, "a") == 9
    (claimed,) = (await workers.claim("bert")).jobs
    assert claimed.frozen == b'{"user":1}', "what was fetched stays fixed"
    assert b"journal" not in claimed.record, "the relay has answered"


@pytest.mark.parametrize("stream", Stream)
async def test_a_deferred_job_goes_back_to_the_queue_of_its_stream(workers: Workers, stream: Stream) -> None:
    await workers.accept("a", stream=stream)
    await workers.finish(await workers.hold("anna", "a"), Status.DEFERRED)
    assert await workers.places("a") == [queue.QUEUES[stream]]


async def test_the_newest_attempts_are_listed_and_all_are_counted(workers: Workers, store: JobStore) -> None:
    await workers.accept("a")
    for number in range(1, ATTEMPTS_KEPT + 6):
        await workers.finish(await workers.hold("anna", "a"), Status.DEFERRED, number=number)
        await workers.lapse("a")
    view = await store.view("a")
    assert view is not None
    assert view.job.attempts == ATTEMPTS_KEPT + 5
    assert [item.number for item in view.attempts] == list(range(6, ATTEMPTS_KEPT + 6))


async def test_a_failover_is_listed_relay_by_relay_and_counts_once(
    workers: Workers, leases: LeaseStore, store: JobStore, run: Held
) -> None:
    job = await workers.job("a")
    assert job is not None
    tries = tuple(replace(attempt(1), relay=name) for name in ("first", "second"))
    ending = Ending(Status.DEFERRED, at=5, attempts=tries, next_attempt_at=9, stays_at="second")
    for _ in range(2):  # the first reply was lost
        assert await leases.finish(run, job, ending) is FINISHED
    view = await store.view("a")
    assert view is not None
    assert [(item.number, item.relay) for item in view.attempts] == [(1, "first"), (1, "second")]
    assert (view.job.attempts, view.job.stays_at) == (1, "second")


async def test_a_job_stays_at_a_relay_for_one_attempt_only(workers: Workers, leases: LeaseStore, run: Held) -> None:
    job = await workers.job("a")
    assert job is not None
    staying = Ending(Status.DEFERRED, at=5, attempts=(attempt(1),), next_attempt_at=9, stays_at="second")
    assert await leases.finish(run, job, staying) is FINISHED
    await workers.finish(await workers.hold("bert", "a"), Status.DEFERRED, number=2)
    job = await workers.job("a")
    assert job is not None
    assert job.stays_at is None


async def test_a_late_answer_makes_no_attempt_uncounted(workers: Workers, run: Held) -> None:
    await workers.lapse("a")
    for number in (1, 2):
        await workers.finish(await workers.hold("bert", "a"), Status.DEFERRED, number=number)
        await workers.lapse("a")
    assert await workers.finish(run, Status.SENT, number=1) is FINISHED
    job = await workers.job("a")
    assert job is not None
    assert job.attempts == 2


async def test_a_mail_that_was_sent_is_recorded_by_a_server_without_memory(
    workers: Workers, redis: RedisClient, run: Held
) -> None:
    await redis.config_set("maxmemory", 1)
    try:
        assert await workers.finish(run, Status.SENT) is FINISHED
    finally:
        await redis.config_set("maxmemory", 0)
    assert await status_of(workers) is Status.SENT


async def test_a_record_that_is_gone_is_not_written_again(workers: Workers, redis: RedisClient, run: Held) -> None:
    await redis.flushall()
    assert await workers.finish(run, Status.SENT) is GONE
    assert await redis.keys("*") == []


async def test_several_endings_in_one_call_each_by_its_own_right(workers: Workers, redis: RedisClient) -> None:
    await workers.accept("sent", "lost", "gone", "deferred")
    runs = {claimed.job_id: held(claimed) for claimed in (await workers.claim("anna")).jobs}
    await workers.lapse("lost")
    await workers.hold("bert", "lost")
    await redis.delete(keys.job("gone"))
    wanted = {"sent": Status.SENT, "lost": Status.FAILED, "gone": Status.SENT, "deferred": Status.DEFERRED}
    calls = (workers.finish(runs[job_id], status) for job_id, status in wanted.items())
    assert await asyncio.gather(*calls) == [FINISHED, STALE, GONE, FINISHED]
    assert [await status_of(workers, job_id) for job_id in ("sent", "lost", "deferred")] == [
        Status.SENT,
        Status.PENDING,
        Status.DEFERRED,
    ]


async def test_an_ending_that_cannot_be_written_is_no_trouble_of_its_neighbours(
    workers: Workers, leases: LeaseStore, redis: RedisClient
) -> None:
    await workers.accept("a", "bad", "c")
    claim = await workers.claim("anna")
    job = await workers.job("a")
    assert job is not None
    await redis.delete(keys.job("bad"))
    await redis.set(keys.job("bad"), "no record")
    ending = Ending(Status.SENT, at=5, attempts=(attempt(1),))
    calls = (leases.finish(held(claimed), job, ending) for claimed in claim.jobs)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [getattr(item, "value", type(item).__name__) for item in results] == ["finished", "QueueRefused", "finished"]


async def test_an_ending_that_could_be_written_in_part_only_is_not_repeated_for_ever(
    workers: Workers, redis: RedisClient, run: Held
) -> None:
    """A script is not undone where it fails: what it has written by then has to be enough for its repetition."""
    await redis.delete(keys.attempts("a"))
    await redis.set(keys.attempts("a"), "no list")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await workers.finish(run, Status.SENT)
    assert await workers.finish(run, Status.SENT) is FINISHED
    assert await status_of(workers) is Status.SENT
    assert await workers.places("a") == []


async def test_a_mail_that_was_sent_after_its_job_was_put_aside_leaves_nothing(workers: Workers, run: Held) -> None:
    await workers.journal(run)
    await workers.lapse("a")
    await workers.finish(await workers.hold("bert", "a"), Status.DEFERRED)  # its second copy follows
    for worker in ("bert", "carl"):
        await workers.lapse("a")
        await workers.die(worker, "a")
    await workers.claim("dora")
    assert await workers.places("a") == [queue.QUARANTINE]
    assert await workers.finish(run, Status.SENT) is FINISHED
    assert await workers.places("a") == []


async def test_a_mail_of_a_job_put_aside_that_was_sent_after_all_leaves_nothing_in_its_stream(
    workers: Workers, redis: RedisClient
) -> None:
    await workers.accept("a")
    await redis.hset(A, "crashes", 2)
    await workers.claim("anna")  # puts it aside
    run = await workers.hold("anna", "a")
    await workers.journal(run)
    await workers.lapse("a")
    await redis.delete(keys.QUARANTINE_HOLDER)  # what its TTL does
    await workers.finish(await workers.hold("bert", "a"), Status.DEFERRED)
    assert await workers.places("a") == [queue.QUEUE]
    assert await workers.finish(run, Status.SENT) is FINISHED
    assert await workers.places("a") == []
