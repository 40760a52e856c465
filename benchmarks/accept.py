"""`make bench`: how long POST /jobs takes while the relay is down, and while the queue server says nothing. Then how
many jobs one API process accepts.

Real processes. Prints quantiles of 200 posts one after another, and of 50 callers at once; then the server is stopped
(SIGSTOP) and 50 callers wait for their 503, which is promised within 2 s. Then, with no worker, on a server that syncs
each second and on one that syncs each write: 50 callers post single jobs, and 4 post batches of 100.
"""

import asyncio
import json
import os
import platform
import signal
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from benchmarks.accepting import batches, singles
from benchmarks.figures import cpu_s
from benchmarks.load import Figures
from benchmarks.stage import stage
from cli.embedded import embedded_server
from tests.support.processes import api_process, environment, free_port, mortal_api, worker_process

POSTS = 200
CALLERS = 50
SINGLES, BATCHED, BATCH_CALLERS = 5000, 20_000, 4
EVENT = {"event": "user.signed_up", "data": {"id": 42}}


def quantiles(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {name: round(cuts[at] * 1000, 2) for name, at in (("p50_ms", 49), ("p90_ms", 89), ("p99_ms", 98))}


async def timed(call: Callable[[], Awaitable[httpx.Response]], expected: int = httpx.codes.ACCEPTED) -> float:
    began = time.perf_counter()
    answer = await call()
    elapsed = time.perf_counter() - began
    assert answer.status_code == expected, answer.text
    return elapsed


async def measure() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        async with embedded_server(Path(folder)) as server:
            env = environment(
                redis_url=server.url,
                smtp_url=f"smtp://127.0.0.1:{free_port()}?tls=none",
                source_app="http://127.0.0.1:1",
                from_="hello@postroom.example",
                auth="off",
            )
            async with api_process(env) as api, worker_process(env):

                def post() -> Awaitable[httpx.Response]:
                    return api.post("/jobs", json=EVENT)

                for _ in range(20):
                    await timed(post)
                one = [await timed(post) for _ in range(POSTS)]
                began = time.perf_counter()
                rounds = [await asyncio.gather(*(timed(post) for _ in range(CALLERS))) for _ in range(POSTS // CALLERS)]
                elapsed = time.perf_counter() - began
                os.kill(server.pid, signal.SIGSTOP)
                try:
                    refusals = await asyncio.gather(
                        *(timed(post, httpx.codes.SERVICE_UNAVAILABLE) for _ in range(CALLERS))
                    )
                finally:
                    os.kill(server.pid, signal.SIGCONT)
    many = [seconds for batch in rounds for seconds in batch]
    return {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "queue_server": f"{server.engine.name} {server.engine.version}, appendfsync always",
        "relay": "down",
        "one_after_another": quantiles(one),
        f"503_to_{CALLERS}_at_once_by_a_silent_server": {"max_ms": round(max(refusals) * 1000)},
        f"{CALLERS}_at_once": quantiles(many) | {"per_second": round(len(many) / elapsed)},
    }


async def watched(jobs: int, pids: dict[str, int], call: Awaitable[Figures]) -> dict[str, float]:
    """The rate of a call that has so many jobs accepted, and the CPU seconds per 1,000 of them by process."""
    before = {name: cpu_s([pid]) for name, pid in pids.items()}
    found = await call
    cpu = {
        f"{name}_cpu_s_per_1000": round((cpu_s([pid]) - before[name]) * 1000 / jobs, 3) for name, pid in pids.items()
    }
    client = {"client_cpu_s_per_1000": round(found.client_cpu_s * 1000 / jobs, 3)}
    return {"per_second": round(jobs / found.elapsed_s), "p50_ms": found.p50_ms, "p99_ms": found.p99_ms} | cpu | client


async def rates(appendfsync: str) -> dict[str, dict[str, float]]:
    async with stage(appendfsync) as place:
        env = place.environment(relay_url=f"smtp://127.0.0.1:{free_port()}?tls=none")
        async with mortal_api(env) as (api, client):
            url, pids = str(client.base_url), {"api": api.pid, "queue_server": place.server.pid}
            await singles(url, SINGLES // 10, CALLERS)
            return {
                "singles": await watched(SINGLES, pids, singles(url, SINGLES, CALLERS)),
                "batches_of_100": await watched(BATCHED, pids, batches(url, BATCHED, BATCH_CALLERS)),
            }


async def everything() -> dict[str, object]:
    return await measure() | {f"accepts_appendfsync_{name}": await rates(name) for name in ("everysec", "always")}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(everything()), indent=2))
