"""A job that brings its worker down each time: it alone fails, and its neighbours are sent."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mailer.store.connection import RedisClient
from tests.support.jobs import all_sent, each_once, post, reached
from tests.support.processes import api_process, logged, worker_process
from tests.support.smtp import ScriptedRelay

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
"""Prints nothing, so that no bound of the rendering is looked at."""


def endless_template(folder: Path) -> Path:
    template = folder / "templates" / "endless"
    template.mkdir(parents=True)
    (template / "template.toml").write_text('to = { email = "ada@example.com" }\n')
    (template / "subject.txt").write_text("Hello\n")
    (template / "body.txt").write_text(f"{ENDLESS}Hi\n")
    return template.parent


@asynccontextmanager
async def workers_without_end(env: dict[str, str], log: Path) -> AsyncIterator[list[int]]:
    """One worker after the other; yields the exit codes of those that died."""
    codes: list[int] = []

    async def keep() -> None:
        while True:
            async with worker_process(env, log) as worker:
                codes.append(await worker.wait())

    task = asyncio.create_task(keep())
    try:
        yield codes
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_template_that_never_ends_is_poison_and_its_neighbours_are_sent(
    redis: RedisClient, env: dict[str, str], relay: ScriptedRelay, log: Path, tmp_path: Path
) -> None:
    env |= {"POSTROOM_TEMPLATES_DIR": str(endless_template(tmp_path)), "POSTROOM_LEASE_S": "1"}
    async with api_process(env, log) as api:
        before = [await post(api) for _ in range(10)]
        poison = await post(api, template="endless")
        after = [await post(api) for _ in range(10)]
        async with workers_without_end(env, log) as died:
            failed = await reached(api, poison, "failed", within_s=45)
            await all_sent(api, before + after)
    assert failed["reason"] == "poison"
    assert failed["attempt_count"] == 0
    assert died == [-signal.SIGALRM] * 5  # the watchdog
    assert each_once(relay, 20)
    assert await redis.exists(f"postroom:payload:{poison}") == 1
    assert (await redis.ttl(f"postroom:payload:{poison}")) > 13 * 24 * 3600
    assert [line["job_id"] for line in logged(log, "job.failed")] == [poison]
