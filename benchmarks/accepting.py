"""How fast one API process accepts while nobody works: singles by many callers, and batches. The client is a process of
its own."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import orjson

from benchmarks.figures import cpu_s
from benchmarks.load import Posted, post_all
from benchmarks.mail import job
from benchmarks.plan import Plan
from benchmarks.section import Figures, Run, Runs, Section
from benchmarks.stage import stage
from tests.support.processes import free_port, mortal_api

IN_A_BATCH = 100
CALLERS, BATCH_CALLERS = 50, 4
WARM_PART = 0.1


async def singles(api_url: str, posts: int, callers: int, first: int = 1) -> Posted:
    """One job in each request."""
    bodies = [orjson.dumps(job(number)) for number in range(first, first + posts)]
    return await post_all(api_url, "/jobs", bodies, callers)


async def batches(api_url: str, jobs: int, callers: int, first: int = 1, **more: Any) -> Posted:
    """IN_A_BATCH jobs in each request; `more`: fields of each job."""
    bodies = await asyncio.to_thread(lambda: list(_batches(jobs, first, more)))
    return await post_all(api_url, "/jobs/batch", bodies, callers)


def _batches(jobs: int, first: int, more: dict[str, Any]) -> Iterator[bytes]:
    for start in range(first, first + jobs, IN_A_BATCH):
        numbers = range(start, min(start + IN_A_BATCH, first + jobs))
        yield orjson.dumps({"jobs": [job(number) | more for number in numbers]})


async def _watched(jobs: int, pids: dict[str, int], call: Callable[[], Awaitable[Posted]]) -> Figures:
    before = {name: cpu_s([pid]) for name, pid in pids.items()}
    posted = await call()
    spent = {f"{name}_cpu_ms": (cpu_s([pid]) - before[name]) * 1000 / jobs for name, pid in pids.items()}
    return {
        "jobs_per_s": jobs / posted.elapsed_s,
        "post_p50_ms": posted.p50_ms,
        "post_p99_ms": posted.p99_ms,
        **spent,
        "client_cpu_ms": posted.client_cpu_s * 1000 / jobs,
    }


async def _runs(plan: Plan) -> Runs:
    for _ in range(plan.rounds):
        for appendfsync in ("everysec", "always"):
            async with stage(appendfsync) as place:
                env = place.environment(relay_url=f"smtp://127.0.0.1:{free_port()}?tls=none")
                async with mortal_api(env) as (api, client):
                    url, pids = str(client.base_url), {"api": api.pid, "queue_server": place.server.pid}
                    await singles(url, int(plan.singles * WARM_PART), CALLERS)
                    for name, jobs, call in (
                        ("one by one", plan.one_by_one, partial(singles, url, plan.one_by_one, 1)),
                        ("singles", plan.singles, partial(singles, url, plan.singles, CALLERS)),
                        ("batches", plan.batched, partial(batches, url, plan.batched, BATCH_CALLERS)),
                    ):
                        yield Run(f"{name}, {appendfsync}", await _watched(jobs, pids, call))


ACCEPTING = Section(
    "accepts",
    f"Accepted by one API process: posts one by one, singles by {CALLERS} callers, batches of {IN_A_BATCH} by "
    f"{BATCH_CALLERS}",
    _runs,
)
