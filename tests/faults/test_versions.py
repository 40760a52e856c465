"""Old and new workers on one queue, as in each deploy: what a worker does not understand it leaves to one that does."""

from pathlib import Path
from typing import Any

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


async def unknown_word(redis: RedisClient, job_id: str) -> None:
    await redis.hset(f"postroom:job:{job_id}", mapping={"unknown_policy": "ask_the_cat"})


STRANGE = {
    "an unknown function": (unknown_function, "job.not_understood"),
    "an unreadable blob": (unreadable_blob, "job.not_understood"),
    "other arguments": (other_arguments, "job.not_understood"),
    "a newer record": (newer_record, "job.record_too_new"),
    "an unknown word": (unknown_word, "job.record_too_new"),
}


async def stored(redis: RedisClient, job_id: str) -> dict[str, Any]:
    """What a worker that understands the job would find. Leases and their counts come and go."""
    record = await redis.hgetall(f"postroom:job:{job_id}")
    kept = {name: value for name, value in record.items() if name not in {b"starts", b"run"}}
    blob, payload = await redis.get(f"arq:job:{job_id}"), await redis.get(f"postroom:payload:{job_id}")
    return {"record": kept, "blob": blob, "payload": payload}


async def test_what_a_worker_does_not_understand_stays_in_the_queue(
    redis: RedisClient, env: dict[str, str], relay: ScriptedRelay, log: Path
) -> None:
    async with api_process(env, log) as api:
        before = await post(api)
        strange = {await post(api): name for name in STRANGE}
        after = await post(api)
        for job_id, name in strange.items():
            await STRANGE[name][0](redis, job_id)
        as_they_were = {job_id: await stored(redis, job_id) for job_id in strange}
        async with worker_process(env, log) as worker:
            for job_id in (before, after):
                await reached(api, job_id, "sent")
            for job_id, name in strange.items():

                async def is_pushed_back(job_id: str = job_id) -> bool:
                    return await pushed_back(redis, job_id)

                await until(is_pushed_back, what=f"the job with {name} back in its queue")
            assert worker.returncode is None
        assert {job_id: await stored(redis, job_id) for job_id in strange} == as_they_were
    for job_id, name in strange.items():
        assert job_id in str(logged(log, STRANGE[name][1])), f"nothing was logged of the job with {name}"
    assert each_once(relay, 2)


async def pushed_back(redis: RedisClient, job_id: str) -> bool:
    seconds, _ = await redis.time()
    due_ms = await redis.zscore(queue.QUEUE, job_id)
    later = due_ms is not None and due_ms > (seconds + 30) * 1000
    return later and not await redis.exists(f"arq:in-progress:{job_id}")
