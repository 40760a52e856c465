"""Streams on the real queue server: their parts in a claim, pause and resume, and what GET /streams counts."""

from typing import Any

import httpx

from mailer import queue
from mailer.jobs import NewJob, Payload, Stream
from mailer.server import parse_queue_url
from mailer.settings import Durability, MailerSettings
from mailer.store import keys
from mailer.store.connection import RedisClient, connect
from mailer.store.jobs import EnqueueRequest, JobStore
from mailer.store.leases import LeaseStore
from mailer.store.runs import Quota
from mailer.store.streams import StreamStore
from tests.integration.conftest import Run
from tests.integration.test_controls import JOB
from tests.support.smtp import ScriptedRelay
from tests.support.workers import RECIPIENTS, Workers, ids
from worker.shares import Shares

C, N, B = Stream.CRITICAL, Stream.NORMAL, Stream.BULK


async def accept(workers: Workers, stream: Stream, count: int, name: str = "") -> None:
    await workers.accept(*(f"{name or stream}-{number:03}" for number in range(count)), stream=stream)


async def shown(api: httpx.AsyncClient, name: str) -> dict[str, Any]:
    answer = await api.get("/streams")
    assert answer.status_code == 200, answer.text
    found: dict[str, dict[str, Any]] = {stream["name"]: stream for stream in answer.json()["data"]}
    assert list(found) == ["critical", "normal", "bulk"]
    return found[name]


async def test_a_claim_keeps_the_lower_streams_their_part_and_the_order(workers: Workers) -> None:
    for stream in Stream:
        await accept(workers, stream, 20)
    claim = await workers.leases.claim("w", 1, wanted=10, running=0, quota=Quota({N: 2, B: 1}, 7))
    assert [job_id.partition("-")[0] for job_id in ids(claim)] == ["critical"] * 7 + ["normal"] * 2 + ["bulk"]


async def test_a_part_that_nobody_needs_is_for_the_others(workers: Workers) -> None:
    await accept(workers, C, 20)
    await accept(workers, B, 1)
    claim = await workers.leases.claim("w", 1, wanted=10, running=0, quota=Quota({N: 2, B: 3}, 7))
    assert [job_id.partition("-")[0] for job_id in ids(claim)] == ["critical"] * 9 + ["bulk"]


async def test_the_lower_streams_leave_slots_for_critical_mail_and_the_claim_says_that_more_is_due(
    workers: Workers,
) -> None:
    await accept(workers, N, 5)
    await accept(workers, B, 5)
    claim = await workers.leases.claim("w", 1, wanted=10, running=0, quota=Quota({N: 1, B: 1}, 4))
    assert [job_id.partition("-")[0] for job_id in ids(claim)] == ["normal"] * 3 + ["bulk"]
    assert claim.held_back
    await accept(workers, C, 1)
    claim = await workers.leases.claim("w", 2, wanted=6, running=4, quota=Quota({N: 1, B: 1}, 0))
    assert ids(claim) == ["critical-000"]
    claim = await workers.leases.claim("w", 3, wanted=10, running=0, quota=Quota({}, 7))
    assert (len(claim.jobs), claim.held_back) == (6, False)


async def test_behind_an_endless_stream_of_codes_the_others_have_their_minimum(workers: Workers) -> None:
    """A worker with ten slots, each of which is free again after each claim."""
    shares, taken = Shares(10), dict.fromkeys(Stream, 0)
    for stream in (N, B):
        await accept(workers, stream, 60)
    for number in range(20):
        await accept(workers, C, 10, f"critical-{number:02}")
        quota = shares.quota(10, [])
        claim = await workers.leases.claim("w", number + 1, wanted=10, running=0, quota=quota)
        shares.heard(quota, claim)
        for job_id in ids(claim):
            taken[Stream(job_id.partition("-")[0])] += 1
    assert taken == {C: 140, N: 40, B: 20}


async def test_large_codes_do_not_use_up_the_part_of_the_others(workers: Workers, store: JobStore) -> None:
    """A claim has room for two megabytes; what is to have a part has one job beyond that."""
    for stream in (N, B):
        await accept(workers, stream, 5)
    for number in range(10):
        large = NewJob(f"critical-{number}", Payload(subject="s", html="x" * 600_000), stream=C, recipients=RECIPIENTS)
        await store.enqueue(EnqueueRequest((large,)))
    claim = await workers.leases.claim("w", 1, wanted=10, running=0, quota=Quota({N: 2, B: 1}, 7))
    assert [job_id.partition("-")[0] for job_id in ids(claim)] == ["critical"] * 4 + ["normal", "bulk"]


async def test_of_a_paused_stream_nothing_is_begun_until_it_is_resumed(
    api: httpx.AsyncClient, workers: Workers, queue_url: str, mailer_settings: MailerSettings
) -> None:
    await accept(workers, N, 1)
    await accept(workers, B, 1)
    for _ in range(2):
        paused = (await api.post("/streams/normal/pause")).json()
        assert (paused["name"], paused["ready"]) == ("normal", 1)
        assert paused["paused_at"] == (await shown(api, "normal"))["paused_at"] is not None
    claim = await workers.claim("anna")
    assert ids(claim) == ["bulk-000"]
    async with connect(parse_queue_url(queue_url)) as client:  # a worker that was started since
        other = LeaseStore(client, mailer_settings.retention, Durability(), 10_000)
        claim = await other.claim("bert", 1, wanted=10, running=0)
        assert ids(claim) == []
        assert claim.next_due is not None, "the end of the other lease"
    for _ in range(2):
        assert (await api.post("/streams/normal/resume")).json()["paused_at"] is None
    assert ids(await workers.claim("anna")) == ["normal-000"]


async def test_what_is_due_in_a_paused_stream_keeps_nobody_awake(api: httpx.AsyncClient, workers: Workers) -> None:
    await accept(workers, N, 1)
    await api.post("/streams/normal/pause")
    claim = await workers.claim("anna")
    assert (claim.jobs, claim.next_due, claim.held_back, claim.is_last) == ((), None, False, True)
    await workers.redis.zadd(queue.QUEUE, {"normal-000": 2**42})
    assert (await workers.claim("anna")).next_due is None


async def test_a_quarantined_job_of_a_paused_stream_waits_too_and_stops_no_other(
    api: httpx.AsyncClient, workers: Workers
) -> None:
    await workers.accept("bad", "worse", stream=B)
    await workers.accept("ill")
    for job_id in ("bad", "worse", "ill"):
        await workers.redis.hset(keys.job(job_id), "crashes", 2)
    assert ids(await workers.claim("anna")) == []
    await api.post("/streams/bulk/pause")
    claim = await workers.claim("anna")
    assert (ids(claim), claim.alone) == (["ill"], True)
    assert (await shown(api, "bulk"))["quarantined"] == 2
    claim = await workers.claim("anna", running=1)
    assert (claim.waiting, ids(claim)) == (False, [])
    await api.post("/streams/bulk/resume")
    assert (await workers.claim("anna", running=1)).waiting


async def test_resuming_wakes_the_workers(api: httpx.AsyncClient, redis: RedisClient) -> None:
    await api.post("/streams/bulk/pause")
    async with redis.pubsub() as channel:
        await channel.subscribe(keys.WAKE)
        assert await channel.get_message(timeout=5) is not None
        await api.post("/streams/bulk/resume")
        assert (await channel.get_message(timeout=5) or {})["type"] == "message"


async def test_jobs_of_a_paused_stream_are_accepted_and_lose_no_attempt(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay
) -> None:
    await api.post("/streams/normal/pause")
    answer = await api.post("/jobs", json=JOB)
    assert answer.status_code == 202
    job_id = answer.json()["id"]
    assert (await run.once(job_id)).job.attempts == 0
    await api.post("/streams/normal/resume")
    assert (await run.once(job_id)).status == "sent"


async def test_what_waits_is_counted_by_stream(
    api: httpx.AsyncClient, workers: Workers, run: Run, relay: ScriptedRelay
) -> None:
    await accept(workers, N, 2)
    claim = await workers.claim("anna", wanted=1)
    assert ids(claim) == ["normal-000"]
    await workers.accept("later", delay_ms=60_000)
    await workers.redis.zincrby(queue.QUEUE, -30_000, "normal-001")
    found = await shown(api, "normal")
    assert (found["ready"], found["leased"], found["scheduled"], found["quarantined"]) == (1, 1, 1, 0)
    assert 30 <= found["oldest_wait_s"] < 40
    assert await shown(api, "critical") == {
        "name": "critical",
        "paused_at": None,
        "oldest_wait_s": None,
        "ready": 0,
        "scheduled": 0,
        "leased": 0,
        "quarantined": 0,
    }
    await workers.lapse("normal-000")
    assert ((await shown(api, "normal"))["ready"], (await shown(api, "normal"))["leased"]) == (2, 0)


async def test_with_many_jobs_the_counts_are_read_at_once(
    api: httpx.AsyncClient, redis: RedisClient, store: JobStore
) -> None:
    """No entry of a queue is read but the next to come due."""
    far = {f"far-{number}": 2**42 for number in range(100_000)}
    await redis.zadd(queue.QUEUES[B], far)
    await redis.config_resetstat()
    assert (await shown(api, "bulk"))["scheduled"] == 100_000
    stats = await redis.info("commandstats")
    assert stats["cmdstat_evalsha"]["usec_per_call"] < 10_000


async def test_a_stream_that_there_is_not_is_404_with_those_that_there_are(api: httpx.AsyncClient) -> None:
    for control in ("pause", "resume"):
        answer = await api.post(f"/streams/fast/{control}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert "critical, normal, bulk" in answer.json()["detail"]


async def test_a_pause_is_synced_like_an_acceptance(redis: RedisClient, fsync: Durability) -> None:
    await StreamStore(redis, fsync).pause(B)
    assert await redis.exists(keys.SYNCED)
