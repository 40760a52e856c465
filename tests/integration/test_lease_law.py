"""Whatever workers do, and in whatever order they die and come back: no job is lost, and no dot is allowed twice."""

from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailer import queue
from mailer.jobs import OPEN, Status
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.leases import LeaseStore
from mailer.store.reconciling import Reconciler
from mailer.store.runs import Claim, FinishVerdict, Held, JournalVerdict
from tests.support.workers import Workers, held

JOBS = ("a", "b")
NAMES = ("anna", "bert", "carl")
ENDINGS = (Status.SENT, Status.DEFERRED, Status.FAILED, Status.UNKNOWN)


@dataclass
class _Run:
    held: Held
    found_mark: bool
    """An earlier run's journal was in the record: such a run never asks for the dot."""
    went: bool = False
    refused: bool = False
    """The relay said no after the dot, and nothing has gone since."""


@dataclass
class World:
    """The real server, and what a bystander knows of it."""

    workers: Workers
    leases: LeaseStore
    reconciler: Reconciler
    runs: list[_Run] = field(default_factory=list)
    in_doubt: dict[str, _Run] = field(default_factory=dict)
    """Runs that may have written their dot, and of which nobody has written down what came of it."""

    def begin(self, claim: Claim) -> None:
        for claimed in claim.jobs:
            self.runs.append(_Run(held(claimed), b"journal" in claimed.record))

    async def claim(self, name: str, _: _Run | None, __: Status) -> None:
        mine = [run for run in self.runs if run.held.run.startswith(name)]
        self.begin(await self.workers.claim(name, wanted=1, running=len(mine)))

    async def lapse(self, name: str, _: _Run | None, __: Status) -> None:
        await self.workers.lapse(*JOBS)
        await self.workers.redis.zadd(keys.WORKERS, dict.fromkeys(NAMES, 0), xx=True)

    async def beat(self, name: str, _: _Run | None, __: Status) -> None:
        await self.leases.beat(name, [run.held for run in self.runs if run.held.run.startswith(name)], "fine", 1000)

    async def die(self, name: str, _: _Run | None, __: Status) -> None:
        self.runs = [run for run in self.runs if not run.held.run.startswith(name)]

    async def journal(self, _: str, run: _Run | None, __: Status) -> None:
        if run is None or run.found_mark:
            return
        if await self.workers.journal(run.held) is JournalVerdict.GO:
            assert self.in_doubt.get(run.held.job_id, run) is run, "two dots, and nobody knows of the first"
            self.in_doubt[run.held.job_id] = run
            run.went, run.refused = True, False

    async def refuse(self, _: str, run: _Run | None, __: Status) -> None:
        """The relay does not take the mail after its dot: the next one may be asked, or the job given back."""
        if run is not None and run.went:
            self.in_doubt.pop(run.held.job_id, None)
            run.went, run.refused = False, True

    async def finish(self, _: str, run: _Run | None, status: Status) -> None:
        if run is None or (status is Status.SENT and not run.went):
            return
        verdict = await self.workers.finish(run.held, status, next_attempt_at=1)
        if verdict is FinishVerdict.FINISHED:
            self.in_doubt.pop(run.held.job_id, None)
        self.runs.remove(run)

    async def give_back(self, _: str, run: _Run | None, __: Status) -> None:
        if run is not None and not run.went:
            await self.workers.release(run.held, unsent=run.refused)
            self.runs.remove(run)

    async def reconcile(self, name: str, _: _Run | None, __: Status) -> None:
        assert await self.reconciler.step(name) == (), "no job ever falls out of its queue"

    async def look(self) -> None:
        for job_id in JOBS:
            job = await self.workers.job(job_id)
            assert job is not None
            places = await self.workers.places(job_id)
            if job.status in OPEN:
                assert len(places) == 1, f"{job_id} is {job.status} and stands in {places}"
                assert await self.workers.redis.exists(keys.arq_job(job_id))
            else:
                assert places == []
                assert await self.workers.redis.ttl(keys.job(job_id)) > 0

    async def everything_ends(self, redis: RedisClient) -> None:
        """All workers die; a new one comes to an end with each job that is unfinished."""
        self.runs.clear()
        for _ in range(12):
            await redis.delete(keys.QUARANTINE_HOLDER)  # what its TTL does
            await self.workers.lapse(*JOBS)
            self.begin(await self.workers.claim("zoe"))
            for run in list(self.runs):
                await self.finish("zoe", run, Status.UNKNOWN if run.found_mark else Status.FAILED)
        for job_id in JOBS:
            job = await self.workers.job(job_id)
            assert job is not None
            assert job.status not in OPEN
        assert not await redis.exists(*queue.QUEUES.values(), queue.QUARANTINE)


DEEDS = (
    World.claim, World.claim, World.lapse, World.beat, World.die, World.journal, World.journal, World.refuse,
    World.finish, World.give_back, World.reconcile,
)  # fmt: skip


@given(
    deeds=st.lists(
        st.tuples(st.sampled_from(DEEDS), st.sampled_from(NAMES), st.integers(0, 5), st.sampled_from(ENDINGS)),
        min_size=5,
        max_size=25,
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_job_is_lost_and_no_dot_is_allowed_twice(
    workers: Workers, leases: LeaseStore, redis: RedisClient, deeds: list[tuple]
) -> None:
    await redis.flushall()
    await workers.accept(*JOBS)
    world = World(workers, leases, Reconciler(redis))
    for deed, name, which, status in deeds:
        run = world.runs[which % len(world.runs)] if world.runs else None
        await deed(world, name, run, status)
        await world.look()
    await world.everything_ends(redis)
