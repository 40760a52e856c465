"""Jobs found: the newest that fit a filter, page by page, over the indexes that the scripts keep."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from mailer.errors import RecordTooNew
from mailer.jobs import Reason, Status, Stream
from mailer.store import keys, records
from mailer.store.connection import RedisClient
from mailer.store.jobs import SHOWN_PENDING, JobView, shown_status
from mailer.store.scripts import Script

log = structlog.get_logger()

LOOKED_AT = 500
"""Jobs at a call. Each is a few lookups by the server, which does nothing else meanwhile."""
MOST_CALLS = 20
"""For one page: one that is still not full then has few jobs, or none, and a place to go on from."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What is left out matches all. `statuses` as they are shown; `pending` stands for those shown in its place. Times:
    ms, both included."""

    statuses: frozenset[str] = frozenset()
    recipient: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    template: str | None = None
    reason: Reason | None = None
    stream: Stream | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Of a job among all others: when it was accepted (ms), and its id."""

    at: int
    id: str


@dataclass(frozen=True, slots=True)
class Page:
    """`next`: where the next page begins; None at the end."""

    jobs: tuple[JobView, ...]
    next: Place | None


class JobList:
    def __init__(self, redis: RedisClient) -> None:
        self._list = Script(redis, "list")

    async def page(self, wanted: Filter, limit: int, after: Place | None = None) -> Page:
        """Up to `limit` jobs, newest first, that were accepted before the job at `after`; their attempts are left out.

        A page may have fewer jobs, or none, and a next one all the same. Raises QueueUnavailable.
        """
        found: list[JobView] = []
        place = after
        for _ in range(MOST_CALLS):
            jobs, place = await self._more(wanted, limit - len(found), place)
            found += jobs
            if place is None or len(found) == limit:
                break
        return Page(tuple(found), place)

    async def _more(self, wanted: Filter, limit: int, place: Place | None) -> tuple[list[JobView], Place | None]:
        latest = wanted.created_before
        if place is not None and latest is not None and latest < place.at:
            place = None  # of another question
        at: int | str = place.at if place is not None else latest if latest is not None else "+inf"
        oldest = wanted.created_after if wanted.created_after is not None else "-inf"
        shown = wanted.statuses | (SHOWN_PENDING if Status.PENDING in wanted.statuses else frozenset())
        args: list[str | bytes | int] = [keys.JOB, keys.ARQ_IN_PROGRESS, at, place.id if place else "", oldest]
        args += [_looked_at(wanted, limit), limit, "".join(f"{status}," for status in sorted(shown)), *_fields(wanted)]
        now, jobs, behind = await self._list(_indexes(wanted), args)
        views = [view for job in jobs if (view := _view(job, now)) is not None]
        return views, Place(int(behind[0]), behind[1].decode()) if behind else None


def _looked_at(wanted: Filter, limit: int) -> int:
    """Where the indexes alone say which jobs fit, few are passed over."""
    by_index = wanted.recipient is None and not _fields(wanted) and not wanted.statuses & SHOWN_PENDING
    return min(2 * limit, LOOKED_AT) if by_index else LOOKED_AT


def _indexes(wanted: Filter) -> list[str]:
    if wanted.recipient is not None:
        return [keys.recipient(wanted.recipient)]
    if not wanted.statuses:
        return [keys.jobs(status) for status in Status]
    stored = {Status.PENDING if status in SHOWN_PENDING else Status(status) for status in wanted.statuses}
    return [keys.jobs(status) for status in sorted(stored)]


def _fields(wanted: Filter) -> list[str]:
    """Field, value, ... that the record has to have."""
    pairs = (("template", wanted.template), ("reason", wanted.reason), ("stream", wanted.stream))
    return [part for name, value in pairs if value is not None for part in (name, value)]


def _view(found: Sequence[Any], now: int) -> JobView | None:
    """None where a newer version wrote it: that is no reason to show none of the others."""
    job_id, leased, flat = found
    try:
        job = records.decode_record(job_id.decode(), dict(zip(flat[::2], flat[1::2], strict=True)))
    except RecordTooNew:
        log.warning("job.record_too_new", job_id=job_id.decode(), fix="upgrade this API")
        return None
    return JobView(job, (), shown_status(job, leased=bool(leased), now=now))
