"""What lies between Postroom and its queue server fails: replies are lost, connections cut, nothing passes."""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from cli.embedded import embedded_server
from mailer.store.connection import RedisClient
from tests.faults.conftest import faulty
from tests.support.jobs import INLINE, all_sent, at_relay, each_once, post, reached
from tests.support.processes import api_process, logged, worker_process
from tests.support.proxy import Wire, wire_to
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until

CUTS = 60
MAILS = 400


@pytest.fixture
async def wire(redis: RedisClient, queue_url: str) -> AsyncIterator[Wire]:
    async with wire_to(queue_url) as wire:
        yield wire


REPLIES = {"enqueue": b"accepted", "claim": b"arq:queue", "journal": b"go", "finish": b"finished"}
"""What each script says when it has done something."""


async def test_a_reply_that_is_lost_changes_nothing(
    redis: RedisClient, wire: Wire, relay: ScriptedRelay, log: Path
) -> None:
    env = faulty(wire.url, relay)
    async with api_process(env, log) as api, worker_process(env, log) as worker:
        await reached(api, await post(api), "sent")  # the server knows the scripts now, and runs them by their digests
        for number, (script, saying) in enumerate(REPLIES.items(), start=1):
            wire.lose_reply(script, saying)
            sent = await reached(api, await post(api), "sent")
            assert len(wire.lost) == number, f"the reply to {script} was not lost"
            assert (sent["attempt_count"], sent["unknown_outcomes"]) == (1, 0)
        assert worker.returncode is None
    assert each_once(relay, 1 + len(REPLIES))
    assert len(await redis.keys("postroom:job:*")) == 1 + len(REPLIES)


async def test_connections_cut_by_the_dozen_end_no_process_and_double_no_mail(
    redis: RedisClient, env: dict[str, str], relay: ScriptedRelay, log: Path
) -> None:
    async def cut() -> None:
        for number in range(CUTS):
            kind = "pubsub" if number % 3 == 0 else "normal"
            await redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            await asyncio.sleep(0.05)

    async with (
        api_process(env, log) as api,
        worker_process(env, log) as first,
        worker_process(env, log) as second,
    ):
        cutting = asyncio.create_task(cut())
        lanes = await asyncio.gather(*(insist(api, MAILS // 8) for _ in range(8)))
        job_ids = [job_id for lane in lanes for job_id in lane]
        await cutting
        assert len(set(job_ids)) == MAILS
        await all_sent(api, job_ids)
        assert (first.returncode, second.returncode) == (None, None)
    assert each_once(relay, MAILS)


async def insist(api: httpx.AsyncClient, mails: int) -> list[str]:
    """Post as a careful application does: with a key, and again where the answer says so."""
    job_ids = []
    for _ in range(mails):
        headers = {"Idempotency-Key": uuid.uuid4().hex}

        async def accepted(headers: dict[str, str] = headers) -> str | None:
            answer = await api.post("/jobs", json=INLINE, headers=headers)
            assert answer.status_code in {202, 503}
            return answer.json()["id"] if answer.status_code == 202 else None

        job_ids.append(await until(accepted, what="a 202"))
    return job_ids


async def test_a_server_that_hangs_is_an_error_within_seconds_and_then_over(
    relay: ScriptedRelay, tmp_path: Path, log: Path
) -> None:
    async with embedded_server(tmp_path) as server:
        env = faulty(server.url, relay)
        async with api_process(env, log) as api, worker_process(env, log) as worker:
            await reached(api, await post(api), "sent")
            keys = [{"Idempotency-Key": uuid.uuid4().hex} for _ in range(3)]

            async def is_not_ready() -> bool:
                return (await api.get("/readyz", timeout=5)).status_code == 503

            os.kill(server.pid, signal.SIGSTOP)
            try:
                posts = [api.post("/jobs", json=INLINE, headers=key, timeout=5) for key in keys]
                answers = await asyncio.gather(*posts)
                await until(is_not_ready, what="a readiness that tells of it")
                assert (await api.get("/healthz")).status_code == 200
            finally:
                os.kill(server.pid, signal.SIGCONT)
            assert [answer.status_code for answer in answers] == [503] * 3
            # Whether those were accepted is not known, so they are sent again.
            answers = [await api.post("/jobs", json=INLINE, headers=key) for key in keys]
            await all_sent(api, [answer.json()["id"] for answer in answers])
            assert worker.returncode is None
    assert each_once(relay, 1 + len(keys))


async def test_a_worker_cut_off_for_longer_than_its_lease_leaves_the_mail_to_another(
    redis: RedisClient, wire: Wire, env: dict[str, str], relay: ScriptedRelay, log: Path
) -> None:
    usual_reply = relay.reply

    def reply_once_it_is_cut_off(moment: str, usual: str) -> str:
        if moment == "DATA" and relay.connections == 1:
            wire.block()
        return usual_reply(moment, usual)

    async def knows() -> bool:
        return bool(logged(log, "job.lease_lost") or logged(log, "job.withheld"))

    relay.reply = reply_once_it_is_cut_off  # type: ignore[method-assign]  # the reply stays the relay's
    async with api_process(env, log) as api, worker_process(faulty(wire.url, relay), log) as worker:
        job_id = await post(api)
        await at_relay(relay, "DATA")
        async with worker_process(env, log):
            await reached(api, job_id, "sent")
            wire.unblock()
            await until(knows, what="that the worker learns of its loss")
            await reached(api, await post(api), "sent")
        assert worker.returncode is None
    assert each_once(relay, 2)
    assert await redis.hget(f"postroom:job:{job_id}", "starts") == b"2"
