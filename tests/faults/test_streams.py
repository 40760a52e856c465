"""Streams with real processes, and a relay that takes 50 ms for a mail: a code passes ten thousand digests, receipts
have their part beside codes, and a pause outlives whoever is killed."""

import asyncio
from collections import Counter
from datetime import datetime
from pathlib import Path

import httpx

from mailer import queue
from mailer.jobs import Stream
from mailer.store.connection import RedisClient
from tests.support.jobs import INLINE, post, reached
from tests.support.processes import api_process, worker_process, workers_at_work
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until

BULK = 10_000
AT_ONCE = 1000
PROMISED_S = 2.0


async def fill(api: httpx.AsyncClient, stream: Stream, count: int) -> None:
    for _ in range(count // AT_ONCE):
        answer = await api.post(
            "/jobs/batch", json={"jobs": [INLINE | {"stream": stream, "subject": stream}] * AT_ONCE}, timeout=60
        )
        assert answer.json()["accepted"] == AT_ONCE, answer.text


def slow(relay: ScriptedRelay) -> None:
    relay.before_dot = lambda: asyncio.sleep(0.05)


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_a_code_passes_ten_thousand_digests_within_two_seconds(
    env: dict[str, str], relay: ScriptedRelay, log: Path
) -> None:
    """The time is the promise, so it is looked at here: by the queue server's clock, as the job tells it."""
    slow(relay)
    async with api_process(env, log) as api:
        await fill(api, Stream.BULK, BULK)
        async with workers_at_work(1, env, log):

            async def is_busy() -> bool:
                return len(relay.received) > 50

            await until(is_busy, what="a worker in the midst of digests")
            for _ in range(3):
                code = await reached(api, await post(api, stream="critical"), "sent")
                assert moment(code["finished_at"]) - moment(code["created_at"]) < PROMISED_S
            assert (await api.get("/streams")).json()["data"][2]["ready"] > BULK / 2, "the digests are still there"


async def test_beside_codes_without_end_receipts_are_sent_too(
    env: dict[str, str], relay: ScriptedRelay, log: Path
) -> None:
    """At least a fifth of what is sent, once both are there: what is sent first was claimed before the others came."""
    slow(relay)
    async with api_process(env, log) as api:
        await fill(api, Stream.CRITICAL, 3000)
        await fill(api, Stream.NORMAL, 10_000)
        async with workers_at_work(1, env, log):

            async def enough() -> bool:
                return len(relay.received) >= 1000

            await until(enough, within_s=40, what="a thousand mails")
            sent = Counter(
                subject
                for mail in relay.received
                for subject in Stream
                if f"Subject: {subject}".encode() in mail.content
            )
            assert (await api.get("/streams")).json()["data"][0]["ready"] > 500, "the codes are still there"
    assert sent[Stream.NORMAL] >= 0.18 * sent.total(), sent


async def test_a_pause_outlives_worker_and_api(
    env: dict[str, str], relay: ScriptedRelay, log: Path, redis: RedisClient
) -> None:
    async with api_process(env, log) as api, workers_at_work(1, env, log) as (worker,):
        await api.post("/streams/bulk/pause")
        worker.kill()
        await worker.wait()
    async with api_process(env, log) as api, worker_process(env, log):
        digest, receipt = await post(api, stream="bulk"), await post(api)
        await reached(api, receipt, "sent")
        assert await redis.zscore(queue.QUEUES[Stream.BULK], digest) is not None
        assert len(relay.received) == 1
        await api.post("/streams/bulk/resume")
        await reached(api, digest, "sent")
