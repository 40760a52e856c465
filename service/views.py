"""How a job is shown: the record's values in the API's words. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from mailer.jobs import Attempt, Recipient, Reply
from mailer.store.jobs import JobView
from service.schemas import (
    AttemptDetail,
    AttemptOut,
    Attempts,
    ConversationLine,
    EventOut,
    JobLinks,
    JobOut,
    JobSummary,
    RecipientOut,
    ReplyOut,
)

WHO: dict[str, Literal["postroom", "relay", "note"]] = {">": "postroom", "<": "relay", "-": "note"}
"""By the sign in a record: mailer.jobs.Attempt."""


def rfc3339(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def show_job(view: JobView) -> JobOut:
    return JobOut(
        **show_summary(view).model_dump(),
        attempts=[show_attempt(item) for item in view.attempts],
    )


def show_summary(view: JobView) -> JobSummary:
    job = view.job
    event = job.event
    return JobSummary(
        id=job.id,
        status=view.status,
        reason=job.reason,
        detail=job.detail,
        partial=job.partial,
        assumed=job.assumed,
        unknown_outcomes=job.unknown_outcomes,
        template=job.template,
        template_version=job.template_version,
        event=EventOut(name=event.name, id=event.id, source=event.source, subject=event.subject, time=event.time)
        if event
        else None,
        stream=job.stream,
        created_at=rfc3339(job.created_at) or "",
        due_at=rfc3339(job.due_at) or "",
        next_attempt_at=rfc3339(job.next_attempt_at),
        expires_at=rfc3339(job.expires_at),
        finished_at=rfc3339(job.finished_at),
        recipients=None if job.recipients is None else [_recipient(item) for item in job.recipients],
        attempt_count=job.attempts,
        links=JobLinks(self=f"/jobs/{job.id}", attempts=f"/jobs/{job.id}/attempts", history=f"/jobs/{job.id}/history"),
    )


def _recipient(recipient: Recipient) -> RecipientOut:
    return RecipientOut(
        email=recipient.address.email,
        name=recipient.address.name,
        field=recipient.field,
        status=recipient.status,
        reply=_reply(recipient.reply) if recipient.reply else None,
    )


def _reply(reply: Reply) -> ReplyOut:
    return ReplyOut(code=reply.code, enhanced=reply.enhanced, text=reply.text)


def show_attempts(attempts: Sequence[Attempt]) -> Attempts:
    return Attempts(data=[_detail(attempt) for attempt in attempts])


def _detail(attempt: Attempt) -> AttemptDetail:
    return AttemptDetail(
        **show_attempt(attempt).model_dump(),
        timings=dict(attempt.timings),
        conversation=[_line(line) for line in attempt.conversation],
    )


def _line(line: str) -> ConversationLine:
    at_ms, who, text = line.split(" ", 2)
    return ConversationLine(at_ms=int(at_ms), who=WHO[who], text=text)


def show_attempt(attempt: Attempt) -> AttemptOut:
    return AttemptOut(
        number=attempt.number,
        at=rfc3339(attempt.at) or "",
        duration_ms=attempt.duration_ms,
        relay=attempt.relay,
        phase=attempt.phase,
        outcome=attempt.outcome,
        code=attempt.reply.code,
        enhanced=attempt.reply.enhanced,
        text=attempt.reply.text,
        row=attempt.row,
        queue_id=attempt.queue_id,
        next_attempt_at=rfc3339(attempt.next_attempt_at),
    )
