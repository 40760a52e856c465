"""The streams as a whole: how much waits in each, and whether it is paused. Raises QueueUnavailable."""

from dataclasses import dataclass

from mailer import queue
from mailer.jobs import Stream
from mailer.settings import Durability
from mailer.store import keys
from mailer.store.connection import RedisClient, answered
from mailer.store.scripts import Script

LONGEST_LEASE_MS = 900_000
"""Of a run past its journal: three of the longest leases that a worker may be set to."""
LOOKED_AT = 5000
"""Entries of a queue at a call: a few milliseconds of the server's time."""


@dataclass(frozen=True, slots=True)
class StreamView:
    """`ready`: due, and no worker has them. `scheduled`: due later, those that are deferred among them. `quarantined`:
    jobs that run alone, whenever they are due; they are in none of the other counts. `oldest_wait_s`: of those that are
    ready. `paused_at`: ms."""

    stream: Stream
    paused_at: int | None
    ready: int
    scheduled: int
    leased: int
    quarantined: int
    oldest_wait_s: float | None


class StreamStore:
    def __init__(self, redis: RedisClient, durability: Durability) -> None:
        self._redis = redis
        self._streams = Script(redis, "streams")
        self._pause = Script(redis, "pause", durability)

    async def overview(self) -> list[StreamView]:
        """All of them, in their order."""
        names = [keys.PAUSED_STREAMS, queue.QUARANTINE, *queue.QUEUES.values()]
        now, *rows = await self._streams(
            names, [keys.JOB, keys.ARQ_IN_PROGRESS, LONGEST_LEASE_MS, LOOKED_AT, *queue.QUEUES]
        )
        return [_view(stream, row, now) for stream, row in zip(queue.QUEUES, rows, strict=True)]

    async def waits_s(self) -> dict[Stream, float]:
        """For how long the oldest ready job of each stream is due; nothing of those that are paused, or have none."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hkeys(keys.PAUSED_STREAMS)
        pipe.time()
        for name in queue.QUEUES.values():
            pipe.zrange(name, 0, 0, withscores=True)
        paused, (seconds, microseconds), *oldest = await answered(self._redis, pipe.execute())
        now = seconds * 1000 + microseconds // 1000
        return {
            stream: (now - first[0][1]) / 1000
            for stream, first in zip(queue.QUEUES, oldest, strict=True)
            if first and first[0][1] <= now and stream.encode() not in paused
        }

    async def pause(self, stream: Stream) -> None:
        """From now on no worker claims a job of it, until it is resumed. Runs that are under way go on."""
        await self._pause([keys.PAUSED_STREAMS], [keys.WAKE, stream, "1"])

    async def resume(self, stream: Stream) -> None:
        await self._pause([keys.PAUSED_STREAMS], [keys.WAKE, stream, "0"])


def _view(stream: Stream, row: list[int | bytes], now: int) -> StreamView:
    paused_at, due, entries, leased, quarantined, oldest = row
    return StreamView(
        stream=stream,
        paused_at=int(paused_at) if paused_at else None,
        ready=int(due),
        scheduled=int(entries) - int(due) - int(leased),
        leased=int(leased),
        quarantined=int(quarantined),
        oldest_wait_s=max(0.0, (now - float(oldest)) / 1000) if oldest else None,
    )
