"""A worker's hold on one job for one run: what may still be stopped, and what has to be seen to its end.

Up to the journal a run can be stopped at any moment, and nothing has happened. From then on only the relay's answer
ends it.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from mailer.errors import QueueUnavailable
from mailer.jobs import Job
from mailer.store.leases import PUSHED_BACK_MS, LeaseStore
from mailer.store.runs import Claimed, Ending, FinishVerdict, Held, JournalEntry, JournalVerdict, Release

log = structlog.get_logger()
T = TypeVar("T")

JOURNAL_PATIENCE_S = 30.0
"""How long a relay that waits for the final dot is kept waiting for the queue server."""
PUSHED_BACK_S = PUSHED_BACK_MS / 1000
"""What nobody here understands, or a defect kept from running, is looked at again after this time."""
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
TOLD_AGAIN_S = 30.0


class Lease:
    """One run of one job."""

    def __init__(self, claimed: Claimed, store: LeaseStore) -> None:
        self.claimed = claimed
        self.held = Held(claimed.job_id, claimed.queue, claimed.run)
        self.past_journal = False
        """The final dot may be written at any moment, or was. Such a run is not stopped."""
        self._store = store
        self._stopped = False
        self._unsent = False
        self._over = False

    def stop(self) -> bool:
        """Whether the run may be stopped: it will not pass its journal any more."""
        if not self.past_journal:
            self._stopped = True
        return self._stopped

    async def journal(self, entry: JournalEntry) -> JournalVerdict:
        """Whether the final dot may be written. Raises QueueUnavailable after JOURNAL_PATIENCE_S: then it may not."""
        if self._stopped:
            return JournalVerdict.LOST
        self.past_journal, self._unsent = True, False
        verdict = JournalVerdict.LOST
        try:
            verdict = await _answered(lambda: self._store.journal(entry), patience_s=JOURNAL_PATIENCE_S)
        finally:
            if verdict is not JournalVerdict.GO:  # no dot follows, though the mark may be on the server
                self.past_journal, self._unsent = False, True
        return verdict

    async def refused(self, entry: JournalEntry) -> None:
        """The relay answered the final dot, and did not take it: until the next journal the run may be stopped, and if
        it dies there is no doubt. While the queue server is away the mark stays, as if the answer had been lost."""
        self.past_journal, self._unsent = False, True
        with contextlib.suppress(QueueUnavailable):
            await self._store.unjournal(entry)

    async def finish(self, job: Job, ending: Ending) -> FinishVerdict:
        """Write how the run ended, however long the queue server is away: what was sent must not be forgotten."""
        self.past_journal = True
        verdict = await _answered(lambda: self._store.finish(self.held, job, ending))
        self._over = verdict is FinishVerdict.FINISHED
        return verdict

    async def give_back(self, delay_s: float = 0.0, detail: str = "") -> None:
        """To the queue, without an end; no attempt is counted. `detail`: what it waits for. After an end that
        counted it does nothing."""
        if not self._over:
            await self._release(int(delay_s * 1000), detail)

    async def drop(self) -> None:
        """A queue entry that means nothing any more."""
        await self._release(None)

    async def _release(self, delay_ms: int | None, detail: str = "") -> None:
        release = Release(self.held, delay_ms, self._unsent, detail)
        await _answered(lambda: self._store.release(release))
        self._over = True


async def _answered(call: Callable[[], Awaitable[T]], patience_s: float | None = None) -> T:
    """Repeats a call until the queue server answers, or for `patience_s` seconds."""
    began = told = time.monotonic()
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await call()
        except QueueUnavailable as error:
            now = time.monotonic()
            if patience_s is not None and now - began > patience_s:
                raise
            if now - told > TOLD_AGAIN_S:
                told = now
                log.warning("job.waits_for_queue_server", detail=str(error), for_s=int(now - began))
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
