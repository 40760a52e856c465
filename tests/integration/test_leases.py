"""A worker's signs of life, and the journal: the point up to which a mail can still be withheld."""

import asyncio

import orjson
import pytest

from mailer import queue
from mailer.jobs import JournalMark, Status
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.leases import LeaseStore
from mailer.store.runs import JournalEntry, JournalVerdict, Release
from tests.support.waiting import until
from tests.support.workers import RECIPIENTS, Workers, held, ids
from worker.heartbeat import Heartbeat
from worker.lease import Lease
from worker.quarantine import Quarantine
from worker.running import Runs

LEASE_MS = 10_000
GO, LOST, EXPIRED, REST = JournalVerdict.GO, JournalVerdict.LOST, JournalVerdict.EXPIRED, JournalVerdict.REST


async def test_a_sign_of_life_extends_the_lease(workers: Workers, leases: LeaseStore, redis: RedisClient) -> None:
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    await redis.pexpire(keys.arq_in_progress("a"), 500)
    await redis.zadd(queue.QUEUE, {"a": 0})
    assert await leases.beat("anna", [run], "fine", 1000) == frozenset()
    assert LEASE_MS - 1000 < await redis.pttl(keys.arq_in_progress("a")) <= LEASE_MS
    assert LEASE_MS - 1000 < await workers.due_in_ms("a") <= LEASE_MS + 1


async def test_a_worker_hears_which_jobs_it_has_lost(workers: Workers, leases: LeaseStore) -> None:
    await workers.accept("kept", "lost", "gone", "ended")
    runs = {claimed.job_id: held(claimed) for claimed in (await workers.claim("anna")).jobs}
    await workers.lapse("lost")
    bert = await workers.hold("bert", "lost")
    await workers.redis.delete(keys.job("gone"), keys.arq_in_progress("gone"))
    await workers.finish(runs["ended"], Status.DEFERRED)
    assert await leases.beat("anna", list(runs.values()), "fine", 1000) == {runs["lost"], runs["gone"], runs["ended"]}
    assert await leases.beat("anna", [bert], "fine", 1000) == frozenset()
    assert await workers.places("gone") == [queue.QUEUE], "its entry is left to whoever looks at it"


async def test_a_sign_of_life_after_a_run_has_ended_moves_nothing(workers: Workers, leases: LeaseStore) -> None:
    """The beat was on its way while the end was written."""
    await workers.accept("a", "b")
    runs = {claimed.job_id: held(claimed) for claimed in (await workers.claim("anna")).jobs}
    await workers.finish(runs["a"], Status.DEFERRED, next_attempt_at=9)
    await workers.finish(runs["b"], Status.SENT)
    await leases.beat("anna", list(runs.values()), "fine", 1000)
    assert await workers.redis.zscore(queue.QUEUE, "a") == 9
    assert await workers.places("b") == []
    assert not await workers.redis.exists(keys.arq_in_progress("a"), keys.arq_in_progress("b"))


async def test_a_lease_that_ran_out_is_taken_up_again_if_nobody_has_the_job(
    workers: Workers, leases: LeaseStore
) -> None:
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    await workers.lapse("a")
    assert await leases.beat("anna", [run], "fine", 1000) == frozenset()
    assert ids(await workers.claim("bert")) == []
    assert await workers.crashes("a") == 0


async def test_an_entry_without_a_record_is_kept_alive_as_well(workers: Workers, leases: LeaseStore) -> None:
    await workers.redis.zadd(queue.QUEUE, {"foreign": 0})
    run = await workers.hold("anna", "foreign")
    assert await leases.beat("anna", [run], "fine", 1000) == frozenset()
    assert not await workers.redis.exists(keys.job("foreign"))


async def test_a_worker_without_jobs_is_alive_for_as_long_as_it_says(leases: LeaseStore, redis: RedisClient) -> None:
    assert await leases.beat("anna", [], "runs=0", 10_000) == frozenset()
    assert await redis.get(queue.HEALTH_CHECK_KEY) == b"runs=0"
    assert 9_000 < await redis.pttl(queue.HEALTH_CHECK_KEY) <= 10_000


async def test_whoever_has_the_job_may_write_the_dot(workers: Workers, redis: RedisClient) -> None:
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    assert await workers.journal(run, dated=123_000, fetched={"user": {"name": "Ada"}}) is GO
    job = await workers.job("a")
    assert job is not None
    assert (job.status, job.journal, job.dated) == (Status.PENDING, JournalMark("relay", 1, 1), 123_000)
    assert await redis.get(keys.frozen("a")) == b'{"user":{"name":"Ada"}}'


async def test_a_run_past_its_journal_is_held_for_three_leases_and_one_before_it_for_one(
    workers: Workers, leases: LeaseStore, redis: RedisClient
) -> None:
    """Nobody is in a hurry for what only waits for its relay, and who took it for dead would make a doubt of it."""
    await workers.accept("before", "past")
    runs = {claimed.job_id: held(claimed) for claimed in (await workers.claim("anna")).jobs}

    async def left_ms(job_id: str) -> tuple[int, int]:
        return await redis.pttl(keys.arq_in_progress(job_id)), await workers.due_in_ms(job_id)

    assert await workers.journal(runs["past"]) is GO
    assert all(3 * LEASE_MS - 1000 < left <= 3 * LEASE_MS + 1 for left in await left_ms("past"))
    for run in runs.values():
        await redis.pexpire(keys.arq_in_progress(run.job_id), 500)
        await redis.zadd(run.queue, {run.job_id: 0})
    lost = await leases.beat("anna", list(runs.values()), "fine", 1000, journaled=frozenset({runs["past"]}))
    assert lost == frozenset()
    assert all(3 * LEASE_MS - 1000 < left <= 3 * LEASE_MS + 1 for left in await left_ms("past"))
    assert all(LEASE_MS - 1000 < left <= LEASE_MS + 1 for left in await left_ms("before"))


async def test_a_run_whose_mail_was_refused_after_its_journal_is_held_for_one_lease_again(
    workers: Workers, leases: LeaseStore, redis: RedisClient
) -> None:
    """So that its mail goes on soon, should its worker die before the next relay has it."""
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    entry = JournalEntry(run, JournalMark("first", 1, 1), RECIPIENTS, 1, b"")
    assert await leases.journal(entry) is GO
    await leases.unjournal(entry)
    assert not await redis.hexists(keys.job("a"), "journal")
    assert LEASE_MS - 1000 < await redis.pttl(keys.arq_in_progress("a")) <= LEASE_MS
    assert LEASE_MS - 1000 < await workers.due_in_ms("a") <= LEASE_MS + 1


async def test_what_is_taken_back_is_ones_own(workers: Workers, leases: LeaseStore) -> None:
    """Neither the mark for the next relay nor that of another run."""
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    first = JournalEntry(run, JournalMark("first", 1, 1), RECIPIENTS, 1, b"")
    second = JournalEntry(run, JournalMark("second", 1, 2), RECIPIENTS, 1, b"")
    for entry in (first, second):
        assert await leases.journal(entry) is GO
    await leases.unjournal(first)
    job = await workers.job("a")
    assert job is not None
    assert job.journal == second.mark
    assert await workers.due_in_ms("a") > LEASE_MS + 1


async def test_a_worker_holds_its_runs_for_as_long_as_their_journals_ask_for(
    workers: Workers, leases: LeaseStore, redis: RedisClient
) -> None:
    await workers.accept("before", "past")
    runs, at_relay, go_on = Runs(lambda: None), asyncio.Event(), asyncio.Event()

    async def work(lease: Lease) -> None:
        if lease.held.job_id == "past":
            await lease.journal(JournalEntry(lease.held, JournalMark("relay", 1, 1), RECIPIENTS, 1, b""))
            at_relay.set()
        await go_on.wait()

    for claimed in (await workers.claim("anna")).jobs:
        lease = Lease(claimed, leases)
        runs.start(lease, work(lease))
    await asyncio.wait_for(at_relay.wait(), 5)
    for job_id in ("before", "past"):
        await redis.pexpire(keys.arq_in_progress(job_id), 500)
    heart = Heartbeat("anna", leases, runs, Quarantine(runs), lease_s=LEASE_MS / 1000)
    beating = asyncio.create_task(heart.run())
    try:

        async def has_beaten() -> bool:
            return heart.beaten

        await until(has_beaten, what="a sign of life")
        assert await redis.pttl(keys.arq_in_progress("past")) > 3 * LEASE_MS - 1000
        assert LEASE_MS - 1000 < await redis.pttl(keys.arq_in_progress("before")) <= LEASE_MS
    finally:
        beating.cancel()
        go_on.set()
        await asyncio.gather(beating, return_exceptions=True)


async def test_a_journal_whose_reply_was_lost_is_asked_again_and_goes(workers: Workers, redis: RedisClient) -> None:
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    assert await workers.journal(run, dated=1, fetched={"n": 1}) is GO
    assert await workers.journal(run, dated=2, fetched={"n": 2}) is GO
    job = await workers.job("a")
    assert job is not None
    assert (job.dated, await redis.get(keys.frozen("a"))) == (1, b'{"n":1}'), "what was fixed first stays"


async def test_a_mail_that_one_relay_refused_after_its_dot_is_journaled_anew_for_the_next(
    workers: Workers, leases: LeaseStore
) -> None:
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    marks = [JournalMark(name, 1, at) for at, name in enumerate(("first", "second"), 1)]
    for mark in marks:
        assert await leases.journal(JournalEntry(run, mark, RECIPIENTS, 1, b"")) is GO
        job = await workers.job("a")
        assert job is not None
        assert job.journal == mark


async def test_a_job_whose_time_passes_between_two_relays_is_withheld_from_the_second(
    workers: Workers, leases: LeaseStore, redis: RedisClient
) -> None:
    await workers.accept("a", expires_in_ms=60_000)
    run = await workers.hold("anna", "a")
    assert await leases.journal(JournalEntry(run, JournalMark("first", 1, 1), RECIPIENTS, 1, b"")) is GO
    await redis.hset(keys.job("a"), "expires_at", 1)
    assert await leases.journal(JournalEntry(run, JournalMark("second", 1, 2), RECIPIENTS, 1, b"")) is EXPIRED


async def test_a_job_that_waits_for_a_relay_says_so_and_counts_no_attempt(workers: Workers, leases: LeaseStore) -> None:
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    await leases.release(Release(run, 30_000, unsent=False, detail="relay: paused"))
    job = await workers.job("a")
    assert job is not None
    assert (job.status, job.detail, job.attempts) == (Status.PENDING, "relay: paused", 0)
    assert 29_000 < await workers.due_in_ms("a") <= 30_000


async def test_a_mail_whose_lease_ran_out_still_goes_if_nobody_has_the_job(workers: Workers) -> None:
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    await workers.redis.delete(keys.arq_in_progress("a"))
    assert await workers.journal(run) is GO
    assert await workers.redis.pttl(keys.arq_in_progress("a")) > 0, "and from now on it is held again"


async def test_a_mail_whose_job_is_anothers_is_withheld(workers: Workers) -> None:
    await workers.accept("a")
    anna = await workers.hold("anna", "a")
    await workers.lapse("a")
    bert = await workers.hold("bert", "a")
    assert await workers.journal(anna) is LOST
    job = await workers.job("a")
    assert job is not None
    assert job.journal is None
    assert await workers.journal(bert) is GO


@pytest.mark.parametrize("status", [Status.DEFERRED, Status.SENT, Status.FAILED])
async def test_a_mail_whose_run_has_ended_is_withheld(workers: Workers, status: Status) -> None:
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    await workers.finish(run, status)
    assert await workers.journal(run) is LOST


async def test_a_mail_whose_job_was_given_back_or_is_gone_is_withheld(workers: Workers) -> None:
    await workers.accept("a", "b")
    runs = {claimed.job_id: held(claimed) for claimed in (await workers.claim("anna")).jobs}
    await workers.release(runs["a"])
    await workers.redis.delete(keys.job("b"))
    assert [await workers.journal(runs["a"]), await workers.journal(runs["b"])] == [LOST, LOST]
    assert not await workers.redis.exists(keys.job("b"))


async def test_a_mail_whose_authors_time_has_passed_is_withheld(workers: Workers) -> None:
    await workers.accept("late", expires_in_ms=0)
    await workers.accept("early", expires_in_ms=60_000)
    runs = {claimed.job_id: held(claimed) for claimed in (await workers.claim("anna")).jobs}
    assert [await workers.journal(runs["late"]), await workers.journal(runs["early"])] == [EXPIRED, GO]


@pytest.mark.parametrize("status", ["cancelled", "unknown", "failed"])
async def test_a_mail_whose_job_was_ended_by_a_person_is_withheld(workers: Workers, status: str) -> None:
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    await workers.redis.hset(keys.job("a"), "status", status)
    assert await workers.journal(run) is REST
    assert not await workers.redis.hexists(keys.job("a"), "journal")


async def test_whom_a_source_named_is_fixed_from_then_on(workers: Workers, redis: RedisClient) -> None:
    await workers.accept("a")
    await redis.hdel(keys.job("a"), "recipients")
    await redis.hset(keys.job("a"), "recipients_from", "source")
    run = await workers.hold("anna", "a")
    assert await workers.journal(run) is GO
    job = await workers.job("a")
    assert job is not None
    assert (job.recipients, job.recipients_from_source) == (RECIPIENTS, False)


async def test_several_journals_in_one_call_get_verdicts_of_their_own(workers: Workers, leases: LeaseStore) -> None:
    await workers.accept("good", "lost", "gone", "fine")
    runs = {claimed.job_id: held(claimed) for claimed in (await workers.claim("anna")).jobs}
    await workers.lapse("lost")
    await workers.hold("bert", "lost")
    await workers.redis.delete(keys.job("gone"))
    verdicts = await asyncio.gather(*(workers.journal(run) for run in runs.values()))
    assert dict(zip(runs, verdicts, strict=True)) == {"good": GO, "lost": LOST, "gone": LOST, "fine": GO}


async def test_a_journal_that_cannot_be_written_is_no_trouble_of_its_neighbours(
    workers: Workers, redis: RedisClient
) -> None:
    await workers.accept("a", "bad", "c")
    runs = {claimed.job_id: held(claimed) for claimed in (await workers.claim("anna")).jobs}
    await redis.delete(keys.job("bad"))
    await redis.set(keys.job("bad"), "no record")
    results = await asyncio.gather(*(workers.journal(run) for run in runs.values()), return_exceptions=True)
    assert [getattr(result, "value", type(result).__name__) for result in results] == ["go", "QueueRefused", "go"]


async def test_a_half_sent_mail_does_not_wait_for_memory(
    workers: Workers, leases: LeaseStore, redis: RedisClient
) -> None:
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    await redis.config_set("maxmemory", 1)
    try:
        assert await leases.beat("anna", [run], "fine", 1000) == frozenset()
        assert await workers.journal(run, fetched={"user": "x" * 10_000}) is GO
        await workers.release(run)
    finally:
        await redis.config_set("maxmemory", 0)


async def test_a_content_with_unusual_text_is_fixed_as_it_was(workers: Workers, leases: LeaseStore) -> None:
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    fetched = {"user": {"name": "Ådä \u2028 \U0001f600", "n": 2**53, "x": None, "list": [1.5, True]}}
    await leases.journal(JournalEntry(run, JournalMark("relay", 1, 1), RECIPIENTS, 1, orjson.dumps(fetched)))
    await workers.lapse("a")
    (claimed,) = (await workers.claim("bert")).jobs
    assert claimed.frozen is not None
    assert queue.deserialize(claimed.frozen) == fetched


async def test_whoever_takes_care_of_quarantined_jobs_stays_the_one_while_it_makes_room(
    workers: Workers, leases: LeaseStore, redis: RedisClient
) -> None:
    await redis.set(keys.QUARANTINE_HOLDER, "anna", px=1000)
    await leases.beat("anna", [], "fine", 1000)
    await leases.beat("bert", [], "fine", 1000, is_holder=True)
    assert await redis.pttl(keys.QUARANTINE_HOLDER) <= 1000
    await leases.beat("anna", [], "fine", 1000, is_holder=True)
    assert await redis.pttl(keys.QUARANTINE_HOLDER) > LEASE_MS - 1000
