"""The queue server goes away and comes back: nothing accepted is lost, and API and worker go on by themselves."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from cli.embedded import Embedded, embedded_server
from mailer.server import parse_queue_url
from mailer.store.connection import connect
from tests.faults.conftest import LEASE_S, faulty
from tests.support.jobs import INLINE, all_sent, each_once, post, reached
from tests.support.processes import api_process, free_port, logged, worker_process
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until


@dataclass
class House:
    """API and worker on a queue server of their own. `servers`: they end after the processes that stand on them."""

    servers: AsyncExitStack
    server: Embedded
    folder: Path
    api: httpx.AsyncClient
    worker: asyncio.subprocess.Process
    ready: tuple[str, str]

    async def kill_server(self) -> None:
        os.kill(self.server.pid, signal.SIGKILL)
        await self.is_ready(status=503)

    async def start_server(self) -> None:
        self.server = await self.servers.enter_async_context(embedded_server(self.folder))

    async def is_ready(self, status: int = 200, alarm: str | None = None) -> None:
        """Until API and worker say so, with this alarm."""
        for url in self.ready:

            async def look(url: str = url) -> bool:
                answer = await self.api.get(url)
                return answer.status_code == status and (alarm is None or alarm in answer.json()["alarms"])

            await until(look, what=f"{status} {alarm or ''} at {url}")


@asynccontextmanager
async def house(relay: ScriptedRelay, folder: Path, log: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as servers:
        server = await servers.enter_async_context(embedded_server(folder))
        env = faulty(server.url, relay, worker_port=str(free_port()))
        ready = ("/readyz", f"http://127.0.0.1:{env['POSTROOM_WORKER_PORT']}/readyz")
        async with api_process(env, log) as api, worker_process(env, log) as worker:
            yield House(servers, server, folder, api, worker, ready)


async def test_what_was_accepted_survives_a_kill_of_the_server(relay: ScriptedRelay, tmp_path: Path, log: Path) -> None:
    async with embedded_server(tmp_path) as server:
        env = faulty(server.url, relay)
        async with api_process(env, log) as api:
            job_ids = [await post(api) for _ in range(30)]
            os.kill(server.pid, signal.SIGKILL)
            answer = await api.post("/jobs", json=INLINE)
            assert (answer.status_code, answer.json()["code"]) == (503, "queue_unavailable")
            async with embedded_server(tmp_path), worker_process(env, log):
                await all_sent(api, job_ids)
    assert each_once(relay, 30)


async def test_api_and_worker_ride_out_a_restart_and_tell(relay: ScriptedRelay, tmp_path: Path, log: Path) -> None:
    async with house(relay, tmp_path, log) as it:
        await reached(it.api, await post(it.api), "sent")
        await it.is_ready()
        await it.kill_server()
        await it.start_server()
        await it.is_ready()
        await reached(it.api, await post(it.api), "sent")
        assert it.worker.returncode is None
    assert each_once(relay, 2)
    assert {line["process"] for line in logged(log, "queue.unavailable")} == {"api", "worker"}
    assert {line["process"] for line in logged(log, "queue.recovered")} == {"api", "worker"}


async def test_a_mail_that_was_sent_while_the_server_was_away_is_recorded_and_not_sent_again(
    relay: ScriptedRelay, tmp_path: Path, log: Path
) -> None:
    at_dot, answered = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        at_dot.set()
        await answered.wait()

    relay.before_dot = hold
    async with house(relay, tmp_path, log) as it:
        job_id = await post(it.api)
        await asyncio.wait_for(at_dot.wait(), 15)
        await it.kill_server()
        answered.set()
        await asyncio.sleep(1.5 * LEASE_S)  # the fault itself: the server is away for longer than the lease
        await it.start_server()
        sent = await reached(it.api, job_id, "sent")
        assert it.worker.returncode is None
    assert sent["unknown_outcomes"] == 0
    assert each_once(relay, 1)


@pytest.mark.parametrize("how", ["emptied", "lost its file"])
async def test_a_server_that_comes_back_empty_is_noticed(
    relay: ScriptedRelay, tmp_path: Path, log: Path, how: str
) -> None:
    async with house(relay, tmp_path, log) as it:
        await reached(it.api, await post(it.api), "sent")
        await it.is_ready()
        if how == "emptied":
            async with connect(parse_queue_url(it.server.url)) as redis:
                await redis.flushall()
        else:
            await it.kill_server()
            shutil.rmtree(it.server.data_dir / "appendonlydir")
            await it.start_server()
        await it.is_ready(alarm="queue.data_set_changed")
        await reached(it.api, await post(it.api), "sent")
    assert {line["process"] for line in logged(log, "queue.data_set_changed")} == {"api", "worker"}


async def test_a_worker_that_is_stopped_ends_though_its_server_is_gone(
    relay: ScriptedRelay, tmp_path: Path, log: Path
) -> None:
    async with house(relay, tmp_path, log) as it:
        await reached(it.api, await post(it.api), "sent")
        await it.kill_server()
        it.worker.terminate()
        assert await asyncio.wait_for(it.worker.wait(), 20) == 0
