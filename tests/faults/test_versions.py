"""Old and new workers on one queue, as in each deploy: what a worker does not understand it leaves to one that does."""

from pathlib import Path
from typing import Any

import pytest
from arq.jobs import serialize_job

from mailer import queue
from mailer.jobs import RECORD_VERSION
from mailer.store.connection import RedisClient
from tests.support.jobs import each_once, post, reached
from tests.support.processes import api_process, logged, worker_process
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until


async def unknown_function(redis: RedisClient, job_id: str) -> None:
    blob = serialize_job("deliver_by_fax", (job_id,), {}, None, 0, serializer=queue.serialize)
    await redis.set(f"arq:job:{job_id}", blob)


async def unreadable_blob(redis: RedisClient, job_id: str) -> None:
    await redis.set(f"arq:job:{job_id}", b"\x80\x05 of another serializer")


async def other_arguments(redis: RedisClient, job_id: str) -> None:
    blob = serialize_job(queue.DELIVER, (job_id, "by fax"), {"soon": True}, None, 0, serializer=queue.serialize)
    await redis.set(f"arq:job:{job_id}", blob)


async def newer_record(redis: RedisClient, job_id: str) -> None:
    await redis.hset(f"postroom:job:{job_id}", mapping={"v": RECORD_VERSION + 1, "stream": "telegrams"})


async def unknown_status(redis: RedisClient, job_id: str) -> None:
    await redis.hset(f"postroom:job:{job_id}", mapping={"unknown_policy": "ask_the_cat"})


STRANGE = {
    "unknown function": (unknown_function, "job.not_understood"),
    "unreadable blob": (unreadable_blob, "job.not_understood"),
    "other arguments": (other_arguments, "job.not_understood"),
    "newer record": (newer_record, "job.record_too_new"),
    "unknown word": (unknown_status, "job.record_too_new"),
}


async def stored(redis: RedisClient, job_id: str) -> dict[str, Any]:
    """What a worker that understands the job would find. Leases and their counts come and go."""
    record = await redis.hgetall(f"postroom:job:{job_id}")
    kept = {name: value for name, value in record.items() if name not in {b"starts", b"run"}}
    blob, payload = await redis.get(f"arq:job:{job_id}"), await redis.get(f"postroom:payload:{job_id}")
    return {"record": kept, "blob": blob, "payload": payload}


@pytest.mark.parametrize("what", STRANGE)
async def test_what_a_worker_does_not_understand_stays_in_the_queue(
    redis: RedisClient, env: dict[str, str], relay: ScriptedRelay, log: Path, what: str
) -> None:
    make, alarm = STRANGE[what]
    async with api_process(env, log) as api:
        before, strange, after = await post(api), await post(api), await post(api)
        await make(redis, strange)
        as_it_was = await stored(redis, strange)
        async with worker_process(env, log):
            for job_id in (before, after):
                await reached(api, job_id, "sent")

            async def is_pushed_back() -> bool:
                seconds, _ = await redis.time()
                at = await redis.zscore(queue.QUEUE, strange)
                return (
                    at is not None
                    and at > (seconds + 30) * 1000
                    and not await redis.exists(f"arq:in-progress:{strange}")
                )

            await until(is_pushed_back, what="the strange job back in its queue")
        assert await stored(redis, strange) == as_it_was
    assert strange in str(logged(log, alarm))
    assert each_once(relay, 2)
