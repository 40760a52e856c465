"""How soon a mail starts and is sent on an idle system, and how often the queue server is called.

Real processes: API, two workers, embedded Valkey (`appendfsync always`), an SMTP server that answers at once. First 300
jobs at 10 a second; then 3,000 posted by 50 callers as fast as they are accepted. Calls are the clients' round trips,
counted by the server (INFO commandstats: scripts, INFO, SCAN), those of the watch and of signs of life too. A few of
the reconciler's each 5 s (GET, SET) are not: they cannot be told from those that scripts make.
"""

import asyncio
import json
import platform
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks.sink import Sink, sink_server
from cli.embedded import embedded_server
from mailer.server import parse_queue_url
from mailer.store import keys
from mailer.store.connection import RedisClient, connect
from tests.support.processes import api_process, environment, worker_process

PACED, RATE = 300, 10
SATURATING, CALLERS = 3000, 50
PATIENCE_S = 120
BODY = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi Ada,\n\n" + "a line of text\n" * 40}


def quantiles(milliseconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(milliseconds, n=100, method="inclusive")
    return {name: round(cuts[at], 2) for name, at in (("p50_ms", 49), ("p90_ms", 89), ("p99_ms", 98))}


async def calls(redis: RedisClient) -> int:
    """Round trips of clients so far: scripts run, and the few commands that no script calls."""
    stats: dict[str, Any] = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval", "info", "scan"))


async def until_sent(sink: Sink, job_ids: list[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not sink.taken.keys() >= set(job_ids):
        assert time.monotonic() < deadline, "the mails did not arrive"
        await asyncio.sleep(0.02)


async def post(api: httpx.AsyncClient) -> str:
    answer = await api.post("/jobs", json=BODY)
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
    return str(answer.json()["id"])


async def idle(api: httpx.AsyncClient, sink: Sink) -> dict[str, Any]:
    """One mail at a time. To the start: by the server's clock, whole milliseconds."""
    posted: dict[str, float] = {}
    for _ in range(20):
        await post(api)
    for _ in range(PACED):
        began = time.perf_counter()
        posted[await post(api)] = began
        await asyncio.sleep(max(0.0, 1 / RATE - (time.perf_counter() - began)))
    await until_sent(sink, list(posted))
    records = [(await api.get(f"/jobs/{job_id}")).json() for job_id in posted]
    starts = [_ms(record["attempts"][0]["at"]) - _ms(record["created_at"]) for record in records]
    return {
        "enqueue_to_start": quantiles(starts),
        "post_to_250": quantiles([(sink.taken[job_id] - began) * 1000 for job_id, began in posted.items()]),
    }


def _ms(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp() * 1000


async def saturated(api: httpx.AsyncClient, sink: Sink, redis: RedisClient) -> dict[str, Any]:
    before, copies, began = await calls(redis), sink.copies, time.perf_counter()
    left = iter(range(SATURATING))

    async def caller() -> list[str]:
        return [await post(api) for _ in left]

    job_ids = [job_id for ids in await asyncio.gather(*(caller() for _ in range(CALLERS))) for job_id in ids]
    await until_sent(sink, job_ids)
    elapsed = time.perf_counter() - began
    assert sink.copies - copies == SATURATING, "the sink counted other than was sent"
    while await redis.zcard("arq:queue"):  # noqa: ASYNC110 - the queue is another process's
        await asyncio.sleep(0.02)
    return {
        "mails_per_second": round(SATURATING / elapsed),
        "client_calls_per_mail": round((await calls(redis) - before) / SATURATING, 2),
    }


@asynccontextmanager
async def system() -> AsyncIterator[tuple[httpx.AsyncClient, Sink, RedisClient, str]]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(embedded_server(folder))
        sink = await stack.enter_async_context(sink_server())
        redis = await stack.enter_async_context(connect(parse_queue_url(server.url)))
        env = environment(
            redis_url=server.url, smtp_url=sink.url, from_="hello@postroom.example", auth="off", log_level="warning"
        )
        api = await stack.enter_async_context(api_process(env))
        for _ in range(2):
            await stack.enter_async_context(worker_process(env))
        while (await redis.pubsub_numsub(keys.WAKE))[0][1] < 2:  # noqa: ASYNC110 - until both workers listen
            await asyncio.sleep(0.02)
        yield api, sink, redis, f"{server.engine.name} {server.engine.version}, appendfsync always"


async def measure() -> dict[str, Any]:
    async with system() as (api, sink, redis, engine):
        return {
            "machine": f"{platform.machine()}, Python {platform.python_version()}",
            "queue_server": engine,
            "idle": await idle(api, sink),
            "saturated": await saturated(api, sink, redis),
        }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure()), indent=2))
