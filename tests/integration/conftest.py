"""One job from acceptance to its end, on the real queue server, without waiting for backoff."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from mailer import queue
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobStore, JobView
from mailer.store.leases import LeaseStore
from service.intake import Intake, Item
from tests.support.workers import Workers
from worker.delivery import deliver
from worker.lease import Lease
from worker.preparation import Deps

QUEUES = (*queue.QUEUES.values(), queue.QUARANTINE)


@dataclass
class Run:
    """Submits bodies as POST /jobs would, and runs jobs as a worker would."""

    store: JobStore
    leases: LeaseStore
    redis: RedisClient
    deps: Deps
    _worker: str = field(default_factory=lambda: f"worker {secrets.token_hex(4)}")
    _claims: int = 0
    _claiming: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def submit(self, body: dict[str, Any]) -> str:
        intake = Intake(self.store, self.deps.templates, self.deps.default_from)
        acceptance = await intake.accept(Item(body, None), owner="test")
        (job,) = orjson.loads(acceptance.answer)["jobs"]
        return str(job["id"])

    async def claim(self, job_id: str) -> Lease | None:
        """The job, whenever it would be due; None where it waits in no queue or is leased."""
        async with self._claiming:
            for name in QUEUES:
                if await self.redis.zscore(name, job_id) is not None:
                    await self.redis.zadd(name, {job_id: 0}, xx=True)  # the first of all that are due
            self._claims += 1
            claim = await self.leases.claim(self._worker, self._claims, wanted=1, running=0)
        if not claim.jobs:
            return None
        (claimed,) = claim.jobs
        assert claimed.job_id == job_id
        return Lease(claimed, self.leases)

    async def once(self, job_id: str) -> JobView:
        """The next run, whenever it would be due; none, where the job is at rest."""
        lease = await self.claim(job_id)
        if lease is not None:
            await deliver(lease, self.deps)
        return await self.view(job_id)

    async def view(self, job_id: str) -> JobView:
        view = await self.store.view(job_id)
        assert view is not None
        return view

    async def age(self, job_id: str, seconds: float) -> None:
        """As if the job had been accepted `seconds` earlier."""
        record = keys.job(job_id)
        for name in ("created_at", "due_at", "expires_at"):
            value = await self.redis.hget(record, name)
            if value:
                await self.redis.hset(record, name, str(int(value) - int(seconds * 1000)))


@pytest.fixture
def make_run(
    store: JobStore, leases: LeaseStore, redis: RedisClient, make_deps: Callable[..., Deps]
) -> Callable[..., Run]:
    def make(**options: Any) -> Run:
        return Run(store, leases, redis, make_deps(**options))

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


@pytest.fixture
def workers(store: JobStore, leases: LeaseStore, redis: RedisClient) -> Workers:
    return Workers(store, leases, redis)
