"""The queue server answers, but takes no writes: that is told within seconds, nothing is lost, all goes on after."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from cli.embedded import Embedded, embedded_server
from mailer.server import parse_queue_url
from mailer.store.connection import RedisClient, connect
from tests.faults.conftest import faulty
from tests.support.jobs import INLINE, each_once, post, reached
from tests.support.processes import api_process, free_port, logged, worker_process
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until

ALARM_WITHIN_S = 10.0
"""5 s are promised; a machine that is busy with tests may double it."""


@dataclass(frozen=True, slots=True)
class Fault:
    alarm: str
    begin: Callable[[RedisClient, Embedded], Awaitable[object]]
    end: Callable[[RedisClient, Embedded], Awaitable[object]]
    finishes: bool = False
    """Whether the end of a mail is recorded meanwhile."""


async def read_only(redis: RedisClient, _: Embedded) -> None:
    await redis.replicaof("127.0.0.1", 1)  # nobody there


async def primary_again(redis: RedisClient, _: Embedded) -> None:
    await redis.replicaof("NO", "ONE")


async def fill_memory(redis: RedisClient, _: Embedded) -> None:
    await redis.config_set("maxmemory", 1)


async def free_memory(redis: RedisClient, _: Embedded) -> None:
    await redis.config_set("maxmemory", 0)


async def break_disk(redis: RedisClient, server: Embedded) -> None:
    (server.data_dir / "dump.rdb" / "in-the-way").mkdir(parents=True)
    await redis.config_set("save", "900 1")
    await redis.bgsave()


async def mend_disk(redis: RedisClient, server: Embedded) -> None:
    (server.data_dir / "dump.rdb" / "in-the-way").rmdir()
    (server.data_dir / "dump.rdb").rmdir()
    await redis.bgsave()


FAULTS = {
    "READONLY": Fault("queue.read_only", read_only, primary_again),
    "OOM": Fault("queue.out_of_memory", fill_memory, free_memory, finishes=True),
    "MISCONF": Fault("queue.disk_failing", break_disk, mend_disk),
}


async def readiness(client: httpx.AsyncClient, url: str, status: int) -> dict[str, str]:
    """The alarms that /readyz tells, once it answers with `status`."""

    async def look() -> httpx.Response | None:
        answer = await client.get(url)
        return answer if answer.status_code == status else None

    answer = await until(look, within_s=ALARM_WITHIN_S, what=f"{status} at {url}")
    alarms: dict[str, str] = answer.json()["alarms"]
    return alarms


async def is_told(log: Path, alarm: str) -> None:
    async def look() -> bool:
        return {line["process"] for line in logged(log, alarm)} == {"api", "worker"}

    await until(look, within_s=ALARM_WITHIN_S, what=f"{alarm} in both logs")


@pytest.mark.parametrize("name", FAULTS)
async def test_it_is_told_at_once_and_all_goes_on_afterwards(
    relay: ScriptedRelay, tmp_path: Path, log: Path, name: str
) -> None:
    fault = FAULTS[name]
    at_dot, answered = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        at_dot.set()
        await answered.wait()

    relay.before_dot = hold
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(embedded_server(tmp_path))
        redis = await stack.enter_async_context(connect(parse_queue_url(server.url)))
        env = faulty(server.url, relay, worker_port=str(free_port()))
        api = await stack.enter_async_context(api_process(env, log))
        worker = await stack.enter_async_context(worker_process(env, log))
        places = ("/readyz", f"http://127.0.0.1:{env['POSTROOM_WORKER_PORT']}/readyz")
        job_id = await post(api)
        await asyncio.wait_for(at_dot.wait(), 15)

        await fault.begin(redis, server)
        await is_told(log, fault.alarm)
        for place in places:
            assert fault.alarm in await readiness(api, place, 503)
        refused = await api.post("/jobs", json=INLINE)
        assert refused.status_code == 503
        assert refused.json()["code"] in {"queue_unavailable", "overloaded"}, (
            "the latter where its memory was seen to fill"
        )
        answered.set()
        if fault.finishes:
            await reached(api, job_id, "sent")

        await fault.end(redis, server)
        await reached(api, job_id, "sent")
        for place in places:
            assert fault.alarm not in await readiness(api, place, 200)
        await reached(api, await post(api), "sent")
        assert worker.returncode is None
    assert each_once(relay, 2)
