"""Which jobs a request is about: the filter and the cursor of GET /jobs and POST /jobs/retry. Pure.

What is wrong in one is 400 with its name: it is part of the question, not of a job.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mailer.addresses import Address
from mailer.errors import FieldError, InvalidRequest
from mailer.jobs import Reason, Status, Stream
from mailer.store.jobs import SHOWN_PENDING
from mailer.store.listing import Filter, Place
from service.bodies import NAIVE_TIME, explain, first_of, pointer, told
from service.controls import RETRIED
from service.submissions import AddressIn, Moment

STATUSES = frozenset({*Status, *SHOWN_PENDING})
MOST_LISTED = 500
Asked = TypeVar("Asked", bound="JobFilter")
_PLACE = re.compile(r"(\d{1,16})\.([!-~]{1,64})")


def _statuses(value: object) -> object:
    """`failed,unknown`, or a list."""
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError("must be one status, or several separated by commas")
    unknown = sorted(set(words) - STATUSES)
    if unknown:
        raise ValueError(f"there is no status {unknown[0]!r}; there are {', '.join(sorted(STATUSES))}")
    return frozenset(words)


_Statuses = Annotated[
    frozenset[str],
    BeforeValidator(
        _statuses,
        json_schema_input_type=str | list[str],
    ),
]


class JobFilter(BaseModel):
    """What is left out matches every job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: _Statuses = Field(
        default_factory=frozenset,
        description="As jobs are shown; several separated by commas. `pending`: scheduled, queued and sending.",
    )
    to: AddressIn | None = Field(None, description="One of its recipients: an address, cc and bcc included.")
    template: str | None = Field(None, min_length=1, max_length=100)
    reason: Reason | None = Field(None, description="Why it failed.")
    stream: Stream | None = None
    created_after: Moment | None = Field(None, description="Accepted at that time or later. With an offset.")
    created_before: Moment | None = Field(None, description="Accepted at that time or earlier. With an offset.")

    @property
    def filter(self) -> Filter:
        return Filter(
            statuses=self.status,
            recipient=self.to.email if isinstance(self.to, Address) else None,
            created_after=self.created_after,
            created_before=self.created_before,
            template=self.template,
            reason=self.reason,
            stream=self.stream,
        )


class RetryRequest(JobFilter):
    """Which jobs are to be put back: those that have failed, where it says no status."""

    status: _Statuses = Field(
        default_factory=lambda: frozenset({Status.FAILED}),
        description="`failed`, `expired`, `cancelled`: one or several.",
    )
    after: str | None = Field(None, max_length=200, description="`next` of the call before, where there was more.")


class ListRequest(JobFilter):
    """What GET /jobs may be asked."""

    limit: int = Field(50, ge=1, le=MOST_LISTED)
    after: str | None = Field(None, max_length=200, description="`next` of the page before.")


def parse_query(given: Iterable[tuple[str, str]]) -> tuple[Filter, int, Place | None]:
    """The filter, the size and the place of a page. Raises InvalidRequest that names each parameter in the wrong."""
    parameters: dict[str, str] = {}
    for name, value in given:
        if name in parameters and name != "status":
            raise _named([FieldError(f"/query/{name}", "bad_filter", "is there twice")])
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    asked = _validated(ListRequest, parameters, "/query")
    return asked.filter, asked.limit, parse_cursor(asked.after, "/query") if asked.after is not None else None


def parse_retry(given: dict[str, Any]) -> tuple[Filter, Place | None]:
    """The filter, and the place to go on from. Raises InvalidRequest."""
    asked = _validated(RetryRequest, given)
    if not asked.status <= RETRIED:
        words = ", ".join(sorted(RETRIED))
        raise _named([FieldError("/status", "bad_filter", f"only jobs that are {words} can be retried")])
    return asked.filter, parse_cursor(asked.after) if asked.after is not None else None


def _validated(model: type[Asked], given: dict[str, Any], place: str = "") -> Asked:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _bad_filter(error, place) from error


def _bad_filter(error: ValidationError, place: str) -> InvalidRequest:
    items = error.errors(include_url=False, include_input=False)
    for item in items:
        if item["type"] == NAIVE_TIME:
            naive = FieldError(place + pointer(item["loc"]), NAIVE_TIME, item["msg"])
            return InvalidRequest(NAIVE_TIME, "A time has no offset", told([naive]), errors=(naive,))
    return _named(first_of(FieldError(place + pointer(item["loc"]), "bad_filter", explain(item)) for item in items))


def _named(errors: list[FieldError]) -> InvalidRequest:
    detail = "; ".join(f"{item.pointer.rpartition('/')[2]}: {item.detail}" for item in errors)
    return InvalidRequest("bad_filter", "The filter is not valid", detail, errors=tuple(errors))


def cursor_of(place: Place) -> str:
    return base64.urlsafe_b64encode(f"{place.at}.{place.id}".encode()).decode().rstrip("=")


def parse_cursor(cursor: str, place: str = "") -> Place:
    """Raises InvalidRequest for what is no `next` of a page."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    found = _PLACE.fullmatch(text)
    if not found:
        detail = "after has to be the `next` of an earlier answer, as it stands there."
        errors = (FieldError(f"{place}/after", "bad_cursor", detail),)
        raise InvalidRequest("bad_cursor", "The cursor is not valid", detail, errors=errors)
    return Place(int(found[1]), found[2])
