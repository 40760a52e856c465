"""GET /jobs/{id}/history: what happened to a job, and what happens to it next."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from mailer.errors import QueueUnavailable, RecordTooNew
from mailer.store.jobs import JobStore
from mailer.store.moves import Moves
from service.dependencies import JobId, JobsDep, MovesDep, view_of
from service.history import entries_after, has_ended, history_of
from service.openapi import or_events, problems
from service.schemas import History
from service.streaming import events, wants_events
from service.waiting import states

router = APIRouter(tags=["jobs"])

STREAMED_S = 600
"""Longest life of a stream: whoever still listens then comes again, and says what was heard last."""
AGAIN_MS = 1000


@router.get(
    "/jobs/{job_id}/history",
    operation_id="getHistory",
    responses={
        200: or_events(History, "Its history. As events: each entry by its `what`, new ones as they come, then `end`."),
        **problems(401, 404, 503),
    },
)
async def get_history(
    request: Request,
    jobs: JobsDep,
    moves: MovesDep,
    job_id: JobId,
    last_event_id: Annotated[str | None, Header(max_length=200, description="`id` of the entry heard last.")] = None,
) -> Response:
    """What happened to a job: accepted, each attempt, what people did, how it ended.

    Asked for `text/event-stream`, it goes on until the job has ended.
    """
    view = await view_of(jobs, job_id)
    if wants_events(request):
        return events(_events(jobs, moves, job_id, last_event_id))
    return Response(History(data=history_of(view)).model_dump_json(), media_type="application/json")


async def _events(jobs: JobStore, moves: Moves, job_id: str, last_id: str | None) -> AsyncIterator[bytes]:
    heard: set[str] = set()
    try:
        async for view in states(jobs, moves, job_id, STREAMED_S):
            if view is None:
                yield KEEPALIVE_COMMENT
                continue
            for entry in entries_after(history_of(view), last_id):
                if entry.id in heard:
                    continue
                heard.add(entry.id)
                yield format_sse_event(event=entry.what, id=entry.id, data_str=entry.model_dump_json(exclude={"id"}))
            if has_ended(view):
                yield format_sse_event(event="end", data_str=f'{{"status": "{view.status}"}}')
    except (QueueUnavailable, RecordTooNew):
        yield format_sse_event(comment="the job cannot be read now", retry=AGAIN_MS)
