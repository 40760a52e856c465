"""What a request to the API may say: the models of its bodies. Those of its answers are in schemas.py."""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from mailer.addresses import Address, make_address, parse_address
from mailer.backoff import OwnBackoff
from mailer.compose import check_header, check_header_text
from mailer.errors import HeaderError, HeaderInjection
from mailer.jobs import Stream, UnknownPolicy
from mailer.rendering import MAX_RECIPIENTS

MAX_CONTENT_CHARS = 2_000_000
MAX_HEADERS = 50
MOST_IN_BATCH = 1000
MOST_TOGETHER = 100
"""In a strict batch: they are one call to the queue server."""


def _header_error(error: HeaderError) -> Exception:
    code = HeaderInjection.code if error.injection else "invalid_header_value"
    # The message is data: as a template of PydanticCustomError, braces in it would be read as placeholders.
    return PydanticCustomError(code, "{detail}", {"detail": str(error)})


def _address(value: object) -> Address:
    try:
        if isinstance(value, str):
            return parse_address(value)
        if isinstance(value, dict) and isinstance(value.get("email"), str) and not value.keys() - {"email", "name"}:
            name = value.get("name")
            if name is None or isinstance(name, str):
                return make_address(value["email"], name)
    except HeaderError as error:
        raise _header_error(error) from error
    raise ValueError('write an address as "ada@example.com", "Ada <ada@example.com>" or {"email": ..., "name": ...}')


def _address_list(value: object) -> object:
    return value if isinstance(value, list) or value is None else [value]


def _header_text(value: object) -> object:
    if isinstance(value, str):
        try:
            check_header_text("this value", value)
        except HeaderError as error:
            raise _header_error(error) from error
    return value


def _headers(value: object) -> object:
    if isinstance(value, dict):
        for name, text in value.items():
            if not isinstance(text, str):
                raise ValueError(f"{name}: a header's value must be a string")  # noqa: TRY004 - pydantic wants ValueError
            try:
                check_header(name, text)
            except HeaderError as error:
                raise _header_error(error) from error
    return value


_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _time(value: object) -> object:
    """RFC 3339 with an offset, kept as it was written."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("a time must be a string: 2026-11-23T12:00:00Z")  # noqa: TRY004 - pydantic wants ValueError
    try:
        parsed = datetime.fromisoformat(value.upper())
        if parsed.tzinfo is not None and not _RFC3339.fullmatch(value):
            raise ValueError(value)  # ISO 8601 has more forms than RFC 3339, week dates among them
    except ValueError as error:
        raise ValueError("not a time of the form 2026-11-23T12:00:00Z") from error
    if parsed.tzinfo is None:
        raise PydanticCustomError("naive_datetime", "a time needs its offset: 2026-11-23T12:00:00Z")
    return value


def _moment(value: object) -> object:
    """RFC 3339 with an offset, as milliseconds."""
    text = _time(value)
    if not isinstance(text, str):
        return None
    return round(datetime.fromisoformat(text.upper()).timestamp() * 1000)


Moment = Annotated[
    int,
    BeforeValidator(_moment, json_schema_input_type=Annotated[str, Field(json_schema_extra={"format": "date-time"})]),
]
AddressIn = Annotated[
    Address,
    BeforeValidator(
        _address,
        json_schema_input_type=Annotated[
            str | dict[str, str],
            Field(description='"ada@example.com", "Ada <ada@example.com>" or {"email", "name"}: exactly one mailbox'),
        ],
    ),
]
# Text that may reach a header has no control characters; CloudEvents asks the same of its attributes.
Line = Annotated[str, StringConstraints(min_length=1, max_length=2000), BeforeValidator(_header_text)]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=255), BeforeValidator(_header_text)]

Addresses = Annotated[list[AddressIn], BeforeValidator(_address_list), Field(max_length=MAX_RECIPIENTS)]
Data = Annotated[dict[str, Any], Field(description="Values for the template's variables.")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JobSubmission(_Body):
    """One mail: a template with its data, or inline `subject` and `html` or `text`."""

    template: str | None = Field(None, max_length=100, description="Name of a template folder.")
    data: Data = Field(default_factory=dict)
    subject: Line | None = None
    html: str | None = Field(None, max_length=MAX_CONTENT_CHARS)
    text: str | None = Field(None, max_length=MAX_CONTENT_CHARS)
    to: Addresses | None = Field(None, description="May be left out where the template names its recipients.")
    cc: Addresses = Field(default_factory=list)
    bcc: Addresses = Field(default_factory=list)
    sender: AddressIn | None = Field(None, alias="from", description="Else the template's, else POSTROOM_FROM.")
    reply_to: Addresses = Field(default_factory=list)
    headers: Annotated[dict[str, str], BeforeValidator(_headers), Field(max_length=MAX_HEADERS)] = Field(
        default_factory=dict, description="Further header fields. Those that Postroom writes are refused."
    )
    backoff: OwnBackoff | None = Field(
        None,
        description="When it is tried again, in place of its template's backoff as a whole. A list has the waits one "
        "by one, kept exactly: after the last one it fails. Else waits grow from `base` to `cap`, with chance; what is "
        "left out is as the stream has it. Seconds, or durations: `5m`.",
    )
    send_at: Moment | None = Field(
        None, description="Not before then, in place of its template's `delay`. With an offset; up to 10 years ahead."
    )
    expires_at: Moment | None = Field(
        None, description="Not after then, in place of its template's `expires_after`: a job that is late is `expired`."
    )
    stream: Stream | None = Field(None, description="In place of its template's.")
    unknown_policy: UnknownPolicy | None = Field(
        None, description="What becomes of it where the relay's answer is lost, in place of its template's."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> "JobSubmission":
        inline = [name for name in ("subject", "html", "text") if getattr(self, name) is not None]
        if self.template is not None and inline:
            raise ValueError(f"give either a template or inline content, not template and {inline[0]}")
        if self.template is None:
            if self.subject is None or (self.html is None and self.text is None):
                raise ValueError("give a template, an event, or inline content: subject with html or text")
            if self.data:
                raise ValueError("data is for templates; inline content is sent as it is")
        if self.to is None and (self.cc or self.bcc) and self.template is not None:
            raise ValueError("cc and bcc need to: recipients of a job replace those of its template as a whole")
        if len(self.to or ()) + len(self.cc) + len(self.bcc) > MAX_RECIPIENTS:
            raise ValueError(
                f"to, cc and bcc may have {MAX_RECIPIENTS} addresses together; one mail each is a job each"
            )
        return self


class ResolveAs(StrEnum):
    SENT = "sent"
    FAILED = "failed"
    RETRY = "retry"


class Resolution(_Body):
    """What became of a mail whose answer was lost."""

    verdict: ResolveAs = Field(alias="as", description="`sent`, `failed`, or `retry`: one more copy, at once.")


class Rescheduling(_Body):
    """What is left out stays as it is."""

    send_at: Moment | None = Field(None, description="When it is due, or tried again. With an offset.")
    stream: Stream | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Rescheduling":
        if self.send_at is None and self.stream is None:
            raise ValueError("give send_at or stream")
        return self


class Batch(_Body):
    """Each item is what POST /jobs takes, with an `idempotency_key` of its own where it has one."""

    jobs: Annotated[list[Any], Field(json_schema_extra={"items": {"type": "object"}})] = Field(
        min_length=1, max_length=MOST_IN_BATCH
    )


class Rendering(_Body):
    """What a template is rendered with."""

    data: Data = Field(default_factory=dict, description="Before the values of the template's sample.json.")


def _json_media_type(value: str | None) -> str | None:
    if value is not None and not is_json(value):
        raise ValueError("data is a JSON object: give application/json, or nothing")
    return value


def is_json(media_type: str) -> bool:
    """Subtype json, or with the suffix +json."""
    return re.fullmatch(r"[^/;\s]+/([^/;\s]+\+)?json", media_type.partition(";")[0].strip().lower()) is not None


class CloudEvent(BaseModel):
    """A CloudEvent 1.0 whose data is JSON. It may have extension attributes; they are ignored."""

    model_config = ConfigDict(extra="allow", frozen=True)

    specversion: Literal["1.0"]
    type: Identifier = Field(description="The event, such as user.signed_up.")
    source: Line = Field(description="With `id`: its idempotency key.")
    id: Identifier
    subject: Line | None = None
    time: Annotated[str | None, BeforeValidator(_time)] = Field(None, max_length=64)
    datacontenttype: Annotated[str | None, AfterValidator(_json_media_type)] = Field(
        None, max_length=255, description="application/json, or with the suffix +json."
    )
    dataschema: Line | None = Field(None, description="Ignored: templates say which data they need.")
    data: Data = Field(default_factory=dict)


class EventSubmission(_Body):
    """What happened. Each template that answers the event becomes a job. Field names are CloudEvents'."""

    event: Identifier = Field(description="Name of the event, such as user.signed_up.")
    data: Data = Field(default_factory=dict)
    id: Identifier | None = Field(None, description="With `source`: its idempotency key.")
    source: Line | None = None
    subject: Line | None = None
    time: Annotated[str | None, BeforeValidator(_time)] = Field(None, max_length=64)
