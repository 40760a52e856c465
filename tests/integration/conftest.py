"""One job from acceptance to its end, on the real queue server, without waiting for backoff."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobStore, JobView
from service.intake import Intake
from worker.delivery import Deps, deliver


@dataclass
class Run:
    """Submits bodies as POST /jobs would, and runs jobs as the worker would."""

    store: JobStore
    redis: RedisClient
    deps: Deps

    async def submit(self, body: dict[str, Any]) -> str:
        intake = Intake(self.store, self.deps.templates, self.deps.default_from)
        await intake.accept(body, owner="test")
        (job_id, *_) = await self.redis.zrevrange("arq:queue", 0, 0)
        return str(job_id.decode())

    async def once(self, job_id: str) -> JobView:
        """The next run, whenever it would be due."""
        await self.redis.hset(keys.job(job_id), "next_attempt_at", "")
        await deliver(job_id, self.store, self.deps)
        return await self.view(job_id)

    async def view(self, job_id: str) -> JobView:
        view = await self.store.view(job_id)
        assert view is not None
        return view

    async def age(self, job_id: str, seconds: float) -> None:
        """As if the job had been accepted `seconds` earlier."""
        record = keys.job(job_id)
        for field in ("created_at", "due_at", "expires_at"):
            value = await self.redis.hget(record, field)
            if value:
                await self.redis.hset(record, field, str(int(value) - int(seconds * 1000)))


@pytest.fixture
def make_run(store: JobStore, redis: RedisClient, make_deps: Callable[..., Deps]) -> Callable[..., Run]:
    def make(**options: Any) -> Run:
        return Run(store, redis, make_deps(**options))

    return make


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    return make_run()


@pytest.fixture
def send(run: Run) -> Callable[[dict[str, Any]], Awaitable[JobView]]:
    """Submit and run once."""

    async def submit_and_run(body: dict[str, Any]) -> JobView:
        return await run.once(await run.submit(body))

    return submit_and_run
