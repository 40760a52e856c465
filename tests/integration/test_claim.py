"""Due jobs are leased to one worker at a time; a dead worker's jobs come due by themselves, and deaths count."""

import asyncio

import pytest

from mailer import queue
from mailer.jobs import CRASHES_TO_POISON, CRASHES_TO_QUARANTINE, RECORD_VERSION, Reason, Status, Stream
from mailer.settings import Durability, MailerSettings
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobStore
from mailer.store.leases import LeaseStore
from mailer.store.runs import JournalVerdict
from tests.integration.conftest import Run
from tests.support.smtp import ScriptedRelay
from tests.support.workers import Workers, held, ids

LEASE_MS = 10_000
SHORT_S = 0.06
TO_ONE = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi"}


async def test_urgent_mail_goes_before_receipts_and_receipts_before_digests(workers: Workers) -> None:
    await workers.accept("digest", stream=Stream.BULK)
    await workers.accept("receipt")
    await workers.accept("code", stream=Stream.CRITICAL)
    assert ids(await workers.claim("anna")) == ["code", "receipt", "digest"]


async def test_of_one_stream_the_earliest_goes_first(workers: Workers, redis: RedisClient) -> None:
    for place, job_id in enumerate(["c", "a", "b"]):
        await workers.accept(job_id)
        await redis.zadd(queue.QUEUE, {job_id: place})
    assert ids(await workers.claim("anna", wanted=2)) == ["c", "a"]


async def test_a_claim_brings_all_that_a_run_needs(workers: Workers, store: JobStore) -> None:
    await workers.accept("a")
    (claimed,) = (await workers.claim("anna")).jobs
    assert claimed.blob is not None
    assert queue.read_blob(claimed.blob) == queue.Call("deliver", ("a",), {})
    assert (claimed.queue, claimed.frozen) == (queue.QUEUE, None)
    assert claimed.payload is not None
    assert claimed.record[b"status"] == b"pending"
    view = await store.view("a")
    assert view is not None
    assert view.status == "sending"


async def test_while_a_job_runs_its_place_in_the_queue_is_the_end_of_its_lease(workers: Workers) -> None:
    await workers.accept("a")
    await workers.claim("anna")
    assert LEASE_MS - 1000 < await workers.due_in_ms("a") <= LEASE_MS + 1
    ttl = await workers.redis.pttl(keys.arq_in_progress("a"))
    assert LEASE_MS - 1000 < ttl <= LEASE_MS


async def test_what_is_pushed_back_in_one_claim_is_bounded(workers: Workers, redis: RedisClient) -> None:
    """A claim holds the queue server up; the next one goes on."""
    names = {f"newer-{number}": 1 for number in range(3000)}
    await redis.zadd(queue.QUEUE, names)
    pipe = redis.pipeline(transaction=False)
    for name in names:
        pipe.hset(keys.job(name), "v", RECORD_VERSION + 1)
    await pipe.execute()
    claim = await workers.claim("anna", wanted=1)
    assert len(claim.newer) == 1000
    assert claim.next_due is not None
    assert claim.next_due - claim.server_time <= 100


async def test_what_one_worker_runs_no_other_gets(workers: Workers) -> None:
    await workers.accept("a", "b")
    assert ids(await workers.claim("anna", wanted=1)) == ["a"]
    assert ids(await workers.claim("bert")) == ["b"]
    assert ids(await workers.claim("carl")) == []


async def test_many_workers_at_once_get_each_job_once(workers: Workers) -> None:
    names = [f"{number:03}" for number in range(60)]
    await workers.accept(*names)
    claims = await asyncio.gather(*(workers.claim(f"worker {number}", wanted=7) for number in range(12)))
    assert sorted(job_id for claim in claims for job_id in ids(claim)) == names


async def test_no_more_is_taken_than_asked_for_and_never_more_than_a_hundred(workers: Workers) -> None:
    await workers.accept(*(f"{number:03}" for number in range(130)))
    assert len((await workers.claim("anna", wanted=5)).jobs) == 5
    assert len((await workers.claim("anna", wanted=1000)).jobs) == 100
    assert len((await workers.claim("anna", wanted=1000)).jobs) == 25


async def test_a_claim_tells_when_the_next_job_is_due(workers: Workers) -> None:
    assert (await workers.claim("anna")).next_due is None
    await workers.accept("later", delay_ms=60_000)
    await workers.accept("soon", delay_ms=5_000, stream=Stream.BULK)
    claim = await workers.claim("anna")
    assert claim.jobs == ()
    assert claim.next_due is not None
    assert 4_000 < claim.next_due - claim.server_time <= 5_000


async def test_a_claim_tells_when_the_lease_of_another_ends(workers: Workers) -> None:
    await workers.accept("a")
    await workers.claim("anna")
    claim = await workers.claim("bert")
    assert claim.next_due is not None
    assert LEASE_MS - 1000 < claim.next_due - claim.server_time <= LEASE_MS + 1


async def test_a_claim_whose_reply_was_lost_brings_the_same_jobs_and_takes_no_more(workers: Workers) -> None:
    await workers.accept("a", "b")
    first = await workers.claim("anna", number=7, wanted=2)
    await workers.accept("c")
    again = await workers.claim("anna", number=7, wanted=2)
    assert sorted(ids(again)) == sorted(ids(first)) == ["a", "b"]
    assert [job.run for job in again.jobs] == [job.run for job in first.jobs]
    assert ids(await workers.claim("anna", number=8)) == ["c"]
    assert await workers.crashes("a") == 0


async def test_a_claim_that_is_never_heard_is_repeated_three_times_and_then_the_worker_gets_on(
    workers: Workers,
) -> None:
    await workers.accept("a", "b")
    await workers.claim("anna", number=7)
    await workers.accept("c")
    for _ in range(3):
        assert sorted(ids(await workers.claim("anna", number=7))) == ["a", "b"]
    assert ids(await workers.claim("anna", number=7)) == ["c"], (
        "whatever was in the way of the others is not in its way"
    )
    assert ids(await workers.claim("anna", number=7)) == ["c"]


async def test_a_claim_that_was_overtaken_by_the_workers_next_one_takes_nothing(workers: Workers) -> None:
    await workers.accept("a", "b")
    assert ids(await workers.claim("anna", number=7, wanted=1)) == ["a"]
    overtaken = await workers.claim("anna", number=6)
    assert (ids(overtaken), overtaken.alone, overtaken.waiting) == ([], False, False)
    assert ids(await workers.claim("bert")) == ["b"], "it is still there for others"
    assert ids(await workers.claim("anna", number=7)) == ["a"], "and what is the worker's stays its own"


async def test_a_claim_brings_no_more_content_than_a_slow_line_can_carry(workers: Workers, redis: RedisClient) -> None:
    names = [f"{number:03}" for number in range(30)]
    await workers.accept(*names)
    for job_id in names:
        await redis.set(keys.payload(job_id), b"x" * 200_000)
    claims = []
    while (claim := await workers.claim("anna")).jobs:
        claims.append(claim)
    assert [job_id for claim in claims for job_id in ids(claim)] == names
    content = [sum(len(claimed.payload or b"") for claimed in claim.jobs) for claim in claims]
    assert 1_800_000 <= content[0] <= 2_200_000
    assert max(content) <= 2_200_000
    assert claims[0].next_due == claims[0].server_time, "and it says that more is due now"
    assert claims[-1].next_due != claims[-1].server_time


async def test_what_is_kept_of_a_source_counts_as_content(workers: Workers, redis: RedisClient) -> None:
    names = [f"{number:03}" for number in range(10)]
    await workers.accept(*names)
    for job_id in names:
        await redis.set(keys.frozen(job_id), b"x" * 1_000_000)
        await redis.hset(keys.job(job_id), "dated", 1)  # as the journal writes both
    assert len((await workers.claim("anna")).jobs) < 5


async def test_what_a_claim_keeps_for_its_repetition_does_not_stay(workers: Workers) -> None:
    await workers.accept("a")
    await workers.claim("anna")
    assert 0 < await workers.redis.pttl(keys.claimed("anna")) <= 10 * LEASE_MS


async def test_a_repeated_claim_brings_nothing_that_another_has_by_now(workers: Workers) -> None:
    await workers.accept("a", "b")
    await workers.claim("anna", number=7)
    await workers.lapse("a")
    await workers.claim("bert", wanted=1)
    assert ids(await workers.claim("anna", number=7)) == ["b"]


async def test_the_jobs_of_a_dead_worker_are_anothers_when_its_lease_is_over(
    workers: Workers, store: JobStore, redis: RedisClient, mailer_settings: MailerSettings
) -> None:
    short = LeaseStore(redis, mailer_settings.retention, Durability(), lease_ms=60)
    await workers.accept("a")
    await Workers(store, short, redis).claim("anna")
    assert ids(await workers.claim("bert")) == []
    await asyncio.sleep(0.065)  # the lease
    assert ids(await workers.claim("bert")) == ["a"]
    assert await workers.crashes("a") == 1


@pytest.fixture
def short(redis: RedisClient, store: JobStore, mailer_settings: MailerSettings) -> Workers:
    """Workers whose leases last for SHORT_S."""
    return Workers(store, LeaseStore(redis, mailer_settings.retention, Durability(), int(SHORT_S * 1000)), redis)


async def lease_is_over() -> None:
    await asyncio.sleep(SHORT_S + 0.005)


async def test_what_a_dead_worker_held_is_not_sent_to_the_back_of_a_long_queue(
    workers: Workers, short: Workers
) -> None:
    await workers.accept("a", "b")
    assert ids(await short.claim("anna")) == ["a", "b"]
    await workers.accept("c", "d")
    await workers.live("bert")
    await lease_is_over()
    assert ids(await workers.claim("bert", wanted=3)) == ["a", "b", "c"]


async def test_of_several_dead_workers_each_claim_finds_one(workers: Workers, short: Workers) -> None:
    await workers.accept("a", "b")
    assert ids(await short.claim("anna", wanted=1)) == ["a"]
    assert ids(await short.claim("zed", wanted=1)) == ["b"]
    await workers.accept("c", "d")
    await workers.live("bert")
    await lease_is_over()
    taken = [ids(await workers.claim("bert", wanted=1)) for _ in range(2)]
    assert sorted(taken) == [["a"], ["b"]]


async def test_what_a_dead_worker_had_given_back_or_ended_is_not_put_forward(
    workers: Workers, short: Workers, redis: RedisClient
) -> None:
    await workers.accept("sent", "put-off", "back")
    runs = {job.job_id: held(job) for job in (await short.claim("anna")).jobs}
    await short.finish(runs["sent"], Status.SENT)
    await short.release(runs["put-off"], 60_000)
    await short.release(runs["back"])
    await workers.live("bert")
    await lease_is_over()
    assert ids(await workers.claim("bert")) == ["back"]
    assert 55_000 < await workers.due_in_ms("put-off") <= 60_000
    assert await redis.zrange(keys.WORKERS, 0, -1) == [b"bert"], "and the dead are forgotten"


async def test_what_another_has_taken_over_and_put_off_stays_put_off(workers: Workers, short: Workers) -> None:
    await workers.accept("a", "b")
    await short.claim("anna")
    await lease_is_over()
    runs = {job.job_id: held(job) for job in (await workers.claim("carl")).jobs}
    await workers.release(runs["a"], 60_000)
    await workers.live("bert")
    assert ids(await workers.claim("bert")) == [], "the claim that buries anna"
    assert 55_000 < await workers.due_in_ms("a") <= 60_000
    assert 0 < await workers.due_in_ms("b") <= LEASE_MS + 1


async def test_nobody_is_found_dead_by_who_has_not_said_that_it_lives(workers: Workers, short: Workers) -> None:
    """After an absence of the server the first to come back would otherwise bury all others."""
    await workers.accept("a")
    await short.claim("anna")
    await workers.accept("b")
    await lease_is_over()
    assert ids(await workers.claim("bert", wanted=1)) == ["b"]
    assert await workers.redis.hexists(keys.claimed("anna"), "a")


async def test_a_worker_that_was_taken_for_dead_and_repeats_its_claim_has_what_nobody_else_took(
    workers: Workers, short: Workers
) -> None:
    await workers.accept("a", "b")
    await short.claim("anna", number=7)
    await workers.live("bert")
    await lease_is_over()
    assert ids(await workers.claim("bert", wanted=1)) == ["a"]
    assert ids(await workers.claim("anna", number=7)) == ["b"]
    assert await workers.crashes("b") == 0


async def test_what_waits_for_its_relay_keeps_its_lease_when_its_worker_dies(workers: Workers, short: Workers) -> None:
    await workers.accept("a")
    (claimed,) = (await short.claim("anna")).jobs
    assert await workers.journal(held(claimed)) is JournalVerdict.GO
    await workers.accept("b", "c")
    await workers.live("bert")
    await lease_is_over()
    assert ids(await workers.claim("bert", wanted=1)) == ["b"]
    assert await workers.redis.hexists(keys.claimed("anna"), "a"), "it is looked at again"


async def test_a_sign_of_life_keeps_a_worker_from_being_taken_for_dead(workers: Workers, short: Workers) -> None:
    await workers.accept("a")
    await short.claim("anna")
    before = await workers.redis.pttl(keys.claimed("anna"))
    await workers.live("anna", "bert")
    assert await workers.redis.pttl(keys.claimed("anna")) > before
    await lease_is_over()
    await workers.accept("b")
    await workers.claim("bert", wanted=1)
    seconds, _ = await workers.redis.time()
    assert await workers.redis.zscore(keys.WORKERS, "anna") > seconds * 1000
    assert await workers.redis.hexists(keys.claimed("anna"), "a")


async def test_what_a_late_word_of_an_earlier_run_says_leaves_the_newer_one_held(
    workers: Workers, short: Workers
) -> None:
    await workers.accept("a")
    first = held((await short.claim("anna")).jobs[0])
    await workers.lapse("a")
    assert ids(await short.claim("anna")) == ["a"]
    await short.release(first)
    assert await workers.redis.hexists(keys.claimed("anna"), "a")


async def test_a_run_that_only_waited_for_its_relay_is_no_crash(workers: Workers) -> None:
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    assert await workers.journal(run) is JournalVerdict.GO
    await workers.lapse("a")
    (claimed,) = (await workers.claim("bert")).jobs
    assert claimed.record[b"journal"]
    assert await workers.crashes("a") == 0


async def test_a_worker_that_was_only_cut_off_takes_its_crash_back(workers: Workers) -> None:
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    await workers.lapse("a")
    bert = await workers.hold("bert", "a")
    assert await workers.crashes("a") == 1
    await workers.release(run)
    assert await workers.crashes("a") == 0
    await workers.redis.hset(keys.job("a"), "crashes", 1)  # of another worker
    await workers.release(run)
    assert await workers.crashes("a") == 1, "its own, once"
    assert await workers.journal(bert) is JournalVerdict.GO, "the job stays with whom it belongs to"


async def test_only_the_run_that_was_blamed_takes_the_crash_back(workers: Workers) -> None:
    await workers.accept("a")
    anna = await workers.hold("anna", "a")
    await workers.lapse("a")
    await workers.die("bert", "a")
    await workers.claim("carl")  # into the quarantine
    await workers.release(anna)
    assert await workers.crashes("a") == 2


async def test_crashes_are_forgotten_when_a_run_comes_to_its_end(workers: Workers) -> None:
    await workers.accept("a")
    await workers.die("anna", "a")
    run = await workers.hold("bert", "a")
    await workers.finish(run, Status.DEFERRED)
    assert await workers.crashes("a") == 0


async def test_a_job_of_which_two_workers_died_is_put_aside(workers: Workers) -> None:
    await workers.accept("bad")
    await workers.die("anna", "bad")
    await workers.die("bert", "bad")
    claim = await workers.claim("carl")
    assert ids(claim) == [], "it is not run beside others"
    assert claim.next_due == claim.server_time, "but looked at again at once"
    assert await workers.places("bad") == [queue.QUARANTINE]


async def test_a_job_of_which_one_worker_died_is_run_beside_others(workers: Workers) -> None:
    await workers.accept("unlucky")
    await workers.die("anna", "unlucky")
    await workers.accept("good")
    claim = await workers.claim("bert")
    assert (ids(claim), claim.alone) == (["unlucky", "good"], False)


async def quarantine(workers: Workers, *job_ids: str) -> None:
    """Two workers died of each, and the next that looked has put them aside."""
    await workers.accept(*job_ids)
    for job_id in job_ids:
        await workers.redis.hset(keys.job(job_id), "crashes", CRASHES_TO_QUARANTINE)
    assert ids(await workers.claim("carl")) == []


async def test_a_job_that_was_put_aside_runs_alone(workers: Workers) -> None:
    await quarantine(workers, "bad", "worse")
    await workers.accept("good")
    claim = await workers.claim("carl")
    assert (ids(claim), claim.alone) == (["bad"], True)


async def test_jobs_that_were_put_aside_take_turns_with_the_streams(workers: Workers) -> None:
    await quarantine(workers, "bad", "worse", "worst")
    await workers.accept("code", stream=Stream.CRITICAL)
    claim = await workers.claim("carl")
    assert (ids(claim), claim.alone) == (["bad"], True)
    claim = await workers.claim("carl", streams_first=True)
    assert (ids(claim), claim.alone) == (["code"], False)
    assert ids(await workers.claim("carl")) == ["worse"]
    claim = await workers.claim("carl", streams_first=True)
    assert (ids(claim), claim.alone) == (["worst"], True), "where the streams have nothing due, nobody waits for them"


async def test_a_job_that_was_put_aside_waits_until_nothing_else_runs(workers: Workers) -> None:
    await quarantine(workers, "bad")
    await workers.accept("good")
    claim = await workers.claim("carl", running=3)
    assert (ids(claim), claim.waiting, claim.alone) == ([], True, False)
    claim = await workers.claim("carl", running=0)
    assert (ids(claim), claim.waiting, claim.alone) == (["bad"], False, True)


async def test_one_worker_at_a_time_takes_care_of_them_and_the_others_go_on(workers: Workers) -> None:
    await quarantine(workers, "bad", "worse")
    assert ids(await workers.claim("carl")) == ["bad"]
    await workers.accept("good")
    claim = await workers.claim("dora")
    assert (ids(claim), claim.alone, claim.waiting) == (["good"], False, False)


async def test_when_the_worker_that_took_care_is_dead_another_does(workers: Workers, redis: RedisClient) -> None:
    await quarantine(workers, "bad")
    await workers.die("carl", "bad")
    assert ids(await workers.claim("dora")) == []
    assert 0 < await redis.pttl(keys.QUARANTINE_HOLDER) <= LEASE_MS
    await redis.delete(keys.QUARANTINE_HOLDER)  # what its TTL does
    claim = await workers.claim("dora")
    assert (ids(claim), claim.alone, await workers.crashes("bad")) == (["bad"], True, 3)


async def test_a_repeated_claim_of_a_job_that_runs_alone_says_so_again(workers: Workers) -> None:
    await quarantine(workers, "bad")
    first = await workers.claim("dora", number=3)
    again = await workers.claim("dora", number=3)
    assert (ids(again), again.alone) == (ids(first), first.alone) == (["bad"], True)


async def test_a_job_that_was_put_aside_and_came_to_an_attempt_goes_back_to_its_stream(workers: Workers) -> None:
    await quarantine(workers, "bad")
    (claimed,) = (await workers.claim("carl")).jobs
    await workers.finish(held(claimed), Status.DEFERRED)
    assert await workers.places("bad") == [queue.QUEUE]


async def test_a_job_that_was_put_aside_and_is_sent_leaves_nothing(workers: Workers) -> None:
    await quarantine(workers, "bad")
    (claimed,) = (await workers.claim("carl")).jobs
    await workers.finish(held(claimed), Status.SENT)
    assert await workers.places("bad") == []


async def test_a_job_of_which_five_workers_died_is_poison(run: Run, relay: ScriptedRelay) -> None:
    job_id = await run.submit(TO_ONE)
    await run.redis.hset(keys.job(job_id), "crashes", CRASHES_TO_POISON - 1)
    lease = await run.claim(job_id)
    if lease is None:  # put aside first
        lease = await run.claim(job_id)
    assert lease is not None
    await run.redis.delete(keys.arq_in_progress(job_id), keys.QUARANTINE_HOLDER)  # that worker dies, too
    view = await run.once(job_id)
    assert (view.job.status, view.job.reason, view.job.attempts) == (Status.FAILED, Reason.POISON, 0)
    assert "5 times" in (view.job.detail or "")
    assert relay.connections == 0
    assert await run.redis.ttl(keys.payload(job_id)) > 13 * 86400, "its content is kept"


async def test_a_job_of_which_four_workers_died_is_tried_once_more(run: Run, relay: ScriptedRelay) -> None:
    job_id = await run.submit(TO_ONE)
    await run.redis.hset(keys.job(job_id), "crashes", CRASHES_TO_POISON - 1)
    await run.once(job_id)  # puts it aside
    assert (await run.once(job_id)).job.status is Status.SENT


async def test_what_a_newer_version_wrote_is_pushed_back_untouched(workers: Workers, redis: RedisClient) -> None:
    await workers.accept("new", "old")
    await redis.hset(keys.job("new"), "v", RECORD_VERSION + 1)
    before = await redis.hgetall(keys.job("new"))
    claim = await workers.claim("anna")
    assert (ids(claim), claim.newer) == (["old"], ("new",))
    assert await redis.hgetall(keys.job("new")) == before
    assert not await redis.exists(keys.arq_in_progress("new"))
    assert 50_000 < await workers.due_in_ms("new") <= 60_000


async def test_what_the_version_before_wrote_is_taken_over(workers: Workers, redis: RedisClient) -> None:
    await workers.accept("old")
    await redis.hset(keys.job("old"), "v", RECORD_VERSION - 1)
    (claimed,) = (await workers.claim("anna")).jobs
    assert claimed.record[b"v"] == str(RECORD_VERSION).encode(), "from now on the version before leaves it alone"


async def test_an_entry_without_a_record_is_handed_over_and_nothing_is_made_up_for_it(
    workers: Workers, redis: RedisClient
) -> None:
    await redis.zadd(queue.QUEUE, {"foreign": 0})
    (claimed,) = (await workers.claim("anna")).jobs
    assert (claimed.job_id, claimed.record, claimed.blob, claimed.payload) == ("foreign", {}, None, None)
    assert not await redis.exists(keys.job("foreign"))
    assert ids(await workers.claim("bert")) == []
    await workers.release(held(claimed), 60_000)
    assert 50_000 < await workers.due_in_ms("foreign") <= 60_000
    assert not await redis.exists(keys.job("foreign"), keys.arq_in_progress("foreign"))
    await workers.lapse("foreign")
    (claimed,) = (await workers.claim("anna")).jobs
    await workers.release(held(claimed), None)
    assert await workers.places("foreign") == []


async def test_a_server_without_memory_still_hands_out_what_it_has(workers: Workers, redis: RedisClient) -> None:
    await workers.accept("a")
    await redis.config_set("maxmemory", 1)
    try:
        assert ids(await workers.claim("anna")) == ["a"]
    finally:
        await redis.config_set("maxmemory", 0)


@pytest.mark.parametrize("delay_ms", [0, 30_000])
async def test_a_job_that_is_given_back_is_anothers_after_its_delay_and_no_crash(
    workers: Workers, delay_ms: int
) -> None:
    await workers.accept("a")
    await workers.release(await workers.hold("anna", "a"), delay_ms)
    assert delay_ms - 1000 < await workers.due_in_ms("a") <= delay_ms
    await workers.lapse("a")
    await workers.hold("bert", "a")
    assert await workers.crashes("a") == 0


async def test_a_job_that_is_given_back_wakes_an_idle_worker(workers: Workers, redis: RedisClient) -> None:
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    async with redis.pubsub() as listener:
        await listener.subscribe(keys.WAKE)
        await listener.get_message(timeout=5)
        await workers.release(run)
        assert await listener.get_message(ignore_subscribe_messages=True, timeout=5) is not None


async def test_several_are_given_back_in_one_call_each_by_its_own_right(workers: Workers) -> None:
    await workers.accept("a", "b", "c")
    runs = {claimed.job_id: held(claimed) for claimed in (await workers.claim("anna")).jobs}
    await workers.lapse("b")
    bert = await workers.hold("bert", "b")
    await asyncio.gather(*(workers.release(run) for run in runs.values()))
    assert await workers.journal(bert) is JournalVerdict.GO
    assert ids(await workers.claim("carl")) == ["a", "c"]


async def test_a_mark_without_a_dot_is_taken_back_and_one_with_it_stays(workers: Workers) -> None:
    await workers.accept("a", "b")
    for claimed in (await workers.claim("anna")).jobs:
        await workers.journal(held(claimed))
        await workers.release(held(claimed), unsent=claimed.job_id == "a")
    marks = {job_id: job.journal for job_id in "ab" if (job := await workers.job(job_id))}
    assert marks["a"] is None
    assert marks["b"] is not None


async def test_a_job_that_only_waits_to_be_written_down_is_not_put_aside(workers: Workers) -> None:
    await workers.accept("a")
    run = await workers.hold("anna", "a")
    await workers.redis.hset(keys.job("a"), "crashes", CRASHES_TO_QUARANTINE)
    assert await workers.journal(run) is JournalVerdict.GO
    await workers.lapse("a")
    claim = await workers.claim("bert", running=3)
    assert (ids(claim), claim.alone) == (["a"], False)


async def test_an_id_that_is_nobodys_stops_no_claim(workers: Workers, redis: RedisClient) -> None:
    await redis.zadd(queue.QUEUE, {b"\xff\xfe": 0, "with a space": 1})
    await workers.accept("a", "number")
    claim = await workers.claim("anna")
    assert ids(claim) == ["a", "number"]
    assert claim.newer == ("\\xff\\xfe", "with a space")
    assert await redis.zcount(queue.QUEUE, "-inf", claim.server_time) == 0, "they wait"
    assert sorted(ids(await workers.claim("anna", number=1))) == ["a", "number"]


@pytest.mark.parametrize("field", ["v", "crashes", "starts"])
async def test_a_record_with_an_odd_number_stops_no_claim(workers: Workers, redis: RedisClient, field: str) -> None:
    await workers.accept("odd", "a")
    await redis.hset(keys.job("odd"), field, "many")
    claim = await workers.claim("anna")
    assert sorted(ids(claim)) == ["a", "odd"]
    assert claim.newer == ()
    assert await redis.hget(keys.job("odd"), "starts") == b"1"


async def test_what_is_no_record_at_all_stops_no_claim(workers: Workers, redis: RedisClient) -> None:
    await workers.accept("odd", "a")
    await redis.delete(keys.job("odd"))
    await redis.set(keys.job("odd"), "no record")
    claim = await workers.claim("anna")
    assert (ids(claim), claim.newer) == (["a"], ("odd",))
    assert await redis.get(keys.job("odd")) == b"no record"
    assert 50_000 < await workers.due_in_ms("odd") <= 60_000
