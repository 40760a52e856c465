"""`make bench`: how long POST /jobs takes while the relay is down. Real processes.

Prints quantiles of 200 posts one after another, as the README's promise is about, and of 50 callers at once.
"""

import asyncio
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from cli.embedded import embedded_server
from tests.support.processes import api_process, environment, free_port, worker_process

POSTS = 200
CALLERS = 50
EVENT = {"event": "user.signed_up", "data": {"id": 42}}


def quantiles(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {name: round(cuts[at] * 1000, 2) for name, at in (("p50_ms", 49), ("p90_ms", 89), ("p99_ms", 98))}


async def timed(call: Callable[[], Awaitable[httpx.Response]]) -> float:
    began = time.perf_counter()
    answer = await call()
    elapsed = time.perf_counter() - began
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
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
    many = [seconds for batch in rounds for seconds in batch]
    return {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "queue_server": f"{server.engine.name} {server.engine.version}, appendfsync always",
        "relay": "down",
        "one_after_another": quantiles(one),
        f"{CALLERS}_at_once": quantiles(many) | {"per_second": round(len(many) / elapsed)},
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure()), indent=2))
