"""Back-pressure over HTTP: 503 with Retry-After before anything breaks, and nothing else stops."""

import httpx
import pytest

from mailer import queue
from mailer.jobs import Status, Stream
from mailer.settings import MailerSettings
from mailer.store import keys
from mailer.store.connection import RedisClient
from tests.conftest import served
from tests.integration.test_controls import JOB
from tests.support.jobs import post
from tests.support.waiting import until

KEY = {"Idempotency-Key": "one"}


async def accepted(redis: RedisClient) -> int:
    return int(await redis.zcard(keys.jobs(Status.PENDING)))


@pytest.fixture
async def waiting(api: httpx.AsyncClient, redis: RedisClient) -> str:
    """A job of the stream bulk that is due for two minutes."""
    answer = await api.post("/jobs", json=JOB | {"stream": "bulk"}, headers=KEY)
    job_id = str(answer.json()["id"])
    await redis.zincrby(queue.QUEUES[Stream.BULK], -120_000, job_id)
    return job_id


async def test_a_stream_whose_oldest_job_waits_for_too_long_takes_no_more_and_the_others_do(
    waiting: str, redis: RedisClient, mailer_settings: MailerSettings
) -> None:
    async with served(mailer_settings, auth="off", max_wait_s='{"bulk": 60}') as api:
        refused = await api.post("/jobs", json=JOB | {"stream": "bulk"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
        assert refused.json()["code"] == "overloaded"
        assert "bulk" in refused.json()["detail"]
        assert await accepted(redis) == 1
        again = await api.post("/jobs", json=JOB | {"stream": "bulk"}, headers=KEY)
        assert (again.status_code, again.json()["id"]) == (202, waiting), "what was accepted keeps its answer"
        await post(api)
        batch = await api.post("/jobs/batch", json={"jobs": [JOB | {"stream": "bulk"}, JOB]})
        assert batch.json()["results"][0]["problem"]["code"] == "overloaded"
        assert (batch.status_code, batch.json()["accepted"]) == (202, 1)
        full = await api.post("/jobs/batch", json={"jobs": [JOB | {"stream": "bulk"}] * 2})
        assert (full.status_code, full.headers["retry-after"]) == (503, "30")
        assert (await api.get("/readyz")).status_code == 200


async def test_it_takes_them_again_once_the_queue_is_shorter(
    waiting: str, redis: RedisClient, mailer_settings: MailerSettings
) -> None:
    async with served(mailer_settings, auth="off", max_wait_s='{"bulk": 60}') as api:

        async def is_accepted() -> bool:
            return (await api.post("/jobs", json=JOB | {"stream": "bulk"})).status_code == 202

        assert not await is_accepted()
        assert (await api.post(f"/jobs/{waiting}/cancel")).status_code == 200
        await until(is_accepted, what="a 202")


async def test_a_paused_stream_goes_on_being_accepted(
    waiting: str, api: httpx.AsyncClient, mailer_settings: MailerSettings
) -> None:
    """Somebody wants its jobs to wait."""
    await api.post("/streams/bulk/pause")
    async with served(mailer_settings, auth="off", max_wait_s='{"bulk": 60}') as other:
        await post(other, stream="bulk")


async def test_a_queue_server_whose_memory_is_nearly_full_is_given_no_more_and_what_is_there_goes_on(
    waiting: str, redis: RedisClient, mailer_settings: MailerSettings
) -> None:
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", used * 3)
    try:
        async with served(mailer_settings, auth="off", max_memory_percent="30") as api:
            refused = await api.post("/jobs", json=JOB)
            assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
            assert "memory" in refused.json()["detail"]
            assert (await api.post(f"/jobs/{waiting}/cancel")).json()["status"] == "cancelled"
            for again in (await api.post(f"/jobs/{waiting}/retry"), await api.post("/jobs/retry", json={})):
                assert (again.status_code, again.json()["code"]) == (503, "overloaded")
            assert [job["id"] for job in (await api.get("/jobs")).json()["data"]] == [waiting]
    finally:
        await redis.config_set("maxmemory", 0)
