"""What a measurement runs on: a queue server of its own, reached by TCP as most are, and Postroom's processes."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.mail import SENDER, TEMPLATES, job
from benchmarks.section import Stopped
from cli.embedded import Embedded, embedded_server
from mailer import queue
from mailer.server import parse_queue_url
from mailer.store import keys
from mailer.store.connection import RedisClient, command, connect
from tests.support.processes import environment, free_port, mortal_api, worker_process
from tests.support.waiting import until

IN_A_BATCH = 100
QUIET_WITHIN_S = 120.0
_AT_WORK = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "aof_buffer_length", "rdb_bgsave_in_progress")


@dataclass(frozen=True, slots=True)
class Stage:
    """`redis` is a client of the server that `server` tells of; `folder` is for whatever somebody has to write."""

    redis_url: str
    redis: RedisClient
    server: Embedded
    folder: Path

    def environment(self, relay_url: str, **settings: str) -> dict[str, str]:
        """Of Postroom's processes: what they need to run, and the defaults but for two. `log_level` is warning, since
        no other tool here but Postfix logs each mail; `auth` is off, since no other tool asks for a key."""
        own = {"redis_url": self.redis_url, "smtp_url": relay_url, "from_": SENDER, "auth": "off"}
        return environment(**own, templates_dir=str(TEMPLATES), log_level="warning", **settings)


@asynccontextmanager
async def stage(appendfsync: str = "everysec") -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(embedded_server(folder))
        port = free_port()
        redis = await stack.enter_async_context(connect(parse_queue_url(server.url)))
        for name, value in (("bind", "127.0.0.1"), ("port", port), ("appendfsync", appendfsync)):
            await command(redis, "CONFIG", "SET", name, value)
        scratch = folder / "scratch"
        scratch.mkdir()
        yield Stage(f"redis://127.0.0.1:{port}/0", redis, server, scratch)


@asynccontextmanager
async def workers(env: dict[str, str], processes: int) -> AsyncIterator[list[int]]:
    """Their process ids."""
    async with AsyncExitStack() as stack:
        started = [await stack.enter_async_context(worker_process(env)) for _ in range(processes)]
        yield [one.pid for one in started]


async def post_in_batches(api: httpx.AsyncClient, mails: int, first: int = 1) -> None:
    """Accepted through the front door, by hundreds."""
    for start in range(first, first + mails, IN_A_BATCH):
        jobs = [job(number) for number in range(start, min(start + IN_A_BATCH, first + mails))]
        answer = await api.post("/jobs/batch", json={"jobs": jobs})
        if answer.status_code != httpx.codes.ACCEPTED or answer.json()["rejected"]:
            raise Stopped(f"A batch was not accepted: {answer.status_code} {answer.text[:500]}")


async def fill(env: dict[str, str], mails: int, first: int = 1) -> None:
    """So many jobs in the queue; the API that took them has ended."""
    async with mortal_api(env) as (_, api):
        await post_in_batches(api, mails, first)


async def queued(redis: RedisClient) -> int:
    """Jobs in all queues: waiting, scheduled and under way."""
    return sum([await redis.zcard(name) for name in (*queue.QUEUES.values(), queue.QUARANTINE)])


async def emptied(redis: RedisClient) -> None:
    """Until no job is left: a mail is counted by the relay before its end is written."""

    async def look() -> bool:
        return await queued(redis) == 0

    await until(look, what="the end of all jobs")


async def listening(redis: RedisClient, processes: int) -> None:
    """Until so many workers hear of new jobs."""

    async def look() -> bool:
        return bool((await redis.pubsub_numsub(keys.WAKE))[0][1] == processes)

    await until(look, what="the start of the workers")


async def quiet(redis: RedisClient) -> None:
    """Until the server does nothing of its own: no rewrite of its append-only file, nothing unwritten."""

    async def look() -> bool:
        told: dict[str, Any] = await redis.info("persistence")
        return not any(told.get(name) for name in _AT_WORK)

    await until(look, within_s=QUIET_WITHIN_S, what="the end of the queue server's own work")
