"""What happened to a job, in order: told from its record, its attempts and what people did to it. Pure."""

import re
from collections.abc import Iterator

from mailer.interventions import Deed, Intervention
from mailer.jobs import FINAL, Job, Status
from mailer.store.jobs import JobView
from service.schemas import HistoryEntry
from service.views import rfc3339, show_attempt

_ID = re.compile(r"(\d{1,16})(?:\.\d+)?-")
ENDED_BY = {Deed.CANCELLED, Deed.RESOLVED}


def history_of(view: JobView) -> list[HistoryEntry]:
    """Oldest first. Each has an id: when, and what."""
    found = sorted(_happenings(view), key=lambda item: item[0])
    return [entry.model_copy(update={"id": f"{at}-{entry.what}"}) for at, entry in _apart(found)]


def entries_after(entries: list[HistoryEntry], last_id: str | None) -> list[HistoryEntry]:
    """Those behind the one with this id. Where that is gone, for a retry has taken an end back, those of a later time;
    all where it is no id."""
    ids = [entry.id for entry in entries]
    if last_id in ids:
        return entries[ids.index(last_id) + 1 :]
    found = _ID.match(last_id or "")
    return [entry for entry in entries if _time_of(entry.id) > int(found[1])] if found else entries


def _time_of(entry_id: str) -> int:
    return int(entry_id.partition("-")[0].partition(".")[0])


def _apart(found: list[tuple[int, HistoryEntry]]) -> Iterator[tuple[str, HistoryEntry]]:
    """Two of one name in one millisecond are told apart by their order."""
    seen: dict[tuple[int, str], int] = {}
    for at, entry in found:
        number = seen[at, entry.what] = seen.get((at, entry.what), 0) + 1
        yield (f"{at}" if number == 1 else f"{at}.{number}"), entry


def _happenings(view: JobView) -> Iterator[tuple[int, HistoryEntry]]:
    job = view.job
    yield job.created_at, HistoryEntry(at=_time(job.created_at), what="accepted")
    yield from _attempts(view)
    for done in view.interventions:
        yield done.at, _done(done)
    if job.status is Status.UNKNOWN and view.attempts:
        at = max(at for at, _ in _attempts(view))
        yield at, HistoryEntry(at=_time(at), what=job.status, detail=job.detail)
    if job.status in FINAL and job.finished_at is not None and not _ended_by_a_person(job, view.interventions):
        yield (
            job.finished_at,
            HistoryEntry(at=_time(job.finished_at), what=job.status, reason=job.reason, detail=job.detail),
        )


def _attempts(view: JobView) -> Iterator[tuple[int, HistoryEntry]]:
    for attempt in view.attempts:
        ended_at = attempt.at + attempt.duration_ms
        yield ended_at, HistoryEntry(at=_time(ended_at), what="attempted", attempt=show_attempt(attempt))


def _done(done: Intervention) -> HistoryEntry:
    return HistoryEntry(
        at=_time(done.at),
        what=done.deed,
        by=done.by,
        was=done.was,
        became=done.became,
        reason=done.reason,
        detail=done.detail,
    )


def _ended_by_a_person(job: Job, interventions: tuple[Intervention, ...]) -> bool:
    return any(done.deed in ENDED_BY and done.at == job.finished_at for done in interventions)


def has_ended(view: JobView) -> bool:
    """Nothing more happens by itself."""
    return view.job.status in FINAL or view.job.status is Status.UNKNOWN


def _time(at: int) -> str:
    return rfc3339(at) or ""
