"""Workers as the queue server sees them: named, with numbered claims, and able to die without a word."""

from collections import Counter
from dataclasses import dataclass, field

import orjson

from mailer import queue
from mailer.addresses import Address
from mailer.jobs import (
    Attempt,
    Job,
    JournalMark,
    NewJob,
    Payload,
    Phase,
    Recipient,
    Reply,
    Status,
    Stream,
)
from mailer.store import keys, records
from mailer.store.connection import RedisClient
from mailer.store.jobs import EnqueueRequest, JobStore
from mailer.store.leases import LeaseStore
from mailer.store.runs import Claim, Claimed, Ending, FinishVerdict, Held, JournalEntry, JournalVerdict, Release

QUEUES = (*queue.QUEUES.values(), queue.QUARANTINE)
RECIPIENTS = (Recipient(Address("ada@example.com", "Ada")),)


@dataclass
class Workers:
    """Ids of jobs are what a test calls them."""

    store: JobStore
    leases: LeaseStore
    redis: RedisClient
    _claims: Counter[str] = field(default_factory=Counter)

    async def accept(self, *job_ids: str, stream: Stream = Stream.NORMAL, **more: int) -> None:
        for job_id in job_ids:
            job = NewJob(
                id=job_id, payload=Payload(subject="s", text="t"), recipients=RECIPIENTS, stream=stream, **more
            )
            await self.store.enqueue(EnqueueRequest((job,)))

    async def claim(
        self,
        worker: str,
        *,
        wanted: int = 100,
        running: int = 0,
        number: int | None = None,
        streams_first: bool = False,
    ) -> Claim:
        """The worker's next claim; or, with a number, one that it repeats."""
        if number is None:
            self._claims[worker] += 1
            number = self._claims[worker]
        return await self.leases.claim(worker, number, wanted=wanted, running=running, streams_first=streams_first)

    async def hold(self, worker: str, job_id: str) -> Held:
        """The worker claims this job, and it is the only one due."""
        (claimed,) = (await self.claim(worker)).jobs
        assert claimed.job_id == job_id
        return held(claimed)

    async def live(self, *workers: str) -> None:
        """Each has just said so."""
        for worker in workers:
            await self.leases.beat(worker, [], "fine", 1000)

    async def lapse(self, *job_ids: str) -> None:
        """As if the leases had run out: the lock is gone, and the place in the queue is due."""
        for job_id in job_ids:
            await self.redis.delete(keys.arq_in_progress(job_id))
            for name in QUEUES:
                await self.redis.zadd(name, {job_id: 0}, xx=True)

    async def die(self, worker: str, job_id: str) -> None:
        """The worker claims the job, and its process ends."""
        await self.hold(worker, job_id)
        await self.lapse(job_id)

    async def journal(self, run: Held, dated: int = 1000, fetched: object = None) -> JournalVerdict:
        mark = JournalMark("relay", 1, 1)
        given = b"" if fetched is None else orjson.dumps(fetched)
        return await self.leases.journal(JournalEntry(run, mark, RECIPIENTS, dated, given))

    async def finish(self, run: Held, status: Status, *, number: int = 1, next_attempt_at: int = 9) -> FinishVerdict:
        again = next_attempt_at if status is Status.DEFERRED else None
        ending = Ending(status, at=5, attempts=(attempt(number),), next_attempt_at=again)
        return await self.leases.finish(run, await self.job(run.job_id) or _gone(run.job_id), ending)

    async def release(self, run: Held, delay_ms: int | None = 0, *, unsent: bool = False) -> None:
        await self.leases.release(Release(run, delay_ms, unsent))

    async def job(self, job_id: str) -> Job | None:
        raw = await self.redis.hgetall(keys.job(job_id))
        return records.decode_record(job_id, raw) if raw else None

    async def crashes(self, job_id: str) -> int:
        job = await self.job(job_id)
        assert job is not None
        return job.crashes

    async def places(self, job_id: str) -> list[str]:
        """The queues it stands in."""
        return [name for name in QUEUES if await self.redis.zscore(name, job_id) is not None]

    async def due_in_ms(self, job_id: str) -> int:
        (place,) = await self.places(job_id)
        seconds, microseconds = await self.redis.time()
        return int(await self.redis.zscore(place, job_id) or 0) - seconds * 1000 - microseconds // 1000


def held(claimed: Claimed) -> Held:
    return Held(claimed.job_id, claimed.queue, claimed.run)


def ids(claim: Claim) -> list[str]:
    return [claimed.job_id for claimed in claim.jobs]


def attempt(number: int) -> Attempt:
    return Attempt(number, at=1, duration_ms=2, phase=Phase.MAIL, outcome="deferred", reply=Reply(451, "later"))


def _gone(job_id: str) -> Job:
    return Job(job_id, Status.PENDING, Stream.NORMAL, 1, 1)
