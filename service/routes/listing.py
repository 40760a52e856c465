"""GET /jobs by filter and cursor, POST /jobs/retry over what a filter finds."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response
from fastapi.sse import format_sse_event

from mailer.errors import QueueUnavailable, RecordTooNew
from service.bodies import read_json
from service.dependencies import ControlsDep, JobListDep, OwnerDep, PressureDep
from service.filters import ListRequest, RetryRequest, cursor_of, parse_query, parse_retry
from service.openapi import body_of, or_events, parameters_of, problems
from service.problems import QUEUE_UNAVAILABLE
from service.retrying import Progress, retry_all
from service.schemas import JobPage, RetryProgress
from service.streaming import events, wants_events
from service.views import show_summary

router = APIRouter(tags=["jobs"])


@router.get(
    "/jobs",
    operation_id="listJobs",
    openapi_extra={"parameters": parameters_of(ListRequest)},
    responses=problems(400, 401, 503),
)
async def list_jobs(request: Request, jobs: JobListDep) -> JobPage:
    """Jobs, newest first, a page at a time.

    A job has its place by the time it was accepted, so that a walk from page to page sees no job twice and misses none
    that stayed, whatever comes and goes meanwhile.
    """
    wanted, limit, after = parse_query(request.query_params.multi_items())
    page = await jobs.page(wanted, limit, after)
    return JobPage(
        data=[show_summary(view) for view in page.jobs], next=cursor_of(page.next) if page.next is not None else None
    )


@router.post(
    "/jobs/retry",
    operation_id="retryJobs",
    openapi_extra={"requestBody": body_of(RetryRequest)},
    responses={
        200: or_events(RetryProgress, "What it did. As events: `progress` now and then, and `done`."),
        **problems(400, 401, 413, 415, 422, 503),
    },
)
async def retry_jobs(
    request: Request, jobs: JobListDep, controls: ControlsDep, pressure: PressureDep, owner: OwnerDep
) -> Response:
    """Put back every job that a filter finds: those that have failed, if it says no status.

    A call takes up to 10,000 jobs; `next` is then where another goes on. It may be cut off and repeated: what was put
    back does not fit the filter any more.
    """
    wanted, after = parse_retry(await read_json(request))
    pressure.admit_again()
    steps = retry_all(jobs, controls, wanted, owner, after)
    if wants_events(request):
        return events(_events(steps))
    done = [step async for step in steps][-1]
    return Response(_shown(done).model_dump_json(), media_type="application/json")


async def _events(steps: AsyncIterator[Progress]) -> AsyncIterator[bytes]:
    latest = Progress()
    try:
        async for latest in steps:
            yield format_sse_event(event="progress", data_str=_shown(latest).model_dump_json())
    except (QueueUnavailable, RecordTooNew):
        _, title, detail = QUEUE_UNAVAILABLE
        yield format_sse_event(event="error", data_str=f"{title}. {detail}")
    else:
        yield format_sse_event(event="done", data_str=_shown(latest).model_dump_json())


def _shown(progress: Progress) -> RetryProgress:
    return RetryProgress(
        retried=progress.retried,
        content_expired=progress.gone,
        changed=progress.changed,
        next=cursor_of(progress.next) if progress.next is not None else None,
    )
