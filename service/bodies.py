"""Request bodies: raw bytes through one strict JSON decoder, then validated once."""

from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from mailer.errors import FieldError, HeaderInjection, InvalidRequest, InvalidSubmission

Model = TypeVar("Model", bound=BaseModel)
MAX_DEPTH = 100
NAIVE_TIME = "naive_datetime"
_WORDS = {
    "extra_forbidden": "there is no such field here",
    "missing": "is missing",
}


async def read_json(request: Request) -> dict[str, Any]:
    """The body as a JSON object. NaN, bad UTF-8 and lone surrogates are malformed."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise InvalidRequest(
            "unsupported_media_type",
            "The media type is not supported",
            f"Send the body as application/json, not {media_type or 'without a Content-Type'}.",
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        )
    try:
        raw = await request.body()
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            "malformed_json", "The body is not valid JSON", f"The body is not JSON: {error}"
        ) from error
    if not isinstance(body, dict):
        raise InvalidSubmission.at("", "The body must be a JSON object")
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise InvalidSubmission.at("", f"The body is nested more than {MAX_DEPTH} levels deep")
    return body


def _depth(body: object) -> int:
    """Levels of objects and lists, without recursion: a body may have 1,024, more than the encoder writes back."""
    deepest, todo = 0, [(body, 1)]
    while todo:
        value, depth = todo.pop()
        if isinstance(value, dict | list):
            deepest = max(deepest, depth)
            todo.extend((inner, depth + 1) for inner in (value.values() if isinstance(value, dict) else value))
    return deepest


def validate(model: type[Model], body: dict[str, Any]) -> Model:
    """Raises a Refused that names each field in the wrong by its JSON pointer."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise _refusal(error) from error


def _refusal(error: ValidationError) -> InvalidSubmission | InvalidRequest:
    errors = []
    for item in error.errors(include_url=False, include_input=False):
        if item["type"] == NAIVE_TIME:
            return InvalidRequest(NAIVE_TIME, "A time has no offset", f"{pointer(item['loc'])}: {item['msg']}")
        code = item["type"] if item["type"] == HeaderInjection.code else InvalidSubmission.code
        errors.append(FieldError(pointer(item["loc"]), code, explain(item)))
    kind = HeaderInjection if any(item.code == HeaderInjection.code for item in errors) else InvalidSubmission
    return kind("; ".join(f"{item.pointer or 'body'}: {item.detail}" for item in errors), tuple(errors))


def explain(item: ErrorDetails) -> str:
    return _WORDS.get(item["type"], item["msg"].removeprefix("Value error, "))


def pointer(loc: tuple[int | str, ...]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in loc)
