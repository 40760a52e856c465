"""Every job that fits a filter put back, one after the other, with word of how far it is.

There is no state: each job is changed, or not, by itself. Whoever is cut off says it again, and what was put back
already does not fit the filter any more.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any

from mailer.errors import ContentGone, NotAllowedInStatus
from mailer.store.controls import ControlStore
from mailer.store.listing import Filter, JobList, Place
from service import controls

AT_ONCE = 20
PAGE = 200
MOST = 10_000
"""Jobs of one call, so that it ends in seconds; a place to go on from says that there are more."""


@dataclass(frozen=True, slots=True)
class Progress:
    """`gone`: their content is no longer kept. `changed`: somebody else was faster, or they have ended."""

    retried: int = 0
    gone: int = 0
    changed: int = 0
    next: Place | None = None

    @property
    def looked_at(self) -> int:
        return self.retried + self.gone + self.changed


async def _all(calls: Iterable[Coroutine[Any, Any, str]]) -> list[str]:
    """What all of them say; none is left to itself where one fails."""
    said = await asyncio.gather(*calls, return_exceptions=True)
    for word in said:
        if isinstance(word, BaseException):
            raise word
    return [str(word) for word in said]


async def retry_all(
    jobs: JobList, store: ControlStore, wanted: Filter, owner: str, after: Place | None
) -> AsyncIterator[Progress]:
    """Word after each page; the last one is the result. Raises QueueUnavailable: say it again."""
    progress, place = Progress(), after
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(job_id: str) -> str:
        async with slots:
            try:
                found = await store.change(job_id, owner, controls.retried)
            except ContentGone:
                return "gone"
            except NotAllowedInStatus:
                return "changed"
            return "retried" if found else "changed"

    while True:
        page = await jobs.page(wanted, min(PAGE, MOST - progress.looked_at), place)
        words = await _all(one(view.job.id) for view in page.jobs)
        place = page.next
        progress = replace(
            progress,
            retried=progress.retried + words.count("retried"),
            gone=progress.gone + words.count("gone"),
            changed=progress.changed + words.count("changed"),
            next=place,
        )
        yield progress
        if place is None or progress.looked_at >= MOST:
            return
