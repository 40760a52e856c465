"""The forms of POST /jobs: Postroom's own, and CloudEvents 1.0 in the three modes of its HTTP binding.

Each form of an event becomes the same body of an EventSubmission, so that it is the same event to the intake.
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from mailer.errors import FieldError, InvalidRequest, InvalidSubmission, Refused
from service.bodies import JSON, as_object, decode, first_of, media_type_of, pointer, told, unsupported, validate
from service.intake import Item
from service.submissions import MOST_IN_BATCH, CloudEvent, is_json

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
ACCEPTED = f"{JSON}, {STRUCTURED} or {BATCH}"
_FAMILY = "application/cloudevents"
_PREFIX = b"ce-"
_NAME = re.compile(r"[a-z0-9]+")
_QUOTED_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"')


async def read_form(request: Request, idempotency_key: str | None) -> Item | list[Item | Refused]:
    """What is submitted; a list is a batch, with what is wrong with an event in its place.

    Content-Type decides, so `ce-*` headers beside a structured event or a batch mean nothing.
    """
    media_type = media_type_of(request)
    if media_type == STRUCTURED:
        event = as_object(decode(await request.body()))
        return Item(_event(event, _in_structured), idempotency_key, _in_structured)
    if media_type == BATCH:
        if idempotency_key is not None:
            raise _key_for_many()
        return _batch(decode(await request.body()))
    if "ce-specversion" in request.headers and not media_type.startswith(_FAMILY):
        if not is_json(media_type or JSON):
            raise unsupported(media_type, f"{JSON}: what is in it is the event's data (its datacontenttype)")
        return Item(_event(await _from_headers(request), _in_binary), idempotency_key, _in_binary)
    if media_type != JSON:
        raise unsupported(media_type, ACCEPTED)
    return Item(as_object(decode(await request.body())), idempotency_key)


def _batch(events: object) -> list[Item | Refused]:
    if not isinstance(events, list):
        raise InvalidSubmission.at("", "The body must be a JSON array of events")
    if len(events) > MOST_IN_BATCH:
        raise InvalidSubmission.at("", f"A batch has at most {MOST_IN_BATCH} events, not {len(events)}: send several")
    return [_one_of_batch(event) for event in events]


def _one_of_batch(event: object) -> Item | Refused:
    try:
        return Item(_event(as_object(event, "An event"), _in_structured), None, _in_structured)
    except Refused as refusal:
        return refusal


async def _from_headers(request: Request) -> dict[str, Any]:
    """The attributes of an event in binary mode, and the body as its data."""
    attributes: dict[str, Any] = {}
    for raw_name, value in request.headers.raw:
        if not raw_name.startswith(_PREFIX):
            continue
        name = raw_name.removeprefix(_PREFIX).decode("latin-1")
        if name in attributes:
            raise _bad_header(name, "is there twice")
        if name in {"data", "datacontenttype"}:
            raise _bad_header(name, "is not a header: data is the body, and datacontenttype is its Content-Type")
        try:
            attributes[name] = _unescaped(value).decode()
        except UnicodeDecodeError:
            raise _bad_header(name, "is not UTF-8 once its percent-encoding is undone") from None
    raw = await request.body()
    # No data has no body: an empty one is no JSON, and is not refused for that.
    return attributes | {"data": as_object(decode(raw), "The body, which is the event's data,") if raw else {}}


def _unescaped(value: bytes) -> bytes:
    """Of the binding's 3.1.3.2: quotes around it (older senders write them), then one round of percent-decoding."""
    if quoted := _QUOTED_STRING.fullmatch(value):
        value = re.sub(rb"\\(.)", rb"\1", quoted[1])
    return unquote_to_bytes(value)


def _event(attributes: dict[str, Any], spelling: Callable[[str], str]) -> dict[str, Any]:
    """The body of the same EventSubmission. null is as good as left out, says the JSON format."""
    given = {name: value for name, value in attributes.items() if value is not None}
    wrong = first_of(
        FieldError(spelling(pointer((name,))), InvalidSubmission.code, trouble)
        for name, value in given.items()
        if name not in CloudEvent.model_fields and (trouble := _trouble(name, value))
    )
    if wrong:
        raise InvalidSubmission(told(wrong), tuple(wrong))
    event = validate(CloudEvent, given, spelling)
    optional = {"subject": event.subject, "time": event.time}
    return {
        "event": event.type,
        "source": event.source,
        "id": event.id,
        "data": event.data,
        **{name: value for name, value in optional.items() if value is not None},
    }


def _trouble(name: str, value: object) -> str | None:
    """What is wrong with an extension attribute. Its value is ignored, but may be a misplaced part of the data."""
    if name == "data_base64":
        return "data is for templates: give it as `data`, a JSON object"
    if not _NAME.fullmatch(name):
        return "there is no such attribute: its name would have lower-case letters and digits only"
    if not isinstance(value, str | int):
        return "an extension attribute is a string, a boolean or an integer; what a mail needs goes into `data`"
    return None


def _in_structured(place: str) -> str:
    return "/type" if place == "/event" else place


def _in_binary(place: str) -> str:
    """Attributes are headers, and the body is what stands under `data`."""
    if place in {"", "/from"}:
        return place  # the event as such; and the sender, which an event cannot name
    if place == "/data" or place.startswith("/data/"):
        return place.removeprefix("/data")
    name = _in_structured(place).removeprefix("/")
    return f"/header/ce-{name}"


def _bad_header(name: str, detail: str) -> InvalidSubmission:
    return InvalidSubmission.at(f"/header/ce-{name}", f"ce-{name} {detail}")


def _key_for_many() -> InvalidRequest:
    return InvalidRequest(
        "idempotency_key_invalid",
        "The Idempotency-Key is not valid",
        "A batch has no Idempotency-Key: leave the header out. Each event has its own key, its source and id.",
    )
