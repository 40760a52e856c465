"""A written stand-in for LeaseStore: it answers what a test told it to, and keeps what it was asked."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from mailer.errors import QueueUnavailable
from mailer.jobs import Job
from mailer.store.runs import Claimed, Ending, FinishVerdict, Held, JournalEntry, JournalVerdict, Release

AWAY = QueueUnavailable("away")


@dataclass
class LeasesToldWhatToSay:
    """Each list is used up one by one, its last answer for good; an exception in it is raised."""

    journals: list[JournalVerdict | Exception] = field(default_factory=lambda: [JournalVerdict.GO])
    finishes: list[FinishVerdict | Exception] = field(default_factory=lambda: [FinishVerdict.FINISHED])
    releases: list[Exception | None] = field(default_factory=lambda: [None])
    asked: list[str] = field(default_factory=list)
    unjournaled: list[JournalEntry] = field(default_factory=list)
    released: list[Release] = field(default_factory=list)
    hold: asyncio.Event | None = None
    """While it is not set, no journal is answered."""

    async def journal(self, entry: JournalEntry) -> JournalVerdict:
        self.asked.append("journal")
        if self.hold is not None:
            await self.hold.wait()
        verdict: JournalVerdict = _next(self.journals)
        return verdict

    async def finish(self, held: Held, job: Job, ending: Ending) -> FinishVerdict:
        self.asked.append("finish")
        verdict: FinishVerdict = _next(self.finishes)
        return verdict

    async def unjournal(self, entry: JournalEntry) -> None:
        self.unjournaled.append(entry)

    async def release(self, release: Release) -> None:
        self.asked.append("release")
        _next(self.releases)
        self.released.append(release)


def claimed(job_id: str = "a") -> Claimed:
    return Claimed(job_id, "arq:queue", f"worker/{job_id}", None, {}, None, None, 1)


def _next(answers: list[Any]) -> Any:
    answer = answers.pop(0) if len(answers) > 1 else answers[0]
    if isinstance(answer, Exception):
        raise answer
    return answer
