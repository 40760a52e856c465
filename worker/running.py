"""The runs of one worker: which jobs it holds, and which of them may still be stopped."""

import asyncio
from collections.abc import Callable, Collection, Coroutine

from mailer.store.runs import Held
from worker.lease import Lease


class Runs:
    """`ended` is called each time that one ends."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._runs: dict[asyncio.Task[None], Lease] = {}
        self._given_back: set[asyncio.Task[None]] = set()
        """Those of them that only give their job back: nothing stops that."""

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def before_journal(self) -> int:
        """How many could still be what brings the process down: the others only wait for an answer."""
        return sum(not lease.past_journal for lease in self._runs.values())

    def held(self) -> list[Held]:
        return [lease.held for lease in self._runs.values()]

    def journaled(self) -> frozenset[Held]:
        return frozenset(lease.held for lease in self._runs.values() if lease.past_journal)

    def start(self, lease: Lease, work: Coroutine[None, None, None]) -> None:
        """Do the work. Where it is stopped, the job is given back."""
        self._begin(lease, work)

    def stop(self, those: Collection[Held] | None = None) -> list[str]:
        """Stop these runs, or all of them, except where the final dot may be written. To be called again
        until they have ended: on Python 3.11 `asyncio.wait_for`, which aiosmtplib uses, can swallow a cancellation. The
        ids of those that are stopped."""
        stopped = []
        for task, lease in self._runs.items():
            if (those is None or lease.held in those) and lease.stop():
                if task not in self._given_back:
                    task.cancel()
                stopped.append(lease.held.job_id)
        return stopped

    def _begin(self, lease: Lease, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._runs[task] = lease
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        lease, is_given_back = self._runs.pop(task), task in self._given_back
        self._given_back.discard(task)
        if task.cancelled() and not is_given_back:
            self._given_back.add(self._begin(lease, lease.give_back()))
            return
        self._ended()
        if not task.cancelled():
            task.result()
