"""Whoever wants to know what becomes of a job is told as soon as it is known, within a bound."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

from mailer.errors import QueueUnavailable, RecordTooNew
from mailer.jobs import Status
from mailer.store.jobs import JobStore, JobView
from mailer.store.moves import Moves
from service.history import has_ended
from service.schemas import Accepted, Verdict
from service.views import show_job

T = TypeVar("T")
LONGEST_S = 60
SIGN_OF_LIFE_S = 15.0
GRAVEST_FIRST = (Status.UNKNOWN, Status.FAILED, Status.EXPIRED, Status.CANCELLED, Status.SENT, Status.SKIPPED)
"""The status of several jobs together."""
_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,9})\"?")


def preferred_wait(prefer: Sequence[str]) -> int | None:
    """Seconds of the first `wait` preference (RFC 7240), at most LONGEST_S. What cannot be read is no preference."""
    for preference in ",".join(prefer).split(","):
        if found := _WAIT.fullmatch(preference.partition(";")[0].strip().lower()):
            return min(int(found[1]), LONGEST_S)
    return None


async def verdict_on(
    accepted: Accepted, jobs: JobStore, moves: Moves, seconds: float, left: Coroutine[Any, Any, None]
) -> Verdict | None:
    """None where it is not known how all of its jobs end within the time, or whoever asked has `left` before. Accepted
    they are, whatever happens here."""
    try:
        views = await _unless(left, ended(jobs, moves, [job.id for job in accepted.jobs], seconds))
    except (QueueUnavailable, RecordTooNew):
        return None
    if views is None:
        return None
    statuses = {view.job.status for view in views}
    worst = next(status for status in GRAVEST_FIRST if status in statuses)
    return Verdict(id=accepted.id, status=worst, jobs=[show_job(view) for view in views])


async def _unless(left: Coroutine[Any, Any, None], work: Coroutine[Any, Any, T]) -> T | None:
    """What comes of the work; None where the other is done before."""
    tasks = asyncio.create_task(work), asyncio.create_task(left)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def ended(jobs: JobStore, moves: Moves, job_ids: Sequence[str], seconds: float) -> list[JobView] | None:
    """The jobs once all of them have ended; None where that takes longer, all that are left are for later, or too many
    wait already."""
    found: dict[str, JobView] = {}
    with moves.watching(job_ids) as moved, contextlib.suppress(TimeoutError):
        if moved is None:
            return None
        async with asyncio.timeout(seconds):
            while True:
                moved.clear()
                waiting = []
                for job_id in job_ids:
                    view = None if job_id in found else await jobs.view(job_id)
                    if view is not None and has_ended(view):
                        found[job_id] = view
                    elif view is not None:
                        waiting.append(view.status)
                if len(found) == len(job_ids):
                    return [found[job_id] for job_id in job_ids]
                if moves.are_over or all(status == "scheduled" for status in waiting):
                    return None
                await moved.wait()
    return None


async def states(jobs: JobStore, moves: Moves, job_id: str, seconds: float) -> AsyncIterator[JobView | None]:
    """A job as it is, and again whenever it has moved, until it has ended or `seconds` are over. None, now and then, is
    a sign of life."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    with moves.watching([job_id]) as moved:
        while (left_s := ends_at - loop.time()) > 0:
            if moved is not None:
                moved.clear()
            view = await jobs.view(job_id)
            if view is None:
                return
            yield view
            if has_ended(view) or moved is None or moves.are_over:
                return
            while not moved.is_set() and (left_s := ends_at - loop.time()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left_s, SIGN_OF_LIFE_S)):
                        await moved.wait()
                if not moved.is_set():
                    yield None
