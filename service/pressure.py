"""Back-pressure: nothing more is accepted before anything breaks. What was accepted goes on, and a repeated request has
its answer.

A stream is full when its oldest due job has waited for too long, so that what is accepted now would come too late; the
queue server is full when its memory nearly is.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True)
class Load:
    """As last seen. A stream without due jobs, or that is paused, has no wait. `memory`: None where it has no bound."""

    waits_s: Mapping[Stream, float] = field(default_factory=dict)
    memory: float | None = None


def overload(load: Load, limits: Limits) -> dict[Stream, str]:
    """Why nothing more is accepted, by stream. Pure."""
    if (full := out_of_memory(load, limits)) is not None:
        return dict.fromkeys(Stream, full)
    return {
        stream: f"The oldest due job of stream {stream} waits for {waited_s:.0f} s; from {limit_s:g} s on it is full."
        for stream, limit_s in limits.waits_s.items()
        if (waited_s := load.waits_s.get(stream, 0.0)) >= limit_s
    }


def out_of_memory(load: Load, limits: Limits) -> str | None:
    if load.memory is None or load.memory < limits.memory:
        return None
    return f"The queue server uses {load.memory:.0%} of its memory; from {limits.memory:.0%} on it is full."


class Pressure:
    def __init__(self, streams: StreamStore, watch: ServerWatch, limits: Limits) -> None:
        self._streams = streams
        self._watch = watch
        self._limits = limits
        self._told = 0.0
        self.refusals: Mapping[Stream, str] = {}
        self._full: str | None = None

    def admit(self, streams: Iterable[Stream]) -> None:
        """Raises Overloaded where one of the streams takes no more."""
        for stream in streams:
            if stream in self.refusals:
                raise Overloaded(self.refusals[stream], retry_after_s=RETRY_AFTER_S)

    def admit_again(self) -> None:
        """Raises Overloaded where not even a job that is there already can be put back: the memory is nearly full."""
        if self._full is not None:
            raise Overloaded(self._full, retry_after_s=RETRY_AFTER_S)

    async def run(self) -> None:
        """Look every LOOK_EVERY_S seconds. Never returns."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """What cannot be seen is as it was: while the queue server is away, nothing is accepted anyway."""
        try:
            waits_s = await self._streams.waits_s()
        except QueueUnavailable:
            return
        load = Load(waits_s, self._watch.memory_share)
        found = overload(load, self._limits)
        self._tell(found)
        self.refusals, self._full = found, out_of_memory(load, self._limits)

    def _tell(self, found: Mapping[Stream, str]) -> None:
        now = time.monotonic()
        if self.refusals and not found:
            log.warning("api.accepts_again")
        if found and (found.keys() != self.refusals.keys() or now - self._told >= TELL_EVERY_S):
            self._told = now
            log.error("api.overloaded", streams=sorted(found), detail=next(iter(found.values())))
