"""POST /jobs and /jobs/batch, GET /jobs/{id} and its attempts."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel

from mailer.errors import InvalidSubmission, Refused
from service.batch import accept_each, accept_together, items_of
from service.bodies import read_json, validate
from service.cloudevents import read_form
from service.dependencies import IntakeDep, JobId, JobsDep, MovesDep, OwnerDep, RehearsalDep, view_of
from service.intake import Acceptance, Intake, Item, checked_key
from service.openapi import CLOUDEVENT_HEADERS, SUBMIT_BODY, body_of, problems
from service.schemas import Accepted, Attempts, BatchAnswer, DryRun, JobOut, Verdict
from service.submissions import Batch
from service.views import show_attempts, show_job
from service.waiting import preferred_wait, verdict_on

router = APIRouter(tags=["jobs"])


@router.post(
    "/jobs",
    operation_id="submit",
    status_code=HTTPStatus.ACCEPTED,
    response_class=Response,
    openapi_extra={"requestBody": SUBMIT_BODY, "parameters": CLOUDEVENT_HEADERS},
    responses={
        200: {
            "model": Verdict | DryRun,
            "description": "With `Prefer: wait`: how every job of it ended. With `dry_run`: what would be sent.",
            "headers": {"Preference-Applied": {"description": "`wait=10`", "schema": {"type": "string"}}},
        },
        202: {
            "model": Accepted | BatchAnswer,
            "description": "Accepted: recorded and queued. Nothing is lost from here on. Of a batch of CloudEvents, "
            "what became of each.",
            "headers": {
                "Location": {"description": "Where to read the job.", "schema": {"type": "string"}},
                "Idempotency-Replayed": {"description": "`true`: an earlier answer.", "schema": {"type": "string"}},
            },
        },
        **problems(400, 401, 413, 415, 422, 503),
    },
)
async def submit(
    request: Request,
    intake: IntakeDep,
    owner: OwnerDep,
    jobs: JobsDep,
    moves: MovesDep,
    rehearsal: RehearsalDep,
    idempotency_key: Annotated[str | None, Header(description="1 to 255 visible characters; kept 24 h.")] = None,
    dry_run: Annotated[
        bool, Query(description="200 with what would be sent: nothing is recorded, fetched or sent.")
    ] = False,
    prefer: Annotated[list[str] | None, Header(description="`wait=10`: seconds, 60 at the most.")] = None,
) -> Response:
    """Submit a job (a template or inline content), or an event that templates answer.

    An event may also be a CloudEvent 1.0: structured; binary, with `ce-*` headers and its data as the body; or several
    of them as a batch, where what is wrong with one stands in its result, and the others are accepted.

    Answers as soon as the job is recorded; a worker does the rest. With `Prefer: wait=10` the answer is 200 and how it
    ended, if that is known in time; else 202 as always.
    """
    form = await read_form(request, idempotency_key)
    if isinstance(form, list):
        return await _each(intake, form, owner, dry_run=dry_run)
    if dry_run:
        if form.idempotency_key is not None:
            checked_key(form.idempotency_key)
        with form.spelled():
            return _shown(await rehearsal.of(form.body))
    acceptance = await intake.accept_item(form, owner)
    headers = _headers(acceptance)
    if (seconds := preferred_wait(prefer or [])) is not None:
        verdict = await verdict_on(acceptance.said, jobs, moves, seconds, left(request))
        if verdict is not None:
            headers["Preference-Applied"] = f"wait={seconds}"
            return Response(verdict.model_dump_json(), HTTPStatus.OK, headers, "application/json")
    return Response(acceptance.answer, HTTPStatus.ACCEPTED, headers, "application/json")


async def _each(intake: Intake, events: list[Item | Refused], owner: str, *, dry_run: bool) -> Response:
    """The answer to a batch of CloudEvents."""
    if dry_run:
        raise InvalidSubmission.at("/query/dry_run", "A batch has no dry run: send its events one by one")
    return _shown(await accept_each(intake, events, owner, place=""), HTTPStatus.ACCEPTED)


async def left(request: Request) -> None:
    """Until whoever asked has gone. The body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _shown(answer: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(answer.model_dump_json(), status, media_type="application/json")


def _headers(acceptance: Acceptance) -> dict[str, str]:
    headers: dict[str, str] = {}
    if acceptance.location:
        headers["Location"] = acceptance.location
    if acceptance.replayed:
        headers["Idempotency-Replayed"] = "true"
    return headers


@router.post(
    "/jobs/batch",
    operation_id="submitBatch",
    status_code=HTTPStatus.ACCEPTED,
    openapi_extra={"requestBody": body_of(Batch)},
    responses=problems(400, 401, 413, 415, 422, 503),
)
async def submit_batch(
    request: Request,
    intake: IntakeDep,
    owner: OwnerDep,
    mode: Annotated[
        Literal["permissive", "strict"],
        Query(description="`strict`: all of them or none, and 100 at the most. Else each for itself."),
    ] = "permissive",
) -> BatchAnswer:
    """Submit up to 1,000 jobs or events, each with an `idempotency_key` of its own where it has one.

    What is wrong with one of them stands in its result, and the others are accepted. Sent again with the same keys,
    only what was not accepted before is new.
    """
    items = items_of(validate(Batch, await read_json(request)))
    return await (accept_together if mode == "strict" else accept_each)(intake, items, owner)


@router.get(
    "/jobs/{job_id}",
    operation_id="getJob",
    responses=problems(401, 404, 503),
)
async def get_job(jobs: JobsDep, job_id: JobId) -> JobOut:
    """A job as it stands: its status, each recipient's outcome, and the attempts made."""
    return show_job(await view_of(jobs, job_id))


@router.get(
    "/jobs/{job_id}/attempts",
    operation_id="listAttempts",
    responses=problems(401, 404, 503),
)
async def list_attempts(jobs: JobsDep, job_id: JobId) -> Attempts:
    """Each attempt with the SMTP conversation, how long each part took, and what the relay calls the mail."""
    return show_attempts((await view_of(jobs, job_id)).attempts)
