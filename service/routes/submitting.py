"""POST /jobs and /jobs/batch: what is asked most often."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from inspect import signature
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from mailer.errors import InvalidSubmission, Refused
from service.batch import accept_each, accept_together, items_of
from service.bodies import read_json, validate
from service.cloudevents import read_form
from service.dependencies import RequestState, state_of
from service.dry_run import Rehearsal
from service.intake import Acceptance, Item, checked_key
from service.openapi import IDEMPOTENCY_KEY, PREFER, SUBMIT_BODY, SUBMIT_PARAMETERS, body_of, parameters_of, problems
from service.parameters import BatchQuery, SubmitQuery, read_query
from service.schemas import Accepted, BatchAnswer, DryRun, Verdict
from service.submissions import Batch
from service.waiting import preferred_wait, verdict_on


class Direct(APIRoute):
    """A route whose function takes nothing but the request. FastAPI, which would look for more parameters in each
    request, only describes it. Raises TypeError, at start, for a function that takes more."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        if (parameters := list(signature(endpoint).parameters)) != ["request"]:
            raise TypeError(f"{endpoint.__name__} has to take the request alone, not {parameters}")

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.endpoint


router = APIRouter(tags=["jobs"], route_class=Direct)


@router.post(
    "/jobs",
    operation_id="submit",
    status_code=HTTPStatus.ACCEPTED,
    response_class=Response,
    openapi_extra={"requestBody": SUBMIT_BODY, "parameters": SUBMIT_PARAMETERS},
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
async def submit(request: Request) -> Response:
    """Submit a job (a template or inline content), or an event that templates answer.

    An event may also be a CloudEvent 1.0: structured; binary, with `ce-*` headers and its data as the body; or several
    of them as a batch, where what is wrong with one stands in its result, and the others are accepted.

    Answers as soon as the job is recorded; a worker does the rest. With `Prefer: wait=10` the answer is 200 and how it
    ended, if that is known in time; else 202 as always.
    """
    here, dry_run = state_of(request), read_query(request, SubmitQuery).dry_run
    form = await read_form(request, request.headers.get(IDEMPOTENCY_KEY))
    if isinstance(form, list):
        return await _each(here, form, dry_run=dry_run)
    if dry_run:
        return _shown(await _rehearsed(here["rehearsal"], form))
    acceptance = await here["intake"].accept(form, here["owner"])
    seconds = preferred_wait(request.headers.getlist(PREFER))
    if seconds is not None and (verdict := await _verdict(request, acceptance, seconds)) is not None:
        headers = _headers(acceptance) | {"Preference-Applied": f"wait={seconds}"}
        return Response(verdict.model_dump_json(), HTTPStatus.OK, headers, "application/json")
    return Response(acceptance.answer, HTTPStatus.ACCEPTED, _headers(acceptance), "application/json")


async def _each(here: RequestState, events: list[Item | Refused], *, dry_run: bool) -> Response:
    """The answer to a batch of CloudEvents."""
    if dry_run:
        raise InvalidSubmission.at("/query/dry_run", "A batch has no dry run: send its events one by one")
    return _shown(await accept_each(here["intake"], events, here["owner"], place=""), HTTPStatus.ACCEPTED)


async def _rehearsed(rehearsal: Rehearsal, form: Item) -> DryRun:
    if form.idempotency_key is not None:
        checked_key(form.idempotency_key)
    try:
        return await rehearsal.of(form.body)
    except Refused as refusal:
        raise form.spelled(refusal) from None


async def _verdict(request: Request, acceptance: Acceptance, seconds: int) -> Verdict | None:
    here = state_of(request)
    return await verdict_on(
        Accepted.model_validate(acceptance.said), here["jobs"], here["moves"], seconds, left(request)
    )


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
    response_class=Response,
    openapi_extra={"requestBody": body_of(Batch), "parameters": parameters_of(BatchQuery)},
    responses={
        202: {"model": BatchAnswer, "description": "What became of each."},
        **problems(400, 401, 413, 415, 422, 503),
    },
)
async def submit_batch(request: Request) -> Response:
    """Submit up to 1,000 jobs or events, each with an `idempotency_key` of its own where it has one.

    What is wrong with one of them stands in its result, and the others are accepted. Sent again with the same keys,
    only what was not accepted before is new.
    """
    here, mode = state_of(request), read_query(request, BatchQuery).mode
    items = items_of(validate(Batch, await read_json(request)))
    answer = await (accept_together if mode == "strict" else accept_each)(here["intake"], items, here["owner"])
    return _shown(answer, HTTPStatus.ACCEPTED)
