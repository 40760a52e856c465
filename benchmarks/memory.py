"""What a job takes of the queue server's memory while it waits and once it is done, and what API and worker take.

The server's figure is `used_memory`, what its allocator was asked for, less what it was before the first job. A
finished record has one attempt; its payload is deleted first, as it is when its retention has passed.
"""

from typing import Any

from benchmarks.accepting import BATCH_CALLERS, batches
from benchmarks.draining import family_of
from benchmarks.figures import memory_mb
from benchmarks.plan import Plan
from benchmarks.relay import counting_relay
from benchmarks.section import Run, Runs, Section
from benchmarks.stage import emptied, listening, quiet, stage, workers
from mailer.store import keys
from mailer.store.connection import RedisClient
from tests.support.processes import mortal_api

AT_ONCE = 1000


async def used_octets(redis: RedisClient) -> int:
    await quiet(redis)
    told: dict[str, Any] = await redis.info("memory")
    return int(told["used_memory"])


async def payloads(redis: RedisClient) -> tuple[list[bytes], int]:
    """Their keys, and how many octets they hold."""
    found = [key async for key in redis.scan_iter(match=f"{keys.PAYLOAD}*", count=AT_ONCE)]
    octets = 0
    for start in range(0, len(found), AT_ONCE):
        pipe = redis.pipeline(transaction=False)
        for key in found[start : start + AT_ONCE]:
            pipe.strlen(key)
        octets += sum(await pipe.execute())
    return found, octets


async def _one(jobs: int) -> tuple[Run, ...]:
    async with stage() as place, counting_relay() as relay:
        env = place.environment(relay.url)
        async with mortal_api(env) as (api, client):
            async with workers(env, 1) as pids:
                await listening(place.redis, 1)
                worker_rest = sum(map(memory_mb, family_of(pids)()))
            api_rest, nothing = memory_mb(api.pid), await used_octets(place.redis)
            await batches(str(client.base_url), jobs, BATCH_CALLERS)
            api_load, queued = memory_mb(api.pid), await used_octets(place.redis)
            contents, data = await payloads(place.redis)
            async with workers(env, 1) as pids:
                await relay.until(jobs)
                worker_load = sum(map(memory_mb, family_of(pids)()))
                await relay.settle(jobs)
                await emptied(place.redis)
            for start in range(0, len(contents), AT_ONCE):
                await place.redis.unlink(*contents[start : start + AT_ONCE])
            finished = await used_octets(place.redis)
    server = {
        "queued_octets": (queued - nothing) / jobs,
        "data_octets": data / jobs,
        "beyond_data_octets": (queued - nothing - data) / jobs,
        "finished_octets": (finished - nothing) / jobs,
    }
    return (
        Run("queue server", server),
        Run("API", {"rest_mb": api_rest, "load_mb": api_load}),
        Run("worker", {"rest_mb": worker_rest, "load_mb": worker_load}),
    )


async def _runs(plan: Plan) -> Runs:
    for _ in range(plan.rounds):
        for run in await _one(plan.stored):
            yield run


MEMORY = Section("memory", "Memory: of the queue server for each job, and of processes (PSS)", _runs)
