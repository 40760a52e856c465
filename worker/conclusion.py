"""How what an attempt produced becomes the job's next status. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import assert_never

from mailer.jobs import (
    OPEN_RECIPIENT,
    Attempt,
    Job,
    Reason,
    Recipient,
    RecipientStatus,
    Status,
    UnknownPolicy,
)
from mailer.store.runs import Ending
from worker.backoff import Again, GaveUp, Limit, Schedule, TooLate, allowed_at, next_attempt, schedule_of
from worker.outcomes import Deferred, Expired, Failed, HandedOver, Outcome, Skipped, Unknown
from worker.relays.attempt import Tried
from worker.settings import BackoffSchedule

RESEND_AFTER_MS = 60_000


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds by the server's clock."""

    began_at: int
    ended_at: int


def conclude(
    job: Job, outcome: Outcome, timing: Timing, schedule: BackoffSchedule, random: Callable[[], float]
) -> Ending:
    """The one place that decides between another attempt and an end."""
    match outcome:
        case HandedOver():
            return _handed_over(job, outcome, timing, schedule, random)
        case Deferred():
            return _again(job, outcome, timing, schedule, random)
        case Unknown():
            return _unknown(job, outcome, timing, schedule, random)
        case Failed() | Skipped() | Expired():
            return _end_open(job.recipients, _unsent(job, outcome, timing))
        case _:
            assert_never(outcome)


def _unsent(job: Job, outcome: Failed | Skipped | Expired, timing: Timing) -> Ending:
    match outcome:
        case Failed():
            attempts = _attempts(job, timing, (outcome.tried,) if outcome.tried else (), "failed")
            return Ending(Status.FAILED, timing.ended_at, attempts, reason=outcome.reason, detail=outcome.detail)
        case Skipped():
            return Ending(Status.SKIPPED, timing.ended_at, detail=outcome.detail)
        case Expired():
            detail = "The time set by its author passed before it could be sent."
            return Ending(Status.EXPIRED, timing.ended_at, detail=detail)
        case _:
            assert_never(outcome)


def _handed_over(
    job: Job, outcome: HandedOver, timing: Timing, schedule: BackoffSchedule, random: Callable[[], float]
) -> Ending:
    """A refusal of a later copy says nothing of the one before it."""
    doubtful = tuple(
        replace(item, status=RecipientStatus.UNKNOWN)
        if item.in_doubt is not None and item.status is RecipientStatus.FAILED
        else item
        for item in outcome.recipients
    )
    known = replace(outcome, recipients=doubtful)
    if any(item.status in OPEN_RECIPIENT for item in doubtful):
        return _again(job, known, timing, schedule, random)
    return _verdict(job, known, timing)


def _again(
    job: Job,
    outcome: HandedOver | Deferred,
    timing: Timing,
    schedule: BackoffSchedule,
    random: Callable[[], float],
) -> Ending:
    effective, uncounted = schedule_of(job, schedule), isinstance(outcome, HandedOver) and outcome.uncounted
    decision = next_attempt(
        effective,
        attempts=job.counted + (not uncounted),
        due_at=job.due_at,
        expires_at=job.expires_at,
        now=timing.ended_at,
        random=random,
        at_most_s=outcome.at_most_s if isinstance(outcome, Deferred) else None,
        at_least_s=_growing_s(job, timing, schedule) if uncounted else _at_least_s(outcome),
    )
    tries = outcome.tries if isinstance(outcome, HandedOver) else (outcome.tried,)
    recipients = outcome.recipients if isinstance(outcome, HandedOver) else None
    attempts = _attempts(job, timing, tries, "deferred")
    match decision:
        case Again(at):
            return Ending(
                Status.DEFERRED,
                timing.ended_at,
                (*attempts[:-1], replace(attempts[-1], next_attempt_at=at)),
                recipients=recipients,
                next_attempt_at=at,
                stays_at=job.stays_at if isinstance(outcome, Deferred) else outcome.stays_at,
                uncounted=job.uncounted + 1 if uncounted else None,
            )
        case TooLate():
            detail = "The next attempt would come after the time set by its author."
            ending = Ending(Status.EXPIRED, timing.ended_at, attempts, detail=detail)
        case GaveUp(limit):
            detail = f"{_limit_reached(limit, effective)}: {tries[-1].reply.text}"
            ending = Ending(Status.FAILED, timing.ended_at, attempts, reason=Reason.GAVE_UP, detail=detail)
        case _:
            assert_never(decision)
    return _end_open(recipients or job.recipients, ending)


def _at_least_s(outcome: HandedOver | Deferred) -> float | None:
    return outcome.at_least_s if isinstance(outcome, HandedOver) else None


def _growing_s(job: Job, timing: Timing, schedule: BackoffSchedule) -> float:
    """What does not count makes no wait longer, so the job's age does: by a quarter each time, as far as the stream's
    waits go, for a job's own short ones were meant for a number of attempts that now ends nothing."""
    return min(schedule.cap_s, max(0, timing.ended_at - job.due_at) / 4000)


def _limit_reached(limit: Limit, schedule: Schedule) -> str:
    match limit:
        case Limit.TIME:
            return f"The time that its backoff allows ({schedule.give_up_s:g} s) is over"
        case Limit.ATTEMPTS:
            return f"The attempts that its backoff allows ({schedule.last_attempt}) are made"
        case _:
            assert_never(limit)


def _unknown(
    job: Job, outcome: Unknown, timing: Timing, schedule: BackoffSchedule, random: Callable[[], float]
) -> Ending:
    """The policy decides. A second copy is sent once, and never beyond what its author or its backoff allows. Whom the
    relay put off before the dot has no copy, and is tried again."""
    number, last = job.unknown_outcomes + 1, outcome.tries[-1]
    decision = allowed_at(
        timing.ended_at + RESEND_AFTER_MS,
        schedule_of(job, schedule),
        attempts=job.counted + 1,
        due_at=job.due_at,
        expires_at=job.expires_at,
        now=timing.ended_at,
    )
    again_at = decision.at if outcome.policy is UnknownPolicy.RESEND and isinstance(decision, Again) else None
    assumed, resends = outcome.policy is UnknownPolicy.ACCEPT, again_at is not None
    known = tuple(_after_loss(item, last.relay, resends=resends, assumed=assumed) for item in outcome.recipients)
    if again_at is not None and any(_is_new(item) for item in outcome.recipients):
        attempts = _attempts(job, timing, outcome.tries, "unknown")
        return Ending(
            Status.DEFERRED,
            timing.ended_at,
            (*attempts[:-1], replace(attempts[-1], next_attempt_at=again_at)),
            recipients=known,
            unknown_outcomes=number,
            next_attempt_at=again_at,
            stays_at=outcome.stays_at,
        )
    settled = HandedOver(outcome.tries, known, outcome.at_least_s, outcome.stays_at)
    ending = conclude(job, settled, timing, schedule, random)
    noted = (*ending.attempts[:-1], replace(ending.attempts[-1], outcome="unknown"))
    return replace(ending, attempts=noted, assumed=assumed, unknown_outcomes=number)


def _is_new(recipient: Recipient) -> bool:
    """In doubt for the first time."""
    return recipient.was_taken and recipient.in_doubt is None


def _after_loss(recipient: Recipient, relay: str | None, *, resends: bool, assumed: bool) -> Recipient:
    if not recipient.was_taken:
        return recipient
    if resends and _is_new(recipient):
        return replace(recipient, in_doubt=relay)
    return replace(recipient, status=RecipientStatus.SENT if assumed else RecipientStatus.UNKNOWN)


def _verdict(job: Job, outcome: HandedOver, timing: Timing) -> Ending:
    said = outcome.tries[-1].reply.text
    sent = sum(item.status is RecipientStatus.SENT for item in outcome.recipients)
    whole = sent == len(outcome.recipients)
    word = "sent" if whole else "partial" if sent else "failed"
    ending = Ending(
        status=Status.SENT if sent else Status.FAILED,
        at=timing.ended_at,
        attempts=_attempts(job, timing, outcome.tries, word),
        recipients=outcome.recipients,
        reason=None if sent else Reason.REFUSED,
        detail=None if whole else said,
        partial=bool(sent) and not whole,
    )
    return _in_doubt(ending, said) if _is_unknown(outcome.recipients) else ending


def _end_open(recipients: tuple[Recipient, ...] | None, ending: Ending) -> Ending:
    """End for recipients that are still open too. A job that may have reached somebody is in doubt; one that reached
    somebody is `sent`, in part."""
    if recipients is None:
        return ending
    ended = tuple(replace(item, status=_end_of(item)) for item in recipients)
    if _is_unknown(ended):
        return _in_doubt(replace(ending, recipients=ended), ending.detail)
    if any(item.status is RecipientStatus.SENT for item in ended):
        return replace(ending, status=Status.SENT, reason=None, recipients=ended, partial=True)
    return ending if ending.status is Status.SKIPPED else replace(ending, recipients=ended)


def _end_of(recipient: Recipient) -> RecipientStatus:
    if recipient.status not in OPEN_RECIPIENT:
        return recipient.status
    return RecipientStatus.FAILED if recipient.in_doubt is None else RecipientStatus.UNKNOWN


def _is_unknown(recipients: tuple[Recipient, ...]) -> bool:
    return any(item.status is RecipientStatus.UNKNOWN for item in recipients)


def _in_doubt(ending: Ending, newest: str | None) -> Ending:
    detail = f"The relay may have the mail: its answer to a final dot was lost. What came last: {newest}"
    return replace(ending, status=Status.UNKNOWN, reason=None, detail=detail, partial=False)


def _attempts(job: Job, timing: Timing, tries: tuple[Tried, ...], outcome: str) -> tuple[Attempt, ...]:
    """One for each relay, all with the same number; `outcome` is that of the last."""
    return tuple(
        Attempt(
            number=job.attempts + 1,
            at=timing.began_at,
            duration_ms=timing.ended_at - timing.began_at if tried is tries[-1] else sum(tried.timings.values()),
            phase=tried.phase,
            outcome=outcome if tried is tries[-1] else "failed_over",
            reply=tried.reply,
            relay=tried.relay,
            queue_id=tried.queue_id,
            timings=tried.timings,
            conversation=tried.conversation,
            row=tried.row,
        )
        for tried in tries
    )
