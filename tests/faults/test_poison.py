"""A job that brings its worker down each time: it alone fails, and its neighbours are sent."""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from mailer.store.connection import RedisClient
from tests.support.jobs import copies, job, post, reached
from tests.support.processes import api_process, logged, worker_process
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until

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


async def settled(api: httpx.AsyncClient, job_id: str) -> str:
    async def look() -> str | None:
        status = str((await job(api, job_id))["status"])
        return status if status in {"sent", "unknown"} else None

    return await until(look, what=f"{job_id} sent, or in doubt", within_s=40)


async def test_a_template_that_never_ends_is_poison_and_its_neighbours_are_sent(
    redis: RedisClient, env: dict[str, str], relay: ScriptedRelay, log: Path, tmp_path: Path
) -> None:
    """All the others: one whose dot was just written when the worker died is in doubt, as at any other death."""
    env |= {"POSTROOM_TEMPLATES_DIR": str(endless_template(tmp_path)), "POSTROOM_LEASE_S": "1"}
    env |= {"POSTROOM_UNKNOWN_POLICY": '{"normal": "hold"}'}
    async with api_process(env, log) as api:
        before = [await post(api) for _ in range(10)]
        poison = await post(api, template="endless")
        after = [await post(api) for _ in range(10)]
        async with workers_without_end(env, log) as died:
            failed = await reached(api, poison, "failed", within_s=45)
            ends = Counter([await settled(api, job_id) for job_id in before + after])
    assert failed["reason"] == "poison"
    assert failed["attempt_count"] == 0
    assert died == [-signal.SIGALRM] * 5  # the watchdog
    assert ends["sent"] > ends["unknown"]
    assert max(copies(relay).values()) == 1
    assert ends["sent"] <= len(copies(relay)) <= 20
    assert await redis.exists(f"postroom:payload:{poison}") == 1
    assert (await redis.ttl(f"postroom:payload:{poison}")) > 13 * 24 * 3600
    assert [line["job_id"] for line in logged(log, "job.failed")] == [poison]
