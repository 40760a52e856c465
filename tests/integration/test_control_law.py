"""Whatever people, workers and lost leases do to jobs, in any order: each job stands where its status says."""

import random
from typing import Any

import httpx
import pytest

from mailer.jobs import OPEN, Status, Stream
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.runs import Ending, Held
from tests.support.keyspace import wrongly_indexed
from tests.support.workers import Workers, attempt, held

JOBS = ("a" * 32, "b" * 32)
ENDS = (Status.SENT, Status.FAILED, Status.DEFERRED, Status.UNKNOWN)
CONTROLS = ("cancel", "retry", "resolve", "move")
DEEDS = ("claim", "claim", "lapse", "journal", "finish", "release", *CONTROLS)
ANSWERS = frozenset({200, 409, 410, 422})


class World:
    """Two jobs, three workers who may each lose their leases, and people."""

    def __init__(self, workers: Workers, api: httpx.AsyncClient, chance: random.Random) -> None:
        self._workers = workers
        self._api = api
        self._chance = chance
        self._runs: list[Held] = []
        self.deeds: list[tuple[str, str]] = []

    async def happen(self) -> None:
        deed, job_id = self._chance.choice(DEEDS), self._chance.choice(JOBS)
        self.deeds.append((deed, job_id[0]))
        if deed in CONTROLS:
            await self._say(deed, job_id)
        elif deed == "claim":
            await self._claim()
        elif deed == "lapse":
            await self._workers.lapse(*JOBS)
        elif self._runs:
            await self._run(deed, self._chance.choice(self._runs))

    async def _claim(self) -> None:
        for claimed in (await self._workers.claim(self._chance.choice("xyz"), wanted=1)).jobs:
            job = await self._workers.job(claimed.job_id)
            if job is not None and job.status in OPEN:
                self._runs.append(held(claimed))
            else:
                await self._workers.release(held(claimed), None)

    async def _run(self, deed: str, run: Held) -> None:
        if deed == "journal":
            await self._workers.journal(run)
            return
        self._runs.remove(run)
        if deed == "finish":
            await self._workers.finish(run, self._chance.choice(ENDS), next_attempt_at=1)
        else:
            await self._workers.release(run, 0, unsent=True)

    async def _say(self, control: str, job_id: str) -> None:
        body: dict[str, Any] | None = None
        if control == "resolve":
            body = {"as": self._chance.choice(["sent", "failed", "retry"])}
        if control == "move":
            answer = await self._api.patch(f"/jobs/{job_id}", json={"stream": self._chance.choice(list(Stream))})
        else:
            answer = await self._api.post(f"/jobs/{job_id}/{control}", json=body)
        assert answer.status_code in ANSWERS, answer.text


@pytest.mark.parametrize("seed", range(60))
async def test_each_job_stands_where_its_status_says(
    workers: Workers, api: httpx.AsyncClient, redis: RedisClient, seed: int
) -> None:
    await workers.accept(*JOBS)
    world = World(workers, api, random.Random(seed))
    for _ in range(25):
        await world.happen()
        assert await wrongly_indexed(redis) == [], world.deeds
        for job_id in JOBS:
            job, places = await workers.job(job_id), await workers.places(job_id)
            assert job is not None
            is_open = job.status in OPEN
            assert len(places) == is_open, (job.status, places, world.deeds)
            assert bool(await redis.exists(keys.arq_job(job_id))) == is_open, world.deeds
            assert (await redis.pttl(keys.job(job_id)) == -1) == is_open, world.deeds


async def test_a_late_250_takes_a_job_out_of_the_stream_it_was_moved_to(
    workers: Workers, api: httpx.AsyncClient
) -> None:
    """Its worker had lost the lease, another put it off, and a person moved it."""
    await workers.accept(JOBS[0])
    anna = await workers.hold("anna", JOBS[0])
    await workers.journal(anna)
    as_claimed = await workers.job(JOBS[0])
    assert as_claimed is not None
    await workers.lapse(JOBS[0])
    await workers.finish(await workers.hold("bert", JOBS[0]), Status.DEFERRED, next_attempt_at=2**42)
    assert (await api.patch(f"/jobs/{JOBS[0]}", json={"stream": "bulk"})).status_code == 200
    await workers.leases.finish(anna, as_claimed, Ending(Status.SENT, at=5, attempts=(attempt(1),)))
    assert await workers.places(JOBS[0]) == []


async def test_who_is_moved_after_its_worker_died_keeps_the_crash(workers: Workers, api: httpx.AsyncClient) -> None:
    await workers.accept(JOBS[0])
    for crashes in (1, 2):
        await workers.die("anna", JOBS[0])
        assert (await api.patch(f"/jobs/{JOBS[0]}", json={"stream": "normal"})).status_code == 200
        assert await workers.crashes(JOBS[0]) == crashes
