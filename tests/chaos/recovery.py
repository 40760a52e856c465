"""How long the jobs of a killed worker wait for their next run: those that were not past their journal."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from mailer import queue
from mailer.errors import QueueUnavailable
from mailer.jobs import CRASHES_TO_QUARANTINE, OPEN
from mailer.store import keys
from mailer.store.connection import RedisClient, answered, command
from tests.chaos.breakers import Breakers
from tests.chaos.judge import Wait
from tests.chaos.queue_server import KillableServer

LOOK_EVERY_S = 0.05
PATIENCE_S = 60.0
BACKLOG = 200
"""Due jobs: more than are sent here within a second."""
UNFINISHED = frozenset(status.encode() for status in OPEN)
"""A person may have cancelled it meanwhile."""
QUEUES = (*queue.QUEUES.values(), queue.QUARANTINE)


@dataclass(frozen=True, slots=True)
class _Left:
    job_id: str
    run: bytes
    starts: bytes
    suspect: bool


@dataclass(slots=True)
class Recoveries:
    """`waits`: of those that were seen to the end. `out`: jobs whose wait met an outage of the queue server. `barred`:
    those that waited while no relay was usable. `past_journal`: jobs of killed workers that only waited for the relay.
    `kills_unseen`: the server was away too."""

    server: KillableServer
    breakers: Breakers
    waits: list[Wait] = field(default_factory=list)
    out: int = 0
    barred: int = 0
    past_journal: int = 0
    kills_unseen: int = 0

    async def watch(self, redis: RedisClient, pid: int, killed_at: float) -> None:
        """From the death of the worker `pid` to the next run of each of its jobs."""
        try:
            left, due = await self._left_behind(redis, pid), await _due(redis)
        except QueueUnavailable:
            self.kills_unseen += 1
            return
        while left and time.monotonic() - killed_at < PATIENCE_S:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                still = await self._still_waiting(redis, left)
            except QueueUnavailable:
                continue
            self._note([item for item in left if item not in still], killed_at, due)
            left = still
        self._note(left, killed_at, due)

    def _note(self, jobs: Sequence[_Left], killed_at: float, due: int) -> None:
        now = time.monotonic()
        if self.server.was_out(killed_at, now):
            self.out += len(jobs)
        elif self.breakers.were_open(killed_at, now):
            self.barred += len(jobs)
        else:
            self.waits += [Wait(job.job_id, now - killed_at, job.suspect, due > BACKLOG) for job in jobs]

    async def _left_behind(self, redis: RedisClient, pid: int) -> list[_Left]:
        """Unfinished jobs stand in the queues, running ones too."""
        ids = [job_id.decode() for name in QUEUES for job_id in await command(redis, "ZRANGE", name, 0, -1)]
        left = []
        rows = await _fields(redis, ids, "run", "journal", "starts", "crashes")
        for job_id, (run, journal, starts, crashes) in zip(ids, rows, strict=True):
            if run is None or f":{pid}:" not in run.decode():
                continue
            if journal is None:
                left.append(_Left(job_id, run, starts or b"", int(crashes or 0) + 1 >= CRASHES_TO_QUARANTINE))
            else:
                self.past_journal += 1
        return left

    async def _still_waiting(self, redis: RedisClient, left: list[_Left]) -> list[_Left]:
        """Those that have not been started again. One whose end was still on its way when its worker died has run; one
        whose journal mark was on its way turned out to be past its journal, and leaves `left`."""
        rows = await _fields(redis, [item.job_id for item in left], "starts", "ended", "run", "journal", "status")
        journaled = [
            item for item, (_, _, run, mark, _) in zip(left, rows, strict=True) if run == item.run and mark is not None
        ]
        self.past_journal += len(journaled)
        waiting = [
            item
            for item, (starts, ended, _, _, status) in zip(left, rows, strict=True)
            if starts == item.starts and ended != item.run and item not in journaled and status in UNFINISHED
        ]
        left[:] = [item for item in left if item not in journaled]
        return waiting


async def _due(redis: RedisClient) -> int:
    seconds, _ = await answered(redis, redis.time())
    return sum([await command(redis, "ZCOUNT", name, "-inf", seconds * 1000) for name in QUEUES])


async def _fields(redis: RedisClient, ids: Sequence[str], *names: str) -> list[list[bytes | None]]:
    pipe = redis.pipeline(transaction=False)
    for job_id in ids:
        pipe.hmget(keys.job(job_id), names)
    found: list[list[bytes | None]] = await answered(redis, pipe.execute(), 10.0)
    return found
