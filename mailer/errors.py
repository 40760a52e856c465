"""Every exception of Postroom. A class's docstring is its default message.

    PostroomError
    ├── RecordTooNew            a job was written by a newer version: left alone
    ├── SettingsError           a setting is missing or cannot be understood
    ├── TemplateError           a template folder is broken
    ├── RenderingError          a template failed on its data: final, trying again would not help
    ├── HeaderError             a text cannot stand in a header of a mail: final
    │   └── AddressError        an address is not one valid mailbox
    ├── QueueUnavailable        the queue server did not answer in time
    │   └── QueueRefused        it answered with an error
    │       └── WritesRefused   it takes no writes now: read-only, out of memory, failing disk
    ├── CallFailed              an outgoing HTTP call got no answer, or was not allowed to be made
    ├── SourceMissing           a source says that what was asked for is not there
    ├── SourceUnavailable       a source did not answer usefully: try again later
    └── Refused                 a request that is not accepted; carries its HTTP status, code and fields
        ├── InvalidRequest      400 and its like: the request as such
        ├── TemplateUnavailable 503: the template is there, but its folder is broken
        ├── NotAllowedInStatus  409: a control that the job's status does not allow
        ├── ContentGone         410: a job that cannot be sent again
        ├── Overloaded          503: nothing more is accepted for now
        └── InvalidSubmission   422: a field of a job or an event
            ├── VariableMissing
            ├── UnknownTemplate
            ├── UnknownEvent
            ├── HeaderInjection
            ├── IdempotencyKeyReused
            └── BatchRefused

Foreign exceptions (redis, httpx, jinja2, aiosmtplib) stop at the module that owns the library and become one of these,
or a value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field: `pointer` is an RFC 6901 JSON pointer into the request body."""

    pointer: str
    code: str
    detail: str


class PostroomError(Exception):
    """Something in Postroom went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class SettingsError(PostroomError):
    """A setting is missing or cannot be understood."""


class RecordTooNew(PostroomError):
    """The job was written by a newer version of Postroom, which has to deliver it."""


class TemplateError(PostroomError):
    """A template folder is broken."""


class RenderingError(PostroomError):
    """A template could not be rendered with its data."""


class HeaderError(PostroomError):
    """A text cannot stand in a header of a mail."""

    def __init__(self, message: str | None = None, *, injection: bool = False) -> None:
        super().__init__(message)
        self.injection = injection
        """True where the trouble is a control character or a line separator."""


class AddressError(HeaderError):
    """An address is not valid."""


class QueueUnavailable(PostroomError):
    """The queue server does not answer. Whether it got what was said is not known; try again in a moment."""


class QueueRefused(QueueUnavailable):
    """The queue server answers with an error. Nothing was accepted."""


class WritesRefused(QueueRefused):
    """The queue server takes no writes now. Nothing was accepted."""


class CallFailed(PostroomError):
    """An outgoing HTTP call got no answer."""


class SourceMissing(PostroomError):
    """A source says that what was asked for is not there."""

    def __init__(self, message: str, *, code: int, on_missing: str) -> None:
        super().__init__(message)
        self.code = code
        """HTTP status code: 404, or 410 where it will not appear later."""
        self.on_missing = on_missing
        """What the template's manifest says to do: "fail" or "skip"."""


class SourceUnavailable(PostroomError):
    """A source did not answer usefully."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        """HTTP status code of the answer, None where there was none."""


class Refused(PostroomError):
    """The request is not accepted."""

    status: HTTPStatus = HTTPStatus.BAD_REQUEST
    code: str = "bad_request"
    title: str = "The request is not accepted"

    def __init__(self, message: str | None = None, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(message)
        self.errors = errors


class InvalidRequest(Refused):
    """The request itself cannot be understood."""

    def __init__(
        self,
        code: str,
        title: str,
        message: str,
        *,
        status: HTTPStatus = HTTPStatus.BAD_REQUEST,
        errors: tuple[FieldError, ...] = (),
    ) -> None:
        super().__init__(message, errors)
        self.code, self.title, self.status = code, title, status


class TemplateUnavailable(Refused):
    """The template is broken; its folder has to be mended first."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "template_broken"
    title = "The template is broken"


class NotAllowedInStatus(Refused):
    """The job's status does not allow it."""

    status = HTTPStatus.CONFLICT
    code = "not_allowed_in_status"
    title = "The job's status does not allow it"

    def __init__(self, message: str, job_status: str) -> None:
        super().__init__(message)
        self.job_status = job_status
        """As the API shows it."""


class ContentGone(Refused):
    """The content of this job is no longer kept, so it cannot be sent again. Post a new one."""

    status = HTTPStatus.GONE
    code = "content_expired"
    title = "The job's content is no longer kept"


class Overloaded(Refused):
    """There is too much to do already. Send it again later."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "overloaded"
    title = "There is too much to do already"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class InvalidSubmission(Refused):
    """A field of the submission is not valid."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "validation_failed"
    title = "The submission is not valid"

    @classmethod
    def at(cls, pointer: str, detail: str, code: str | None = None) -> "InvalidSubmission":
        """The error of a single field."""
        return cls(detail, (FieldError(pointer, code or cls.code, detail),))


class VariableMissing(InvalidSubmission):
    """A variable that the template needs is missing."""

    code = "template_variable_missing"
    title = "A variable of the template is missing"


class UnknownTemplate(InvalidSubmission):
    """There is no such template."""

    code = "unknown_template"
    title = "There is no such template"


class UnknownEvent(InvalidSubmission):
    """No template answers this event."""

    code = "unknown_event"
    title = "No template answers this event"


class HeaderInjection(InvalidSubmission):
    """A value that goes into a header has a control character."""

    code = "header_injection"
    title = "A header value has a control character"


class IdempotencyKeyReused(InvalidSubmission):
    """This idempotency key was used with another body."""

    code = "idempotency_key_reused"
    title = "The idempotency key was used with another body"


class BatchRefused(InvalidSubmission):
    """One of the jobs is not valid, so none was accepted."""

    code = "batch_refused"
    title = "A job of the batch is not valid, so none was accepted"
    MOST_NAMED = 100

    @classmethod
    def of(cls, refusals: Mapping[int, Refused]) -> "BatchRefused":
        """What is wrong with each, by its index."""
        errors = [error for index, refusal in refusals.items() for error in within(index, refusal)]
        named = errors[: cls.MOST_NAMED]
        more = f"; and {len(errors) - len(named)} more" if len(errors) > len(named) else ""
        return cls("; ".join(f"{error.pointer}: {error.detail}" for error in named) + more, tuple(named))


def within(index: int, refusal: Refused, place: str = "/jobs") -> tuple[FieldError, ...]:
    """The fields in the wrong, as they stand in the batch, whose items are at `place`; the item as such where it is no
    field's."""
    fields = refusal.errors or (FieldError("", refusal.code, str(refusal)),)
    return tuple(FieldError(f"{place}/{index}{error.pointer}", error.code, error.detail) for error in fields)
