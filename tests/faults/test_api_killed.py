"""An API process dies by kill -9 in the midst of posts: an application that repeats them has each of its mails once."""

import asyncio
import uuid
from pathlib import Path

import httpx

from mailer import queue
from mailer.store.connection import RedisClient
from tests.support.jobs import INLINE, all_sent, each_once
from tests.support.processes import api_process, mortal_api, worker_process
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until

POSTS = 240
ACCEPTED = 20
"""The process is killed as soon as so many stand in the queue: their answers are still on their way."""


async def post_with(api: httpx.AsyncClient, key: str) -> str | None:
    """The job's id; None where no 202 came: then nobody knows whether it was accepted."""
    try:
        answer = await api.post("/jobs", json=INLINE, headers={"Idempotency-Key": key})
    except httpx.TransportError:
        return None
    assert answer.status_code in {202, 503}
    return str(answer.json()["id"]) if answer.status_code == 202 else None


async def test_posts_that_are_repeated_after_a_kill_are_one_job_and_one_mail_each(
    redis: RedisClient, env: dict[str, str], relay: ScriptedRelay, log: Path
) -> None:
    keys = [uuid.uuid4().hex for _ in range(POSTS)]
    async with api_process(env, log) as second:
        async with mortal_api(env, log) as (process, first):

            async def kill() -> None:
                while await redis.zcard(queue.QUEUE) < ACCEPTED:
                    pass
                process.kill()
                await process.wait()

            *answers, _ = await asyncio.gather(*(post_with(first, key) for key in keys), kill())
        answered = {key: job_id for key, job_id in zip(keys, answers, strict=True) if job_id is not None}
        assert len(answered) < POSTS, "it was not killed in the midst of them"

        async def repeated(key: str) -> str:
            return str(await until(lambda: post_with(second, key), what="a 202"))

        job_ids = dict(zip(keys, await asyncio.gather(*map(repeated, keys)), strict=True))
        assert {key: job_ids[key] for key in answered} == answered, "the same key is the same job"
        assert len(set(job_ids.values())) == POSTS
        async with worker_process(env, log):
            await all_sent(second, job_ids.values())
    assert each_once(relay, POSTS)
    assert len(await redis.keys("postroom:job:*")) == POSTS
