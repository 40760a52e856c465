"""What a request to the API may say, and what an answer looks like: the only pydantic models of the API."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from mailer.addresses import Address, make_address, parse_address
from mailer.backoff import OwnBackoff
from mailer.compose import check_header, check_header_text
from mailer.errors import HeaderError, HeaderInjection
from mailer.rendering import MAX_RECIPIENTS

MAX_CONTENT_CHARS = 2_000_000
MAX_HEADERS = 50


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


def _time(value: object) -> object:
    """RFC 3339 with an offset, kept as it was written."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("a time must be a string: 2026-11-23T12:00:00Z")  # noqa: TRY004 - pydantic wants ValueError
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError as error:
        raise ValueError("not a time of the form 2026-11-23T12:00:00Z") from error
    if parsed.tzinfo is None:
        raise PydanticCustomError("naive_datetime", "a time needs its offset: 2026-11-23T12:00:00Z")
    return value


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


class EventSubmission(_Body):
    """What happened. Each template that answers the event becomes a job. Field names are CloudEvents'."""

    event: Identifier = Field(description="Name of the event, such as user.signed_up.")
    data: Data = Field(default_factory=dict)
    id: Identifier | None = Field(None, description="With `source`: its idempotency key.")
    source: Line | None = None
    subject: Line | None = None
    time: Annotated[str | None, BeforeValidator(_time)] = Field(None, max_length=64)


class AddressOut(BaseModel):
    email: str
    name: str | None


class Links(BaseModel):
    self: str


class JobLinks(Links):
    attempts: str


class AcceptedJob(BaseModel):
    id: str
    template: str | None
    status: str
    recipients: list[AddressOut] | None = Field(description="null while only a source knows them")
    links: Links


class Accepted(BaseModel):
    """The one answer to a submission."""

    id: str = Field(description="The job's id; for an event, the event's.")
    status: str
    jobs: list[AcceptedJob]


class ReplyOut(BaseModel):
    code: int | None
    enhanced: str | None
    text: str


class RecipientOut(AddressOut):
    field: str
    status: str
    reply: ReplyOut | None


class AttemptOut(BaseModel):
    number: int
    at: str
    duration_ms: int
    relay: str | None
    phase: str
    outcome: str
    code: int | None
    enhanced: str | None
    text: str
    row: str | None = Field(
        description="Of the fault matrix (docs/faults.md); null where the relay took it, or none was asked."
    )
    queue_id: str | None = Field(description="What the relay calls the mail, where it said so in a way that is known.")
    next_attempt_at: str | None


class ConversationLine(BaseModel):
    at_ms: int = Field(description="Milliseconds since the conversation began.")
    who: Literal["postroom", "relay", "note"]
    text: str


class AttemptDetail(AttemptOut):
    """An attempt at one relay. Where one failed over to the next, both have the same number."""

    timings: dict[str, int] = Field(
        description="Milliseconds by part: connect, banner, ehlo, tls, auth (where a connection was opened for it), "
        "envelope, content, journal, dot."
    )
    conversation: list[ConversationLine] = Field(
        description="What was said, without the content. Passwords are never in it."
    )


class Attempts(BaseModel):
    data: list[AttemptDetail] = Field(description="The newest 50, oldest first.")


class EventOut(BaseModel):
    name: str
    id: str
    source: str | None
    subject: str | None
    time: str | None


class JobOut(BaseModel):
    """A job as it stands now. Times are RFC 3339 in UTC."""

    id: str
    status: str
    reason: str | None = Field(description="Why it is `failed`.")
    detail: str | None
    partial: bool = Field(description="true where it is `sent`, but not to everybody.")
    assumed: bool = Field(description="true where it is `sent` by policy: the relay's answer was lost.")
    unknown_outcomes: int = Field(
        description="Attempts whose answer was lost after the final dot. Up to as many more copies reached the relay."
    )
    template: str | None
    template_version: str | None
    event: EventOut | None
    stream: str
    created_at: str
    due_at: str
    next_attempt_at: str | None
    expires_at: str | None
    finished_at: str | None
    recipients: list[RecipientOut] | None
    attempt_count: int
    attempts: list[AttemptOut] = Field(description="The newest 50, oldest first.")
    links: JobLinks


class ProblemField(BaseModel):
    pointer: str
    code: str
    detail: str


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str | None
    errors: list[ProblemField]
