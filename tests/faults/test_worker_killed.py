"""A worker dies by kill -9: its mail goes on with the next one, and a second copy is never sent without a word."""

from pathlib import Path

import pytest

from mailer.store.connection import RedisClient
from tests.support.jobs import at_relay, come_due, copies, each_once, post, reached
from tests.support.processes import api_process, worker_process
from tests.support.smtp import HANG, ScriptedRelay
from tests.support.waiting import until

LOST_ONCE = ["250 taken, but", HANG, "250 2.0.0 ok"]
"""The relay takes the first mail, and does not say so."""


@pytest.mark.parametrize("moment", ["RCPT", "DATA"])
async def test_a_mail_without_its_final_dot_is_sent_once_by_the_next_worker(
    redis: RedisClient, env: dict[str, str], relay: ScriptedRelay, log: Path, moment: str
) -> None:
    relay.script[moment] = [HANG, "354 go on" if moment == "DATA" else "250 ok"]
    async with api_process(env, log) as api, worker_process(env, log) as worker:
        job_id = await post(api)
        await at_relay(relay, moment)
        assert (await api.get(f"/jobs/{job_id}")).json()["status"] == "sending"
        async with worker_process(env, log):
            worker.kill()
            sent = await reached(api, job_id, "sent")
    assert each_once(relay, 1)
    assert (sent["attempt_count"], sent["unknown_outcomes"]) == (1, 0)
    starts, crashes = await redis.hmget(f"postroom:job:{job_id}", "starts", "crashes")
    assert (starts, crashes) == (b"2", None)


async def lose_the_answer(env: dict[str, str], relay: ScriptedRelay, log: Path) -> str:
    """A job whose worker was killed after the final dot; the relay has the mail."""
    relay.script["DOT"] = LOST_ONCE.copy()
    async with api_process(env, log) as api, worker_process(env, log) as worker:
        job_id = await post(api)
        await at_relay(relay, "DATA")

        async def is_taken() -> bool:
            return len(relay.received) == 1

        await until(is_taken, what="the final dot")
        worker.kill()
        await worker.wait()
    return job_id


async def test_resend_sends_the_same_bytes_once_more_and_says_so(
    redis: RedisClient, env: dict[str, str], relay: ScriptedRelay, log: Path
) -> None:
    job_id = await lose_the_answer(env, relay, log)
    async with api_process(env, log) as api, worker_process(env, log):
        deferred = await reached(api, job_id, "deferred")
        assert deferred["next_attempt_at"] > deferred["attempts"][0]["at"]
        assert deferred["attempts"][0]["outcome"] == "unknown"
        assert len(relay.received) == 1
        await come_due(redis, job_id)
        sent = await reached(api, job_id, "sent")
    assert (sent["unknown_outcomes"], sent["attempt_count"], sent["assumed"]) == (1, 2, False)
    assert set(copies(relay).values()) == {2}
    first, second = relay.received
    assert first == second


async def test_hold_leaves_it_to_a_person(env: dict[str, str], relay: ScriptedRelay, log: Path) -> None:
    job_id = await lose_the_answer(env, relay, log)
    async with api_process(env, log) as api, worker_process(env | policy("hold"), log):
        unknown = await reached(api, job_id, "unknown")
        after = await post(api)
        await reached(api, after, "sent")
    assert unknown["unknown_outcomes"] == 1
    assert unknown["recipients"][0]["status"] == "unknown"
    assert unknown["next_attempt_at"] is None
    assert each_once(relay, 2)


async def test_accept_takes_it_for_sent(env: dict[str, str], relay: ScriptedRelay, log: Path) -> None:
    job_id = await lose_the_answer(env, relay, log)
    async with api_process(env, log) as api, worker_process(env | policy("accept"), log):
        sent = await reached(api, job_id, "sent")
    assert (sent["assumed"], sent["unknown_outcomes"]) == (True, 1)
    assert each_once(relay, 1)


def policy(word: str) -> dict[str, str]:
    return {"POSTROOM_UNKNOWN_POLICY": f'{{"normal": "{word}"}}'}
