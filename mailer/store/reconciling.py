"""What was left behind: a record that is unfinished, but stands in no queue, is put back; indexes are kept true.

That a job is in no queue never happens by itself. A server that was restored from older data, or a hand that removed an
entry, does it. Records, on the other hand, end by themselves, and leave their ids in the indexes.
"""

import time

from mailer import queue
from mailer.jobs import OPEN, Status
from mailer.store import keys
from mailer.store.connection import RedisClient, command
from mailer.store.scripts import Script
from mailer.store.sweeping import Sweeper

LOOKED_AT = 500
TURN_MS = 30_000
CURSOR_KEPT_MS = 24 * 3600 * 1000


class Reconciler:
    """Walks over all records, LOOKED_AT at a step; one worker at a time has the turn."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._reconcile = Script(redis, "reconcile")
        self._sweeper = Sweeper(redis)

    async def step(self, worker: str) -> tuple[str, ...]:
        """The ids that were put back; nothing where it is another worker's turn. Raises QueueUnavailable."""
        holder = await command(self._redis, "GET", keys.RECONCILER)
        if holder is not None and holder != worker.encode():
            return ()
        if holder is None and not await command(self._redis, "SET", keys.RECONCILER, worker, "NX", "PX", TURN_MS):
            return ()
        await command(self._redis, "PEXPIRE", keys.RECONCILER, TURN_MS)
        cursor = int(await command(self._redis, "GET", keys.RECONCILER_CURSOR) or 0)
        cursor, names = await command(self._redis, "SCAN", cursor, "COUNT", LOOKED_AT)
        # What of this step goes wrong is looked at again in the next round.
        await command(self._redis, "SET", keys.RECONCILER_CURSOR, cursor, "PX", CURSOR_KEPT_MS)
        seen = [name.decode(errors="replace") for name in names]
        await self._sweeper.step([name for name in seen if name.startswith(keys.RECIPIENT)])
        return await self._put_back([name.removeprefix(keys.JOB) for name in seen if name.startswith(keys.JOB)])

    async def _put_back(self, job_ids: list[str]) -> tuple[str, ...]:
        if not job_ids:
            return ()
        now_ms = time.time_ns() // 1_000_000
        open_statuses = "".join(f"{status}," for status in sorted(OPEN))
        all_statuses = "".join(f"{status}," for status in Status)
        args: list[str | bytes | int] = [keys.WAKE, keys.JOB, keys.ARQ_JOB, keys.JOBS, all_statuses, open_statuses]
        args.append(len(queue.QUEUES))
        args += [str(stream) for stream in queue.QUEUES]
        for job_id in job_ids:
            args += [job_id, queue.blob(job_id, now_ms)]
        found = await self._reconcile([queue.QUARANTINE, *queue.QUEUES.values()], args)
        return tuple(job_id.decode() for job_id in found)
