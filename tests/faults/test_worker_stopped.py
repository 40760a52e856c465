"""A worker is stopped in the middle of its work, by SIGTERM for good or by SIGSTOP for a while."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from mailer.store.connection import RedisClient
from tests.support.jobs import all_sent, at_relay, each_once, job, post, reached
from tests.support.processes import api_process, logged, worker_process
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until

LONG_LEASE = {"POSTROOM_LEASE_S": "120"}
"""What waits for its end is not sent within a test's time."""


async def test_under_load_nothing_is_stuck_and_nothing_sent_twice(
    env: dict[str, str], relay: ScriptedRelay, log: Path
) -> None:
    relay.before_dot = lambda: asyncio.sleep(0.3)
    env |= LONG_LEASE | {"POSTROOM_SMTP_URL": f"{relay.url}&connections=10"}
    async with api_process(env, log) as api:
        job_ids = [await post(api) for _ in range(60)]
        async with worker_process(env, log) as worker:
            await at_relay(relay, "DATA", times=15)
            worker.terminate()
            async with worker_process(env, log):
                assert await asyncio.wait_for(worker.wait(), 20) == 0
                of_the_first = [item for item in job_ids if (await job(api, item))["status"] == "sent"]
                assert of_the_first
                await all_sent(api, job_ids)
    assert each_once(relay, 60)


async def test_told_twice_it_waits_for_no_answer_any_more(
    redis: RedisClient, env: dict[str, str], relay: ScriptedRelay, log: Path
) -> None:
    at_dot, never = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        at_dot.set()
        await never.wait()

    async def is_stopping() -> bool:
        return bool(logged(log, "worker.stopping"))

    relay.before_dot = hold
    async with api_process(env, log) as api, worker_process(env, log) as worker:
        job_id = await post(api)
        await asyncio.wait_for(at_dot.wait(), 15)
        worker.terminate()
        await until(is_stopping, what="the first signal's effect")
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), 20) == 0
        async with worker_process(env, log):
            assert (await reached(api, job_id, "deferred"))["unknown_outcomes"] == 1


@pytest.mark.parametrize("moment", ["RCPT", "DATA"])
async def test_a_worker_blocked_for_longer_than_its_lease_sends_no_second_copy(
    redis: RedisClient, env: dict[str, str], relay: ScriptedRelay, log: Path, moment: str
) -> None:
    usual_reply = relay.reply
    stopped: list[int] = []

    def reply_to_a_stopped_worker(at: str, usual: str) -> str:
        if at == moment and not stopped:
            stopped.append(worker.pid)
            os.kill(worker.pid, signal.SIGSTOP)  # it finds the reply when it goes on, too late
        return usual_reply(at, usual)

    async def knows() -> bool:
        lost = logged(log, "job.lease_lost") or logged(log, "job.withheld")
        return worker.returncode is not None or bool(lost)

    relay.reply = reply_to_a_stopped_worker  # type: ignore[method-assign]  # the reply stays the relay's
    async with api_process(env, log) as api, worker_process(env, log) as worker:
        job_id = await post(api)
        await at_relay(relay, moment)
        async with worker_process(env, log):
            await reached(api, job_id, "sent")
            os.kill(worker.pid, signal.SIGCONT)
            await until(knows, what="the end of the blocked worker, or of its run")
            await reached(api, await post(api), "sent")
    assert each_once(relay, 2)
    assert await redis.hget(f"postroom:job:{job_id}", "starts") == b"2"
    assert logged(log, "worker.left_behind") == []
