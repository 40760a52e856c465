"""The queue server is killed and comes back: nothing accepted is lost, and API and worker go on by themselves."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from cli.embedded import embedded_server
from tests.support.processes import api_process, environment, worker_process
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until

INLINE = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi"}


def settings(url: str, relay: ScriptedRelay) -> dict[str, str]:
    return environment(redis_url=url, smtp_url=relay.url, from_="hello@postroom.example", auth="off")


async def status_of(api: httpx.AsyncClient, location: str) -> str:
    return str((await api.get(location)).json().get("status"))


async def test_what_was_accepted_survives_a_kill_of_the_server(relay: ScriptedRelay, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with embedded_server(tmp_path) as server:
        env = settings(server.url, relay)
        async with api_process(env, log) as api:
            locations = [(await api.post("/jobs", json=INLINE)).headers["location"] for _ in range(30)]
            os.kill(server.pid, signal.SIGKILL)
            answer = await api.post("/jobs", json=INLINE)
            assert (answer.status_code, answer.json()["code"]) == (503, "queue_unavailable")
            async with embedded_server(tmp_path), worker_process(env, log):
                for location in locations:
                    await until(lambda where=location: is_sent(api, where), what=f"{location} sent")
    assert len(relay.received) == 30


async def is_sent(api: httpx.AsyncClient, location: str) -> bool:
    return await status_of(api, location) == "sent"


async def test_a_mail_that_was_sent_while_the_server_was_away_is_recorded_and_not_sent_again(
    relay: ScriptedRelay, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    hold, at_dot = asyncio.Event(), asyncio.Event()
    relay.before_dot = lambda: hold_until(at_dot, hold)
    async with AsyncExitStack() as servers:
        server = await servers.enter_async_context(embedded_server(tmp_path))
        env = settings(server.url, relay)
        async with api_process(env, log) as api, worker_process(env, log) as worker:
            location = (await api.post("/jobs", json=INLINE)).headers["location"]
            await asyncio.wait_for(at_dot.wait(), 15)
            os.kill(server.pid, signal.SIGKILL)
            hold.set()
            await asyncio.sleep(11)  # the fault itself: longer than a short restart
            await servers.enter_async_context(embedded_server(tmp_path))
            await until(lambda: is_sent(api, location), what="the record of the mail", within_s=30)
            assert worker.returncode is None, log.read_text()
    assert len(relay.received) == 1


async def hold_until(reached: asyncio.Event, go_on: asyncio.Event) -> None:
    reached.set()
    await go_on.wait()


async def test_a_worker_rides_out_a_restart_of_the_server(relay: ScriptedRelay, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with AsyncExitStack() as servers:  # the servers end after the processes that stand on them
        server = await servers.enter_async_context(embedded_server(tmp_path))
        env = settings(server.url, relay)
        async with api_process(env, log) as api, worker_process(env, log) as worker:
            first = (await api.post("/jobs", json=INLINE)).headers["location"]
            await until(lambda: is_sent(api, first), what="the first mail")
            os.kill(server.pid, signal.SIGKILL)
            await asyncio.sleep(1)  # the server is away for a while; there is nothing to look at meanwhile
            await servers.enter_async_context(embedded_server(tmp_path))
            second = (await api.post("/jobs", json=INLINE)).headers["location"]
            await until(lambda: is_sent(api, second), what="the second mail")
            assert worker.returncode is None
    assert len(relay.received) == 2


async def test_a_worker_that_is_stopped_ends_though_its_server_is_gone(relay: ScriptedRelay, tmp_path: Path) -> None:
    async with AsyncExitStack() as servers:
        server = await servers.enter_async_context(embedded_server(tmp_path))
        env = settings(server.url, relay)
        async with api_process(env, tmp_path / "log") as api, worker_process(env, tmp_path / "log") as worker:
            location = (await api.post("/jobs", json=INLINE)).headers["location"]
            await until(lambda: is_sent(api, location), what="a mail, so that the worker is at work")
            os.kill(server.pid, signal.SIGKILL)
            worker.terminate()
            async with asyncio.timeout(45):  # the patience of mailer.queue, and some more
                await worker.wait()
