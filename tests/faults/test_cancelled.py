"""A thousand cancels against a busy worker: each job is sent or cancelled, and the record agrees with the relay."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import httpx

from tests.support.jobs import copies, job, post
from tests.support.processes import api_process, worker_process
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until

CANCELS = 1000
CALLERS = 20
LONGEST_S = 0.05
"""A mail takes a few hundredths of a second here: the cancel comes anywhere between its POST and after its end."""


async def test_exactly_one_of_sent_or_cancelled_comes_of_each(
    env: dict[str, str], relay: ScriptedRelay, log: Path
) -> None:
    relay.before_dot = lambda: asyncio.sleep(random.uniform(0, 0.01))
    answers: dict[str, int] = {}

    async def call(api: httpx.AsyncClient) -> None:
        for _ in range(CANCELS // CALLERS):
            job_id = await post(api)
            await asyncio.sleep(random.uniform(0, LONGEST_S))
            answers[job_id] = (await api.post(f"/jobs/{job_id}/cancel")).status_code

    async with api_process(env, log) as api, worker_process(env, log):
        await asyncio.gather(*(call(api) for _ in range(CALLERS)))
        ends = {job_id: await end_of(api, job_id) for job_id in answers}
    arrived = {message_id.decode().strip("<>").partition("@")[0]: times for message_id, times in copies(relay).items()}
    assert set(Counter(ends.values())) == {"sent", "cancelled"}
    assert {job_id: 1 for job_id, end in ends.items() if end == "sent"} == arrived
    assert {job_id: 200 if end == "cancelled" else 409 for job_id, end in ends.items()} == answers


async def end_of(api: httpx.AsyncClient, job_id: str) -> str:
    async def look() -> str | None:
        status = str((await job(api, job_id))["status"])
        return status if status in {"sent", "cancelled"} else None

    return await until(look, what=f"{job_id} sent or cancelled")
