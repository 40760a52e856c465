"""What goes wrong during a run, each at its time, whatever else is still wrong."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mailer.errors import QueueUnavailable
from mailer.store.connection import command
from tests.chaos.cast import Cast
from tests.chaos.plan import Fault, Moment, Schedule
from tests.chaos.supervised import Supervised

CUT_EVERY_S = 0.05
OF_SUBSCRIBERS = 1 / 3
"""Share of the cuts that meet the wake channel instead of the commands."""


@dataclass(frozen=True, slots=True)
class Faults:
    """`watchers`: what goes on looking at the jobs of killed workers."""

    cast: Cast
    watchers: asyncio.TaskGroup

    async def happen(self, schedule: Schedule) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as faults:
            for moment in schedule.moments:
                await asyncio.sleep(max(0.0, began + moment.at_s - time.monotonic()))
                faults.create_task(self._happens(moment))

    async def _happens(self, moment: Moment) -> None:
        match moment.fault:
            case Fault.SERVER_KILLED:
                await self.cast.server.kill(moment.lasts_s)
            case Fault.LINES_CUT:
                await self._cut_lines("pubsub" if moment.which < OF_SUBSCRIBERS else "normal", moment.lasts_s)
            case Fault.RELAY_OUT:
                sinks = self.cast.sinks
                await sinks[int(moment.which * len(sinks))].go_out(moment.lasts_s)
            case Fault.RELAYS_OUT:
                await asyncio.gather(*(sink.go_out(moment.lasts_s) for sink in self.cast.sinks))
            case Fault.API_KILLED:
                if victim := _choose(self.cast.apis, moment):
                    await victim.kill()
            case _:
                if victim := _choose(self.cast.workers, moment):
                    await self._hit(victim, moment)

    async def _hit(self, worker: Supervised, moment: Moment) -> None:
        match moment.fault:
            case Fault.WORKER_STOPPED:
                await worker.stop()
            case Fault.WORKER_FROZEN:
                await worker.freeze(moment.lasts_s)
            case _:
                killed_at = time.monotonic()
                pid = await worker.kill()
                cast = self.cast
                self.watchers.create_task(cast.recoveries.watch(cast.redis, pid, killed_at))

    async def _cut_lines(self, kind: str, for_s: float) -> None:
        ends_at = time.monotonic() + for_s
        while True:
            with contextlib.suppress(QueueUnavailable):  # killed as well
                await command(self.cast.redis, "CLIENT", "KILL", "TYPE", kind)
            if time.monotonic() >= ends_at:
                return
            await asyncio.sleep(CUT_EVERY_S)


def _choose(processes: Sequence[Supervised], moment: Moment) -> Supervised | None:
    """One that is at work. Where none is, one that is not yet may be killed; on SIGTERM it would just end."""
    able = [process for process in processes if process.is_ready]
    if not able and moment.fault in {Fault.WORKER_KILLED, Fault.API_KILLED}:
        able = [process for process in processes if process.may_be_hit]
    return able[int(moment.which * len(able))] if able else None
