"""POST /jobs answers at once, whatever the relay does; the mail follows, once, with the newest data."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.embedded import embedded_server
from mailer.server import parse_queue_url
from mailer.store.connection import connect
from tests.support.processes import BIN, api_process, environment, process, worker_process
from tests.support.smtp import HANG, ScriptedRelay, scripted_relay
from tests.support.source import Application
from tests.support.waiting import until

EVENT = {"event": "user.signed_up", "data": {"id": 42}}


async def job(api: httpx.AsyncClient, location: str) -> dict[str, Any]:
    answer: dict[str, Any] = (await api.get(location)).json()
    return answer


async def reached(api: httpx.AsyncClient, location: str, status: str, within_s: float = 15) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found = await job(api, location)
        return found if found["status"] == status else None

    return await until(look, what=f"status {status}", within_s=within_s)


@pytest.mark.timeout(150)
async def test_a_relay_that_is_down_holds_nobody_up_and_loses_nothing(settings: dict[str, str], log: Path) -> None:
    """It is left alone for half a minute once it has failed for a while; no mail counts that as an attempt."""
    async with scripted_relay() as other:
        port = other.port
    env = settings | {"POSTROOM_SMTP_URL": f"smtp://127.0.0.1:{port}?tls=none"}  # nobody listens there now
    async with api_process(env, log) as api, worker_process(env, log):
        answers = [await api.post("/jobs", json=EVENT) for _ in range(200)]
        assert Counter(answer.status_code for answer in answers) == {202: 200}
        locations = [answer.headers["location"] for answer in answers]
        deferred = await reached(api, locations[0], "deferred")
        assert deferred["next_attempt_at"] > deferred["created_at"]
        assert deferred["attempts"][0]["phase"] == "connect"
        async with scripted_relay(relay := ScriptedRelay(), port=port):
            await reached(api, locations[0], "sent", within_s=90)
            for location in locations:
                sent = await reached(api, location, "sent")
                assert sent["attempt_count"] <= 3
            ids = Counter(
                line for mail in relay.received for line in mail.content.split(b"\r\n") if b"Message-ID" in line
            )
            assert len(ids) == 200
            assert set(ids.values()) == {1}


async def test_the_mail_carries_the_name_the_user_has_when_it_is_sent(
    settings: dict[str, str], relay: ScriptedRelay, app_source: Application, log: Path
) -> None:
    async with api_process(settings, log) as api:
        location = (await api.post("/jobs", json=EVENT)).headers["location"]
        assert (await job(api, location))["recipients"] is None
        app_source.answers["/users/42"] |= {"name": "Ada King"}
        async with worker_process(settings, log):
            sent = await reached(api, location, "sent")
    assert sent["recipients"][0]["name"] == "Ada King"
    assert b"Ada King" in relay.received[0].content


async def test_a_refused_recipient_fails_at_the_first_attempt(
    settings: dict[str, str], relay: ScriptedRelay, log: Path
) -> None:
    relay.script["RCPT"] = ["550 5.1.1 No such user"]
    async with api_process(settings, log) as api, worker_process(settings, log):
        location = (await api.post("/jobs", json=EVENT)).headers["location"]
        failed = await reached(api, location, "failed")
    assert (failed["reason"], failed["attempt_count"], failed["detail"]) == ("refused", 1, "No such user")
    assert failed["recipients"][0]["reply"] == {"code": 550, "enhanced": "5.1.1", "text": "No such user"}


async def test_api_and_worker_read_a_password_alike(relay: ScriptedRelay, tmp_path: Path, log: Path) -> None:
    async with embedded_server(tmp_path) as server:
        async with connect(parse_queue_url(server.url)) as redis:
            await redis.config_set("requirepass", "p@ss/w:rd")
        env = environment(
            redis_url=server.url.replace("unix://", "unix://:p%40ss%2Fw%3Ard@"),
            smtp_url=relay.url,
            from_="hello@postroom.example",
            auth="off",
        )
        async with api_process(env, log) as api, worker_process(env, log):
            mail = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi"}
            await reached(api, (await api.post("/jobs", json=mail)).headers["location"], "sent")
    assert len(relay.received) == 1


async def test_arq_finds_the_worker_healthy(settings: dict[str, str], log: Path) -> None:
    async def check() -> bool:
        async with process(str(BIN / "arq"), "--check", "worker.WorkerSettings", env=settings, log=log) as child:
            return await child.wait() == 0

    assert not await check()
    async with worker_process(settings, log):
        await until(check, what="a healthy check")

    async def is_missed() -> bool:
        return not await check()

    await until(is_missed, what="the end of its health")


async def test_what_arq_leaves_behind_is_nothing(
    settings: dict[str, str], relay: ScriptedRelay, log: Path, redis: Any
) -> None:
    async with api_process(settings, log) as api, worker_process(settings, log):
        locations = [(await api.post("/jobs", json=EVENT)).headers["location"] for _ in range(5)]
        for location in locations:
            await reached(api, location, "sent")

        async def queue_is_empty() -> bool:
            return not await redis.keys("arq:job:*") and not await redis.keys("arq:queue")

        await until(queue_is_empty, what="an empty queue")
    leftovers = {key: await redis.ttl(key) for key in await redis.keys("*")}
    ours = [b"postroom:epoch", b"postroom:jobs:sent", b"postroom:workers"]
    assert sorted(key for key, ttl in leftovers.items() if ttl < 0) == ours


async def test_a_worker_that_is_stopped_waits_for_relays_that_have_a_whole_mail(
    settings: dict[str, str], relay: ScriptedRelay, log: Path
) -> None:
    whole, answer = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        whole.set()
        await answer.wait()

    relay.before_dot = hold
    async with api_process(settings, log) as api:
        async with worker_process(settings, log) as worker:
            locations = [(await api.post("/jobs", json=EVENT)).headers["location"] for _ in range(40)]
            await whole.wait()
            worker.terminate()
            await until(lambda: is_said(log, "worker.stopping"), what="the worker's stop")
            answer.set()
            assert await asyncio.wait_for(worker.wait(), 30) == 0
        jobs = [await job(api, location) for location in locations]
        assert [item["status"] for item in jobs].count("sent") == len(relay.received) > 0
        assert {item["status"] for item in jobs} <= {"sent", "queued"}
        async with worker_process(settings, log):
            for location in locations:
                await reached(api, location, "sent")
    assert len(relay.received) == 40


async def is_said(log: Path, event: str) -> bool:
    return event in await asyncio.to_thread(log.read_text)


async def test_a_worker_that_is_stopped_gives_back_at_once_what_no_relay_has(
    settings: dict[str, str], relay: ScriptedRelay, log: Path
) -> None:
    relay.script["RCPT"] = [HANG, "250 ok"]
    async with api_process(settings, log) as api:
        async with worker_process(settings, log) as worker:
            location = (await api.post("/jobs", json=EVENT)).headers["location"]
            await until(lambda: is_asked(relay, "RCPT"), what="a conversation that hangs")
            worker.terminate()
            assert await asyncio.wait_for(worker.wait(), 5) == 0
        assert ((given := await job(api, location))["status"], given["attempt_count"]) == ("queued", 0)
        async with worker_process(settings, log):
            assert (await reached(api, location, "sent"))["attempt_count"] == 1
    assert len(relay.received) == 1


async def is_asked(relay: ScriptedRelay, verb: str) -> bool:
    return any(command.startswith(verb) for command in relay.commands)
