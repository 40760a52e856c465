"""A hundred callers with one Idempotency-Key, while an API and a worker are killed: one job, one mail, one answer."""

import asyncio
from pathlib import Path

import httpx

from mailer.store.connection import RedisClient
from tests.support.jobs import INLINE, all_sent, each_once
from tests.support.processes import api_process, mortal_api, worker_process, workers_at_work
from tests.support.smtp import ScriptedRelay

CALLERS = 100
KEY = {"Idempotency-Key": "order-1042"}


async def post(api: httpx.AsyncClient) -> bytes | None:
    """The answer; None where none came."""
    try:
        answer = await api.post("/jobs", json=INLINE, headers=KEY)
    except httpx.TransportError:
        return None
    assert answer.status_code == 202, answer.text
    return answer.content


async def test_they_have_one_job_one_mail_and_identical_answers(
    redis: RedisClient, env: dict[str, str], relay: ScriptedRelay, log: Path
) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def wait(moment: str) -> None:
        if moment == "DATA":
            arrived.set()
            await go_on.wait()

    relay.before_reply = wait
    async with api_process(env, log) as second, mortal_api(env, log) as (process, first):
        async with workers_at_work(1, env, log) as (worker,):
            callers = [asyncio.create_task(post(api)) for api in (first, second) for _ in range(CALLERS // 2)]
            await asyncio.wait(callers, return_when=asyncio.FIRST_COMPLETED)
            process.kill()
            answers = {answer for answer in await asyncio.gather(*callers) if answer is not None}
            await arrived.wait()
            worker.kill()
            await worker.wait()
        go_on.set()
        answers |= {await post(second) for _ in range(10)}
        assert len(answers) == 1, "the same to all of them"
        other = await second.post("/jobs", json=INLINE | {"subject": "Another"}, headers=KEY)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        jobs = (await second.get("/jobs")).json()["data"]
        assert len(jobs) == 1
        async with worker_process(env, log):
            await all_sent(second, [jobs[0]["id"]])
    assert each_once(relay, 1)
