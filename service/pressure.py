"""Back-pressure: nothing more is accepted before anything breaks. What was accepted goes on, and a repeated request has
its answer.

A stream is full when its oldest due job has waited for too long, so that what is accepted now would come too late; the
queue server is full when its memory nearly is.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping

import structlog

from mailer.errors import Overloaded, QueueUnavailable
from mailer.jobs import Stream
from mailer.store.streams import StreamStore
from mailer.store.watch import ServerWatch
from service.settings import Limits

log = structlog.get_logger()

LOOK_EVERY_S = 2.0
TELL_EVERY_S = 60.0
RETRY_AFTER_S = 30


def full_streams(waits_s: Mapping[Stream, float], limits: Limits) -> dict[Stream, str]:
    """Why nothing more is accepted for a stream, by how long its oldest due job waits. Pure."""
    return {
        stream: f"The oldest due job of stream {stream} waits for {waited_s:.0f} s; from {limit_s:g} s on it is full."
        for stream, limit_s in limits.waits_s.items()
        if (waited_s := waits_s.get(stream, 0.0)) >= limit_s
    }


def out_of_memory(share: float | None, limits: Limits) -> str | None:
    """Why nothing more is accepted at all, by the share of the server's memory that is used. Pure."""
    if share is None or share < limits.memory:
        return None
    return f"The queue server uses {min(share, 1.0):.0%} of its memory; from {limits.memory:.0%} on it is full."


class Pressure:
    def __init__(self, streams: StreamStore, watch: ServerWatch, limits: Limits) -> None:
        self._streams = streams
        self._watch = watch
        self._limits = limits
        self._full: Mapping[Stream, str] = {}
        self._told: tuple[frozenset[str], float] = (frozenset(), 0.0)

    def admit(self, streams: Iterable[Stream]) -> None:
        """Raises Overloaded where one of the streams takes no more."""
        self.admit_again()
        for stream in streams:
            if stream in self._full:
                raise Overloaded(self._full[stream], retry_after_s=RETRY_AFTER_S)

    def admit_again(self) -> None:
        """Raises Overloaded where not even a job that is there already can be put back: the memory is nearly full."""
        full = out_of_memory(self._watch.memory_share, self._limits)
        if full is not None:
            raise Overloaded(full, retry_after_s=RETRY_AFTER_S)

    async def run(self) -> None:
        """Look every LOOK_EVERY_S seconds. Never returns."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """What cannot be seen is as it was: while the queue server is away, nothing is accepted anyway."""
        try:
            self._full = full_streams(await self._streams.waits_s(), self._limits)
        except QueueUnavailable:
            return
        memory = out_of_memory(self._watch.memory_share, self._limits)
        found: dict[str, str] = {str(stream): detail for stream, detail in self._full.items()}
        if memory is not None:
            found["memory"] = memory
        self._tell(found)

    def _tell(self, found: Mapping[str, str]) -> None:
        """Log what has changed, and once in a while what lasts."""
        now, names = time.monotonic(), frozenset(found)
        before, told_at = self._told
        if before and not names:
            log.warning("api.accepts_again")
        if names and (names != before or now - told_at >= TELL_EVERY_S):
            log.error("api.overloaded", full=sorted(names), detail="; ".join(found.values()))
            told_at = now
        self._told = names, told_at
