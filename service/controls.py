"""What a person may do to a job in each status, and what becomes of it. Pure; a refusal is an exception."""

from dataclasses import replace

from mailer.errors import InvalidSubmission, NotAllowedInStatus
from mailer.interventions import Deed
from mailer.jobs import OPEN, OPEN_RECIPIENT, Job, Reason, Recipient, RecipientStatus, Status, Stream
from mailer.store.controls import Change, Standing
from mailer.store.jobs import shown_status
from service.submissions import ResolveAs

AT_REST = {"next_attempt_at": "", "stays_at": ""}
ANEW = AT_REST | {"finished_at": "", "reason": "", "detail": "", "partial": "0", "crashes": "0", "blamed": ""}
RETRIED = frozenset({Status.FAILED, Status.EXPIRED, Status.CANCELLED})


def cancelled(standing: Standing) -> Change | None:
    """What is not sent yet stops. A mail whose final dot may be written cannot be called back."""
    job = standing.job
    if job.status is Status.CANCELLED:
        return None
    if job.status not in OPEN or standing.may_be_sending:
        raise _refusal(standing, "cancelled")
    recipients = _stopped(job.recipients)
    status = _status_of(recipients, Status.CANCELLED)
    return Change(Deed.CANCELLED, status, recipients, fields=AT_REST | _ended(standing, status, recipients))


def retried(standing: Standing) -> Change:
    """Once more from the beginning, for those who have not got it. Its time and its attempts are counted anew."""
    job = standing.job
    if job.status not in RETRIED:
        raise _refusal(standing, "retried")
    recipients = _again(job.recipients, frozenset({RecipientStatus.FAILED, RecipientStatus.CANCELLED}))
    return Change(Deed.RETRIED, Status.PENDING, recipients, at=standing.now, fields=_anew(job, standing.now))


def resolved(standing: Standing, verdict: ResolveAs) -> Change:
    """A person knows, or decides, what became of those who are in doubt."""
    job = standing.job
    if job.status is not Status.UNKNOWN:
        raise _refusal(standing, "resolved")
    if verdict is ResolveAs.RETRY:
        recipients = _again(job.recipients, frozenset({RecipientStatus.UNKNOWN}))
        return Change(Deed.RESOLVED, Status.PENDING, recipients, at=standing.now, fields=_anew(job, standing.now))
    to = RecipientStatus.SENT if verdict is ResolveAs.SENT else RecipientStatus.FAILED
    known = tuple(
        replace(item, status=to) if item.status is RecipientStatus.UNKNOWN else item for item in job.recipients or ()
    )
    status = _status_of(known, Status.FAILED)
    fields = _ended(standing, status, known)
    if verdict is ResolveAs.SENT:
        fields["assumed"] = "1"
    if status is Status.FAILED:
        fields |= {"reason": Reason.RESOLVED, "detail": "A person decided that it was not sent."}
    return Change(Deed.RESOLVED, status, known, fields=fields)


def rescheduled(standing: Standing, send_at: int | None, stream: Stream | None) -> Change:
    """`send_at` (ms): when it is due, or tried again; the time for trying counts from then. A job that a worker has is
    not moved under its hands."""
    job = standing.job
    if job.status not in OPEN or standing.is_leased or standing.may_be_sending:
        raise _refusal(standing, "changed")
    at = job.next_attempt_at or job.due_at
    if send_at is None:
        return Change(Deed.RESCHEDULED, job.status, None, at=at, stream=stream)
    at = max(send_at, standing.now)
    if job.expires_at is not None and at >= job.expires_at:
        raise InvalidSubmission.at("/send_at", "send_at has to be before the job's expires_at: it would never be sent")
    fields = {"due_at": str(max(at, job.due_at) if job.status is Status.DEFERRED else at)}
    if job.status is Status.DEFERRED:
        fields["next_attempt_at"] = str(at)
    return Change(Deed.RESCHEDULED, job.status, None, at=at, stream=stream, fields=fields)


def _refusal(standing: Standing, word: str) -> NotAllowedInStatus:
    job = standing.job
    status = "sending" if standing.may_be_sending else shown_status(job, leased=standing.is_leased, now=standing.now)
    return NotAllowedInStatus(f"A job that is {status} cannot be {word}.", status)


def _stopped(recipients: tuple[Recipient, ...] | None) -> tuple[Recipient, ...] | None:
    """Who may have a copy already stays in doubt."""
    if recipients is None:
        return None
    stopped, doubtful = RecipientStatus.CANCELLED, RecipientStatus.UNKNOWN
    return tuple(
        replace(item, status=stopped if item.in_doubt is None else doubtful) if item.status in OPEN_RECIPIENT else item
        for item in recipients
    )


def _again(recipients: tuple[Recipient, ...] | None, of: frozenset[RecipientStatus]) -> tuple[Recipient, ...] | None:
    if recipients is None:
        return None
    fresh = {"status": RecipientStatus.PENDING, "reply": None, "in_doubt": None}
    return tuple(replace(item, **fresh) if item.status in of else item for item in recipients)  # type: ignore[arg-type]  # one dict of three types


def _status_of(recipients: tuple[Recipient, ...] | None, otherwise: Status) -> Status:
    found = {item.status for item in recipients or ()}
    if RecipientStatus.UNKNOWN in found:
        return Status.UNKNOWN
    return Status.SENT if RecipientStatus.SENT in found else otherwise


def _ended(standing: Standing, status: Status, recipients: tuple[Recipient, ...] | None) -> dict[str, str]:
    whole = all(item.status is RecipientStatus.SENT for item in recipients or ())
    fields = {"partial": "1" if status is Status.SENT and not whole else "0"}
    return fields if status is Status.UNKNOWN else {**fields, "finished_at": str(standing.now)}


def _anew(job: Job, now: int) -> dict[str, str]:
    """An expiry that is over is lifted: whoever asks for it now wants it sent."""
    fields = {**ANEW, "due_at": str(now), "uncounted": str(job.attempts)}
    return {**fields, "expires_at": ""} if job.expires_at is not None and job.expires_at <= now else fields
