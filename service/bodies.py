"""Request bodies: raw bytes through one strict JSON decoder, then validated once."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from mailer.errors import FieldError, HeaderInjection, InvalidRequest, InvalidSubmission

Model = TypeVar("Model", bound=BaseModel)
JSON = "application/json"
MAX_DEPTH = 100
NAIVE_TIME = "naive_datetime"
_WORDS = {
    "extra_forbidden": "there is no such field here",
    "missing": "is missing",
}


async def read_json(request: Request) -> dict[str, Any]:
    """The body as a JSON object, called application/json."""
    media_type = media_type_of(request)
    if media_type != JSON:
        raise unsupported(media_type, JSON)
    return as_object(decode(await request.body()))


def media_type_of(request: Request) -> str:
    """Without its parameters; empty where there is no Content-Type."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def unsupported(media_type: str, accepted: str) -> InvalidRequest:
    return InvalidRequest(
        "unsupported_media_type",
        "The media type is not supported",
        f"Send the body as {accepted}, not {media_type or 'without a Content-Type'}.",
        status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    )


def decode(raw: bytes) -> object:
    """The one decoder of JSON from outside. NaN, bad UTF-8 and lone surrogates are malformed."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            "malformed_json", "The body is not valid JSON", f"The body is not JSON: {error}"
        ) from error
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise InvalidSubmission.at("", f"The body is nested more than {MAX_DEPTH} levels deep")
    return body


def as_object(value: object, what: str = "The body") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidSubmission.at("", f"{what} must be a JSON object")
    return value


def _depth(body: object) -> int:
    """Levels of objects and lists, without recursion: a body may have 1,024, more than the encoder writes back."""
    deepest, todo = 0, [(body, 1)]
    while todo:
        value, depth = todo.pop()
        if isinstance(value, dict | list):
            deepest = max(deepest, depth)
            todo.extend((inner, depth + 1) for inner in (value.values() if isinstance(value, dict) else value))
    return deepest


def validate(model: type[Model], body: dict[str, Any], spelling: Callable[[str], str] = str) -> Model:
    """Raises a Refused that names each field in the wrong by its JSON pointer, or by what `spelling` makes of it."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise _refusal(error, spelling) from error


def _refusal(error: ValidationError, spelling: Callable[[str], str]) -> InvalidSubmission | InvalidRequest:
    errors = []
    for item in error.errors(include_url=False, include_input=False):
        place = spelling(pointer(item["loc"]))
        if item["type"] == NAIVE_TIME:
            return InvalidRequest(NAIVE_TIME, "A time has no offset", f"{place}: {item['msg']}")
        code = item["type"] if item["type"] == HeaderInjection.code else InvalidSubmission.code
        errors.append(FieldError(place, code, explain(item)))
    kind = HeaderInjection if any(item.code == HeaderInjection.code for item in errors) else InvalidSubmission
    return kind(told(errors), tuple(errors))


def told(errors: Sequence[FieldError]) -> str:
    return "; ".join(f"{item.pointer or 'body'}: {item.detail}" for item in errors)


def explain(item: ErrorDetails) -> str:
    return _WORDS.get(item["type"], item["msg"].removeprefix("Value error, "))


def pointer(loc: tuple[int | str, ...]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in loc)
