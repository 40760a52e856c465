"""Time is the queue server's: not the clock of a machine that runs API or worker, nor a worker's patience."""

from datetime import datetime
from pathlib import Path

import pytest

from mailer.store.connection import RedisClient
from tests.faults.conftest import faulty
from tests.support.jobs import come_due, each_once, job, post, reached
from tests.support.processes import api_process, logged, worker_process
from tests.support.smtp import ScriptedRelay, scripted_relay
from tests.support.waiting import until

DAY_MS = 24 * 3600 * 1000
SHIFTED = """
import datetime, time
seconds, nanoseconds = time.time, time.time_ns
time.time = lambda: seconds() + {shift}
time.time_ns = lambda: nanoseconds() + {shift} * 10**9
class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)
datetime.datetime = Shifted
"""
"""A sitecustomize.py: Python runs it before anything else."""


def clock_off_by(env: dict[str, str], folder: Path, shift_s: int) -> dict[str, str]:
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SHIFTED.format(shift=shift_s))
    return env | {"PYTHONPATH": f"{folder}:{env['PYTHONPATH']}"}


def milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)


async def server_time(redis: RedisClient) -> int:
    seconds, microseconds = await redis.time()
    return int(seconds * 1000 + microseconds // 1000)


def delayed_template(folder: Path) -> Path:
    template = folder / "templates" / "later"
    template.mkdir(parents=True)
    (template / "template.toml").write_text('to = { email = "ada@example.com" }\ndelay = "2s"\nexpires_after = "20s"\n')
    (template / "subject.txt").write_text("Hello\n")
    (template / "body.txt").write_text("Hi\n")
    return template.parent


@pytest.mark.parametrize(("api_s", "worker_s"), [(60, -60), (-60, 60)])
async def test_clocks_that_are_off_by_a_minute_move_no_mail(
    redis: RedisClient,
    env: dict[str, str],
    relay: ScriptedRelay,
    tmp_path: Path,
    log: Path,
    api_s: int,
    worker_s: int,
) -> None:
    env |= {"POSTROOM_TEMPLATES_DIR": str(delayed_template(tmp_path))}
    api_env, worker_env = clock_off_by(env, tmp_path / "a", api_s), clock_off_by(env, tmp_path / "w", worker_s)
    async with api_process(api_env, log) as api, worker_process(worker_env, log):
        before = await server_time(redis)
        job_id = await post(api, template="later")
        after = await server_time(redis)
        first = await job(api, job_id)
        assert before <= milliseconds(first["created_at"]) <= after
        assert milliseconds(first["due_at"]) == milliseconds(first["created_at"]) + 2000
        assert first["status"] == "scheduled"
        sent = await reached(api, job_id, "sent")
    assert milliseconds(first["due_at"]) <= milliseconds(sent["attempts"][0]["at"]) <= await server_time(redis)
    assert each_once(relay, 1)
    (api_start,), (worker_start,) = logged(log, "api.started"), logged(log, "worker.started")
    apart_ms = milliseconds(api_start["timestamp"]) - milliseconds(worker_start["timestamp"])
    assert abs(apart_ms) > 100_000, "the clocks were not moved"


async def test_a_relay_that_was_down_for_two_days_gets_the_mail_afterwards(
    redis: RedisClient, queue_url: str, log: Path
) -> None:
    async with scripted_relay() as relay:
        port = relay.port
    env = faulty(queue_url, relay)  # nobody listens there now
    async with api_process(env, log) as api, worker_process(env, log):
        job_id = await post(api)
        await tried(api, job_id, times=1)
        await two_days_later(redis, job_id)
        assert (await tried(api, job_id, times=2))["status"] == "deferred"
        async with scripted_relay(relay, port=port):
            await come_due(redis, job_id)
            sent = await reached(api, job_id, "sent")
    assert (sent["attempt_count"], [item["outcome"] for item in sent["attempts"]]) == (
        3,
        ["deferred", "deferred", "sent"],
    )
    assert each_once(relay, 1)


async def tried(api, job_id: str, times: int) -> dict[str, object]:
    async def look() -> dict[str, object] | None:
        found = await job(api, job_id)
        return found if found["attempt_count"] == times and found["status"] == "deferred" else None

    return await until(look, what=f"attempt {times}")


async def two_days_later(redis: RedisClient, job_id: str) -> None:
    """The clock cannot be moved, so the job is: it was accepted two days ago."""
    key = f"postroom:job:{job_id}"
    for name in ("created_at", "due_at"):
        await redis.hincrby(key, name, -2 * DAY_MS)
    await come_due(redis, job_id)
