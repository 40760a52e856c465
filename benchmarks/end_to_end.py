"""From the POST to the relay's 250 as fast as it goes: one API process and one worker share the machine.

Round trips to the queue server are those of all clients, counted by the server (INFO commandstats: scripts, INFO and
SCAN), those of the watch and of signs of life too. A few of the reconciler's each 5 s (GET, SET) are not: they cannot
be told from those that scripts make.
"""

import asyncio
from typing import Any

from benchmarks.accepting import CALLERS, WARM_PART, singles
from benchmarks.draining import family_of
from benchmarks.figures import cpu_s
from benchmarks.plan import Plan
from benchmarks.relay import Relay, counting_relay
from benchmarks.section import Figures, Run, Runs, Section
from benchmarks.stage import Stage, emptied, stage, workers
from mailer.store.connection import RedisClient
from tests.support.processes import mortal_api

ROUND_TRIPS = ("evalsha", "eval", "info", "scan")


async def round_trips(redis: RedisClient) -> int:
    """Of clients so far: scripts run, and the few commands that no script calls."""
    stats: dict[str, Any] = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ROUND_TRIPS)


async def posted_and_sent(place: Stage, relay: Relay, mails: int) -> Figures:
    """From the first POST until the relay has counted the last mail."""
    env = place.environment(relay.url)
    async with mortal_api(env) as (api, client), workers(env, 1) as pids:
        url, warm, worker = str(client.base_url), int(mails * WARM_PART), family_of(pids)

        def spent() -> list[float]:
            return [cpu_s([api.pid]), cpu_s(worker()), cpu_s([place.server.pid]), cpu_s([relay.pid])]

        await singles(url, warm, CALLERS)
        await relay.until(warm)
        await emptied(place.redis)
        trips, before = await round_trips(place.redis), spent()
        counting = asyncio.create_task(relay.until(warm + mails))
        try:
            posted = await singles(url, mails, CALLERS, first=warm + 1)
            await counting
        finally:
            counting.cancel()
        elapsed, after = relay.arrivals[-1] - posted.began_s, spent()
        await relay.settle(warm + mails)
        await emptied(place.redis)
        trips = await round_trips(place.redis) - trips
    names = ("api", "worker", "queue_server", "relay")
    spending = zip(names, before, after, strict=True)
    return {
        "mails_per_s": mails / elapsed,
        "post_p50_ms": posted.p50_ms,
        "post_p99_ms": posted.p99_ms,
        **{f"{name}_cpu_ms": (now - then) * 1000 / mails for name, then, now in spending},
        "client_cpu_ms": posted.client_cpu_s * 1000 / mails,
        "round_trips": trips / mails,
    }


async def _runs(plan: Plan) -> Runs:
    for _ in range(plan.rounds):
        for appendfsync in ("everysec", "always"):
            async with stage(appendfsync) as place, counting_relay() as relay:
                yield Run(appendfsync, await posted_and_sent(place, relay, plan.end_to_end))


END_TO_END = Section("end_to_end", f"Single jobs posted by {CALLERS} callers until the last 250, one worker", _runs)
