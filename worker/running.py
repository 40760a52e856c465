"""The runs of one worker: which jobs it holds, and which of them may still be stopped."""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass

from mailer.store.runs import Held
from worker.lease import Lease


@dataclass(slots=True, eq=False)
class _Run:
    lease: Lease
    work: asyncio.Task[None]


class Runs:
    """`ended` is called each time that one ends."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._runs: dict[asyncio.Task[None], _Run] = {}

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def before_journal(self) -> int:
        """How many could still be what brings the process down: the others only wait for an answer."""
        return sum(not run.lease.past_journal for run in self._runs.values())

    def held(self) -> list[Held]:
        return [run.lease.held for run in self._runs.values()]

    def journaled(self) -> frozenset[Held]:
        return frozenset(run.lease.held for run in self._runs.values() if run.lease.past_journal)

    def start(self, lease: Lease, work: Coroutine[None, None, None]) -> None:
        """Do the work. Where it is stopped, the job is given back."""
        loop = asyncio.get_running_loop()
        run = _Run(lease, loop.create_task(work))
        task = loop.create_task(_whole(run))
        self._runs[task] = run
        task.add_done_callback(self._forget)

    def stop(self, those: Collection[Held] | None = None) -> list[str]:
        """Stop these runs, or all of them, except where the final dot may be written. To be called again
        until they have ended: on Python 3.11 `asyncio.wait_for`, which aiosmtplib uses, can swallow a cancellation. The
        ids of those that are stopped."""
        stopped = []
        for run in self._runs.values():
            if (those is None or run.lease.held in those) and run.lease.stop():
                run.work.cancel()
                stopped.append(run.lease.held.job_id)
        return stopped

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._runs[task]
        self._ended()
        task.result()


async def _whole(run: _Run) -> None:
    await asyncio.wait({run.work})
    if run.work.cancelled():
        await run.lease.give_back()
    else:
        run.work.result()
