"""Request bodies: raw bytes through one strict JSON decoder, then validated once."""

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from mailer.errors import FieldError, HeaderInjection, InvalidRequest, InvalidSubmission

Model = TypeVar("Model", bound=BaseModel)
JSON = "application/json"
MAX_DEPTH = 100
MOST_ERRORS = 20
MOST_CHARS = 500
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


async def no_fields(request: Request) -> None:
    """Of a request that says all in its path. Raises InvalidSubmission for a field that nobody would read."""
    if await request.body():
        validate(_Nothing, await read_json(request))


class _Nothing(BaseModel):
    model_config = ConfigDict(extra="forbid")


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
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _is_deep(body):
        raise InvalidSubmission.at("", f"The body is nested more than {MAX_DEPTH} levels deep")
    return body


def as_object(value: object, what: str = "The body") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidSubmission.at("", f"{what} must be a JSON object")
    return value


_NESTED = frozenset({dict, list})
LONG = 100
"""Values from which on a look at all their types at once pays."""


def _is_deep(value: object) -> bool:
    """Whether it has more than MAX_DEPTH levels: a body may have 1,024, more than the encoder writes back. Level by
    level; a long list of numbers is passed over about as fast as it was decoded."""
    level: list[Any] = [value] if type(value) in _NESTED else []
    for _ in range(MAX_DEPTH):
        if not level:
            return False
        level = [inner for outer in level for inner in _nested_in(outer)]
    return bool(level)


def _nested_in(outer: dict[str, object] | list[object]) -> Iterable[Any]:
    inside: Collection[object] = outer.values() if isinstance(outer, dict) else outer
    if len(inside) > LONG and _NESTED.isdisjoint(map(type, inside)):
        return ()
    return [one for one in inside if type(one) in _NESTED]


def validate(model: type[Model], body: dict[str, Any], spelling: Callable[[str], str] = str) -> Model:
    """Raises a Refused that names each field in the wrong by its JSON pointer, or by what `spelling` makes of it."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise _refusal(error, spelling) from error


def _refusal(error: ValidationError, spelling: Callable[[str], str]) -> InvalidSubmission | InvalidRequest:
    items = error.errors(include_url=False, include_input=False)
    for item in items:
        if item["type"] == NAIVE_TIME:
            place = spelling(pointer(item["loc"]))
            naive = FieldError(place, NAIVE_TIME, item["msg"])
            return InvalidRequest(NAIVE_TIME, "A time has no offset", told([naive]), errors=(naive,))
    errors = first_of(FieldError(spelling(pointer(item["loc"])), _code_of(item), explain(item)) for item in items)
    kind = HeaderInjection if any(item.code == HeaderInjection.code for item in errors) else InvalidSubmission
    return kind(told(errors), tuple(errors))


def _code_of(item: ErrorDetails) -> str:
    return item["type"] if item["type"] == HeaderInjection.code else InvalidSubmission.code


def told(errors: Sequence[FieldError]) -> str:
    return "; ".join(f"{item.pointer or 'body'}: {item.detail}" for item in errors)


def first_of(errors: Iterable[FieldError]) -> list[FieldError]:
    """As many as somebody may want to read: an answer must not be larger than the request that caused it."""
    some = list(itertools.islice(errors, MOST_ERRORS + 1))
    if len(some) > MOST_ERRORS:
        some[MOST_ERRORS:] = [FieldError("", InvalidSubmission.code, f"only the first {MOST_ERRORS} are named here")]
    return [FieldError(_short(item.pointer), item.code, _short(item.detail)) for item in some]


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARS else text[:MOST_CHARS] + "..."


def explain(item: ErrorDetails) -> str:
    return _WORDS.get(item["type"], item["msg"].removeprefix("Value error, "))


def pointer(loc: tuple[int | str, ...]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in loc)
