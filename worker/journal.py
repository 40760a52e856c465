"""The point of no return of a run: what is written down before a final dot.

The trap: what was written for one relay is in doubt until that relay has answered, or the run has ended.
"""

import orjson

from mailer.jobs import JournalMark, Recipient
from mailer.store.runs import JournalEntry, JournalVerdict
from worker.lease import Lease
from worker.preparation import Prepared


class Withheld(Exception):
    """The journal says that the final dot must not be written."""

    def __init__(self, verdict: JournalVerdict) -> None:
        super().__init__(verdict)
        self.verdict = verdict


class Journal:
    """What a run writes down before each final dot. `newest`: the entry whose dot may have been written."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self.newest: JournalEntry | None = None

    async def write(self, mark: JournalMark, prepared: Prepared, recipients: tuple[Recipient, ...]) -> None:
        """What must be the same in any later copy. Raises Withheld, and QueueUnavailable."""
        fetched = orjson.dumps(prepared.fetched) if prepared.fetched else b""
        entry = JournalEntry(self._lease.held, mark, recipients, prepared.dated, fetched)
        verdict = await self._lease.journal(entry)
        if verdict is not JournalVerdict.GO:
            raise Withheld(verdict)
        self.newest = entry

    async def refused(self) -> None:
        """The relay did not take what was journaled last."""
        if (entry := self.newest) is not None:
            self.newest = None
            await self._lease.refused(entry)


class NoJournal(Journal):
    """For a mail that has no record: whoever waits at the console sees what became of it."""

    def __init__(self) -> None:
        self.newest = None

    async def write(self, mark: JournalMark, prepared: Prepared, recipients: tuple[Recipient, ...]) -> None:
        """Nowhere."""

    async def refused(self) -> None:
        """Nothing is in doubt."""
