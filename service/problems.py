"""Every error as `application/problem+json` (RFC 9457), the framework's own included."""

from http import HTTPStatus

import orjson
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from mailer.errors import FieldError, NotAllowedInStatus, Overloaded, QueueUnavailable, RecordTooNew, Refused

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
QUEUE_UNAVAILABLE = (
    "queue_unavailable",
    "The queue server does not answer",
    (
        "The request was not accepted, or it is not known that it was. Send it again in a moment; with an "
        "Idempotency-Key it cannot become two jobs."
    ),
)
"""Code, title and detail."""
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_FRAMEWORK_CODES = {
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.UNPROCESSABLE_ENTITY: "validation_failed",
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal_error",
}


def problem(
    request: Request,
    status: HTTPStatus,
    code: str,
    title: str,
    detail: str,
    *,
    errors: tuple[FieldError, ...] = (),
    headers: dict[str, str] | None = None,
    **extensions: str,
) -> Response:
    body = {
        "type": f"urn:postroom:problem:{code}",
        "title": title,
        "status": int(status),
        "detail": detail,
        "instance": request.url.path,
        "code": code,
        "request_id": _id_of(request),
        "errors": errors,
        **extensions,
    }
    return Response(orjson.dumps(body), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def refused(request: Request, error: Refused) -> Response:
    after_s = error.retry_after_s if isinstance(error, Overloaded) else RETRY_AFTER_S
    retry = {"Retry-After": str(after_s)} if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None
    more = {"job_status": error.job_status} if isinstance(error, NotAllowedInStatus) else {}
    said = str(error)
    return problem(request, error.status, error.code, error.title, said, errors=error.errors, headers=retry, **more)


def queue_unavailable(request: Request, error: QueueUnavailable) -> Response:
    log.error("queue.unavailable", detail=str(error))
    return problem(
        request,
        HTTPStatus.SERVICE_UNAVAILABLE,
        *QUEUE_UNAVAILABLE,
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def _record_too_new(request: Request, error: RecordTooNew) -> Response:
    title = "The record is of a newer version"
    return problem(request, HTTPStatus.SERVICE_UNAVAILABLE, "record_too_new", title, str(error))


def _http_exception(request: Request, error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    code = _FRAMEWORK_CODES.get(status, "http_error")
    headers = dict(error.headers) if error.headers else None
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": ", ".join(_methods_at(request))}
    return problem(request, status, code, status.phrase, str(error.detail), headers=headers)


def _methods_at(request: Request) -> list[str]:
    """Of all routes at this path: the framework names those of the first, and none for a file (RFC 9110 15.5.6)."""
    if isinstance(request.scope.get("endpoint"), StaticFiles):
        return ["GET", "HEAD"]
    asked = [(method, {**request.scope, "method": method}) for method in _METHODS]
    return [method for method, scope in asked if any(_answers(route, scope) for route in request.app.routes)]


def _answers(route: BaseRoute, scope: Scope) -> bool:
    return route.matches(scope)[0] is Match.FULL


def _request_validation(request: Request, error: RequestValidationError) -> Response:
    errors = tuple(
        FieldError("/" + "/".join(str(part) for part in item["loc"]), "validation_failed", str(item["msg"]))
        for item in error.errors()
    )
    detail = "; ".join(f"{item.pointer}: {item.detail}" for item in errors)
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    return problem(request, status, "validation_failed", "A parameter is not valid", detail, errors=errors)


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("request.crashed", path=request.url.path, exc_info=error)
    return problem(
        request,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        "Something went wrong here",
        "This is a defect of Postroom. The log has the details under the request_id.",
        headers={"X-Request-ID": _id_of(request) or ""},  # what else puts it there is outrun by a defect
    )


def _id_of(request: Request) -> str | None:
    state: dict[str, str] = request.scope.get("state", {})
    return state.get("request_id")


def install(app: FastAPI) -> None:
    """Register a handler for each kind of error."""
    app.add_exception_handler(Refused, refused)  # type: ignore[arg-type]  # starlette types handlers as taking Exception
    app.add_exception_handler(QueueUnavailable, queue_unavailable)  # type: ignore[arg-type]  # as above
    app.add_exception_handler(RecordTooNew, _record_too_new)  # type: ignore[arg-type]  # as above
    app.add_exception_handler(HTTPException, _http_exception)  # type: ignore[arg-type]  # as above
    app.add_exception_handler(RequestValidationError, _request_validation)  # type: ignore[arg-type]  # as above
    app.add_exception_handler(Exception, _unexpected)
