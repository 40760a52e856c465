"""What an answer of the API looks like. What a request may say is in submissions.py."""

from typing import Literal

from pydantic import BaseModel, Field


class AddressOut(BaseModel):
    email: str
    name: str | None


class Links(BaseModel):
    self: str


class JobLinks(Links):
    attempts: str
    history: str


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
    at: str = Field(description="When the attempt began, at the first of its relays.")
    duration_ms: int = Field(description="Where it failed over, the last entry's is that of the whole attempt.")
    relay: str | None = Field(description="Its name; null where none was asked, for a source was in trouble.")
    phase: str = Field(
        description="Where it ended: `fetch`, or `connect`, `banner`, `ehlo`, `tls`, `auth`, `mail`, `rcpt`, `data` "
        "(the content too), `dot`."
    )
    outcome: str = Field(
        description="`sent`, `deferred`, `failed`, `unknown`; `failed_over`: the next relay was asked."
    )
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
        description="Milliseconds by part: connect, banner (with the handshake, where TLS is from the start), ehlo, "
        "tls, auth (where a connection was opened for it), envelope, content, journal, dot."
    )
    conversation: list[ConversationLine] = Field(
        description="What was said, without the content: the first 50 lines and the last 30. Passwords are never in it,"
        " nor is the answer to RSET, which is not waited for."
    )


class Attempts(BaseModel):
    data: list[AttemptDetail] = Field(description="The newest 50, oldest first.")


class EventOut(BaseModel):
    name: str
    id: str
    source: str | None
    subject: str | None
    time: str | None


class JobSummary(BaseModel):
    """A job as it stands now, without its attempts. Times are RFC 3339 in UTC."""

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
    links: JobLinks


class JobOut(JobSummary):
    """A job as it stands now. Times are RFC 3339 in UTC."""

    attempts: list[AttemptOut] = Field(description="The newest 50, oldest first.")


class JobPage(BaseModel):
    """A page may have fewer jobs than `limit`, or none, and a `next` all the same."""

    data: list[JobSummary]
    next: str | None = Field(description="`after` of the next page; null at the end.")


class HistoryEntry(BaseModel):
    """Something that happened to a job. `reason` and `detail`: of its end; of the status before a person changed it."""

    id: str = ""
    at: str
    what: str = Field(
        description="`accepted`; `attempted`; `cancelled`, `retried`, `resolved` or `rescheduled` by a person; or the "
        "final status."
    )
    by: str | None = Field(None, description="Whose key it was.")
    was: str | None = Field(None, description="Status before and after, where a person did it.")
    became: str | None = None
    reason: str | None = None
    detail: str | None = None
    attempt: AttemptOut | None = None


class History(BaseModel):
    data: list[HistoryEntry] = Field(description="Oldest first; of attempts and of what people did the newest 50.")


class Verdict(BaseModel):
    """The answer to a submission that was waited for: as the answer to any other, with the jobs as they ended."""

    id: str
    status: str = Field(
        description="Of several jobs the first of `unknown`, `failed`, `expired`, `cancelled`, `sent`, `skipped` that "
        "is there."
    )
    jobs: list[JobOut]


class DryRunRecipient(AddressOut):
    field: str


class DryRunJob(BaseModel):
    """A mail as it would be sent, unsigned. Where its template says that there is nothing to send, status is `skipped`
    and it has no content."""

    template: str | None
    template_version: str | None
    status: str = Field(description="`queued`, `scheduled` or `skipped`.")
    stream: str
    due_at: str
    expires_at: str | None
    from_sample: list[str] = Field(
        description="Sources whose values are those of the template's sample, for `data` has none: nothing was fetched."
    )
    sender: AddressOut | None = None
    recipients: list[DryRunRecipient] = Field(default_factory=list)
    reply_to: list[AddressOut] = Field(default_factory=list)
    subject: str | None = None
    html: str | None = None
    text: str | None = None
    size: int | None = Field(None, description="Octets of the message.")
    message: str | None = Field(
        None,
        description="All of it (RFC 5322). A mail that is sent has another Message-ID and Date; the worker may be set "
        "up with another domain for the former.",
    )


class DryRun(BaseModel):
    jobs: list[DryRunJob]


class RenderedTemplate(BaseModel):
    """A template as a mail would have it."""

    template: str
    template_version: str
    recipients: list[DryRunRecipient] = Field(
        description="Those that the template names. None where it names none, or only its sample has no good address."
    )
    reply_to: list[AddressOut]
    subject: str
    preheader: str
    html: str | None
    text: str | None


class RetryProgress(BaseModel):
    """How far a retry by filter is; at its end, what it did."""

    retried: int
    content_expired: int = Field(description="Left as they are: their content is no longer kept.")
    changed: int = Field(description="Left as they are: somebody was faster.")
    next: str | None = Field(
        description="`after` of the next call, where there are more than one call takes; else null."
    )


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


class ItemProblem(BaseModel):
    code: str
    title: str
    detail: str
    errors: list[ProblemField] = Field(description="`pointer`: into the batch, /jobs/3/to; of CloudEvents /3/type.")


class BatchItem(BaseModel):
    """An item in the order of the batch: accepted, or not."""

    index: int
    id: str | None = Field(None, description="The job's id; for an event, the event's.")
    status: str | None = None
    replayed: bool = Field(False, description="It was accepted before: an earlier answer.")
    problem: ItemProblem | None = None


class BatchAnswer(BaseModel):
    accepted: int
    rejected: int
    results: list[BatchItem]
