"""How a job is shown: the record's values in the API's words. Pure."""

from datetime import UTC, datetime

from mailer.jobs import Attempt, Recipient, Reply
from mailer.store.jobs import JobView
from service.schemas import AttemptOut, EventOut, JobOut, Links, RecipientOut, ReplyOut


def rfc3339(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def show_job(view: JobView) -> JobOut:
    job = view.job
    event = job.event
    return JobOut(
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
        attempts=[_attempt(item) for item in view.attempts],
        links=Links(self=f"/jobs/{job.id}"),
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


def _attempt(attempt: Attempt) -> AttemptOut:
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
        next_attempt_at=rfc3339(attempt.next_attempt_at),
    )
