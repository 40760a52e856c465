"""An API that is told to stop: whoever waits in it has an answer, and nothing is cut off."""

import asyncio
from pathlib import Path

import httpx

from mailer.store.connection import RedisClient
from tests.support.jobs import INLINE, post
from tests.support.processes import mortal_api
from tests.support.waiting import until

EVENTS = {"Accept": "text/event-stream"}


async def test_a_stream_ends_and_a_waiting_request_is_accepted(
    redis: RedisClient, env: dict[str, str], log: Path
) -> None:
    async with mortal_api(env, log) as (process, api):
        job_id = await post(api, send_at="2035-01-01T00:00:00Z")
        waiting = asyncio.create_task(api.post("/jobs", json=INLINE, headers={"Prefer": "wait=60"}, timeout=70))
        async with api.stream("GET", f"/jobs/{job_id}/history", headers=EVENTS) as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "event: accepted"

            async def are_both_there() -> bool:
                return bool(await redis.zcard("arq:queue") == 2)

            await until(are_both_there, what="the second job")
            process.terminate()
            rest = [line async for line in lines]
        assert "event: end" not in rest, "the job goes on"
        assert (await waiting).status_code == httpx.codes.ACCEPTED
        async with asyncio.timeout(10):
            await process.wait()
    assert "Traceback" not in log.read_text()  # noqa: ASYNC240 - a test's own file
