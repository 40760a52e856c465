"""Whether a long queue is as quick as a short one: drained in turns, and claims while all of it is due in the future.

The clock does not start while the server rewrites its append-only file, which a queue that was filled a moment ago
makes it do; rewrites that begin while it runs are told. The server's settings for them are its own.
"""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.accepting import BATCH_CALLERS, batches
from benchmarks.draining import family_of, timed
from benchmarks.plan import Plan
from benchmarks.relay import Relay, counting_relay
from benchmarks.section import Figures, Run, Runs, Section, Stopped
from benchmarks.stage import Stage, fill, queued, quiet, stage, workers
from mailer.server import parse_queue_url
from mailer.settings import MailerSettings
from mailer.store.connection import RedisClient, connect
from mailer.store.leases import LeaseStore
from tests.support.processes import free_port, mortal_api

FILLED_AT_ONCE = 50_000
SCHEDULED_FOR = timedelta(days=7)
LEASE_MS = 10_000
SHORT, LONG = "a short queue", "a long queue"
NONE_SCHEDULED, MANY_SCHEDULED = "claims, nothing scheduled", "claims, many scheduled"


async def fill_far(env: dict[str, str], jobs: int, **more: Any) -> None:
    """Through POST /jobs/batch, by several callers; `more`: fields of each job."""
    print(f"growth: {jobs:,} jobs are posted, which may take minutes", flush=True)
    async with mortal_api(env) as (_, client):
        for start in range(0, jobs, FILLED_AT_ONCE):
            some = min(FILLED_AT_ONCE, jobs - start)
            await batches(str(client.base_url), some, BATCH_CALLERS, first=start + 1, **more)


async def part_of(place: Stage, relay: Relay, mails: int) -> Figures:
    """So many of those that are queued, and then those under way. Raises Stopped where the sink counts others than left
    the queue."""
    waiting, before = await queued(place.redis), relay.look()
    await quiet(place.redis)
    rewrites = await _rewrites(place.redis)
    async with workers(place.environment(relay.url), 1) as pids:
        drain = await timed(relay, mails, family_of(pids), place.server.pid)
        rewrites = await _rewrites(place.redis) - rewrites
    await relay.settle(before + waiting - await queued(place.redis))
    return {**asdict(drain), "rewrites": rewrites}


async def _rewrites(redis: RedisClient) -> int:
    told: dict[str, Any] = await redis.info("persistence")
    return int(told["aof_rewrites"]) + int(told["aof_rewrite_in_progress"])


async def short(mails: int) -> Figures:
    """All of a queue of a server of its own."""
    async with stage() as place, counting_relay() as relay:
        await fill(place.environment(relay.url), mails)
        return await part_of(place, relay, mails)


async def claims(place: Stage, count: int, turn: int) -> Figures:
    """Of claims with nothing due: what one takes the server, by its own count. No two claims have one number."""
    settings = MailerSettings.load({})
    async with connect(parse_queue_url(place.redis_url)) as redis:
        leases = LeaseStore(redis, settings.retention, settings.durable, LEASE_MS)
        await quiet(redis)
        before = await _scripts(redis)
        for number in range(turn * count + 1, (turn + 1) * count + 1):
            claim = await leases.claim("benchmark", number, wanted=100, running=0)
            if claim.jobs:
                raise Stopped("A job was due that is scheduled for later")
        calls, took_us = (now - then for now, then in zip(await _scripts(redis), before, strict=True))
    return {"claim_ms": took_us / calls / 1000}


async def _scripts(redis: RedisClient) -> tuple[int, int]:
    """How many were run by their digest so far, and the microseconds that they took."""
    stats: dict[str, Any] = await redis.info("commandstats")
    told = stats.get("cmdstat_evalsha", {"calls": 0, "usec": 0})
    return int(told["calls"]), int(told["usec"])


async def _runs(plan: Plan) -> Runs:
    async with stage() as place, counting_relay() as relay:
        await fill_far(place.environment(relay.url), plan.long_queue)
        for _ in range(plan.rounds):
            yield Run(SHORT, {"queued": plan.short_queue, **await short(plan.short_queue)})
            yield Run(LONG, {"queued": plan.long_queue, **await part_of(place, relay, plan.short_queue)})
    async with stage() as place:
        for turn in range(plan.rounds):
            yield Run(NONE_SCHEDULED, {"queued": 0} | await claims(place, plan.claims, turn))
        later = (datetime.now(UTC) + SCHEDULED_FOR).isoformat()
        await fill_far(place.environment(f"smtp://127.0.0.1:{free_port()}"), plan.long_queue, send_at=later)
        for turn in range(plan.rounds, 2 * plan.rounds):
            yield Run(MANY_SCHEDULED, {"queued": plan.long_queue} | await claims(place, plan.claims, turn))


GROWTH = Section(
    "growth", "The same number of mails of a short queue and of a long one; claims with nothing due", _runs
)
