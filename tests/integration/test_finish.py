"""A status moves only as the table of moves allows, once for each run, and retention begins at the end."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailer.jobs import ATTEMPTS_KEPT, FINAL, MOVES, Attempt, Job, NewJob, Payload, Phase, Reply, Status
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.jobs import Ending, EnqueueRequest, JobStore

JOB_ID = "a" * 32


def attempt(number: int) -> Attempt:
    return Attempt(number, at=1, duration_ms=2, phase=Phase.MAIL, outcome="deferred", reply=Reply(451, "later"))


async def load(store: JobStore) -> Job:
    loaded = await store.load(JOB_ID)
    assert loaded is not None
    return loaded.job


@pytest.fixture
async def job(store: JobStore) -> Job:
    await store.enqueue([EnqueueRequest((NewJob(id=JOB_ID, payload=Payload(subject="s", text="t")),))])
    return await load(store)


@given(path=st.lists(st.sampled_from(list(Status)), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_only_the_moves_of_the_table_happen(store: JobStore, redis: RedisClient, path: list[Status]) -> None:
    await redis.flushall()
    await store.enqueue([EnqueueRequest((NewJob(id=JOB_ID, payload=Payload(subject="s", text="t")),))])
    for wanted in path:
        before = await load(store)
        moved = await store.finish(before, Ending(wanted, at=1, attempt=attempt(before.attempts + 1)))
        after = await load(store)
        assert moved is (wanted in MOVES[before.status])
        assert after.status is (wanted if moved else before.status)
        assert after.attempts == before.attempts + moved


async def test_of_two_runs_of_one_job_only_the_first_counts(store: JobStore, job: Job) -> None:
    assert await store.finish(job, Ending(Status.SENT, at=5, attempt=attempt(1)))
    assert not await store.finish(job, Ending(Status.FAILED, at=6, attempt=attempt(1)))
    assert (await load(store)).status is Status.SENT


async def test_a_run_from_before_a_later_attempt_changes_nothing(store: JobStore, job: Job) -> None:
    assert await store.finish(job, Ending(Status.DEFERRED, at=5, attempt=attempt(1), next_attempt_at=9))
    assert not await store.finish(job, Ending(Status.DEFERRED, at=6, attempt=attempt(1), next_attempt_at=10))
    assert (await load(store)).next_attempt_at == 9


@pytest.mark.parametrize("status", sorted(FINAL))
async def test_retention_begins_at_the_end(store: JobStore, redis: RedisClient, job: Job, status: Status) -> None:
    await store.finish(job, Ending(status, at=5, attempt=attempt(1)))
    record, payload = (7 * 86400, 86400) if status is not Status.FAILED else (30 * 86400, 14 * 86400)
    assert record - 60 < await redis.ttl(keys.job(JOB_ID)) <= record
    assert record - 60 < await redis.ttl(keys.attempts(JOB_ID)) <= record
    assert payload - 60 < await redis.ttl(keys.payload(JOB_ID)) <= payload


async def test_a_deferred_job_is_kept_without_end(store: JobStore, redis: RedisClient, job: Job) -> None:
    await store.finish(job, Ending(Status.DEFERRED, at=5, attempt=attempt(1), next_attempt_at=9))
    assert {await redis.ttl(key) for key in await redis.keys("postroom:*")} == {-1}


async def test_the_newest_attempts_are_listed_and_all_are_counted(store: JobStore, job: Job) -> None:
    for number in range(1, ATTEMPTS_KEPT + 6):
        await store.finish(await load(store), Ending(Status.DEFERRED, at=5, attempt=attempt(number), next_attempt_at=9))
    view = await store.view(JOB_ID)
    assert view is not None
    assert view.job.attempts == ATTEMPTS_KEPT + 5
    assert [item.number for item in view.attempts] == list(range(6, ATTEMPTS_KEPT + 6))


async def test_a_mail_that_was_sent_is_recorded_by_a_server_without_memory(
    store: JobStore, redis: RedisClient, job: Job
) -> None:
    await redis.config_set("maxmemory", 1)
    try:
        assert await store.finish(job, Ending(Status.SENT, at=5, attempt=attempt(1)))
    finally:
        await redis.config_set("maxmemory", 0)
    assert (await load(store)).status is Status.SENT


async def test_a_record_that_is_gone_is_not_written_again(store: JobStore, redis: RedisClient, job: Job) -> None:
    await redis.flushall()
    assert not await store.finish(job, Ending(Status.SENT, at=5))
    assert await redis.keys("*") == []


async def test_a_finish_that_is_repeated_counts_once(store: JobStore, job: Job) -> None:
    ending = Ending(Status.DEFERRED, at=5, attempt=attempt(1), next_attempt_at=9)
    arguments = store._finish_arguments(job, ending, token="t1")
    names = [keys.job(JOB_ID), keys.payload(JOB_ID), keys.attempts(JOB_ID)]
    assert await store._finish(keys=names, args=arguments) == [b"finished"]
    assert await store._finish(keys=names, args=arguments) == [b"finished"]
    view = await store.view(JOB_ID)
    assert view is not None
    assert len(view.attempts) == 1
