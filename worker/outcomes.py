"""What an attempt produced, as values, and how each becomes the job's next status. Pure."""

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
from worker.relays.answers import ACCEPTED
from worker.relays.attempt import Tried
from worker.settings import BackoffSchedule


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Relays were asked, the deciding one last: each recipient has a status of its own. `at_least_s`: shortest wait for
    those that are tried again; `stays_at`: the relay that they have to come back to."""

    tries: tuple[Tried, ...]
    recipients: tuple[Recipient, ...]
    at_least_s: float | None = None
    stays_at: str | None = None


@dataclass(frozen=True, slots=True)
class Deferred:
    """What comes before the relay could not be had. `at_most_s`: longest wait, where it is expected to pass."""

    tried: Tried
    at_most_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The answer was lost after the final dot. `recipients` as journaled: an open one that was taken may have it."""

    tries: tuple[Tried, ...]
    recipients: tuple[Recipient, ...]
    policy: UnknownPolicy


@dataclass(frozen=True, slots=True)
class Failed:
    """Trying again would not help."""

    reason: Reason
    detail: str
    tried: Tried | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """There is nothing to send."""

    detail: str


@dataclass(frozen=True, slots=True)
class Expired:
    """The time the author set has passed."""


Outcome = HandedOver | Deferred | Unknown | Failed | Skipped | Expired

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
        case HandedOver() if any(item.status in OPEN_RECIPIENT for item in outcome.recipients):
            return _again(job, outcome, timing, schedule, random)
        case HandedOver():
            return _verdict(job, outcome, timing)
        case Deferred():
            return _again(job, outcome, timing, schedule, random)
        case Unknown():
            return _unknown(job, outcome, timing, schedule, random)
        case Failed() | Skipped() | Expired():
            return _end_open(job, job.recipients, _unsent(job, outcome, timing))
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


def _again(
    job: Job,
    outcome: HandedOver | Deferred,
    timing: Timing,
    schedule: BackoffSchedule,
    random: Callable[[], float],
) -> Ending:
    effective = schedule_of(job, schedule)
    decision = next_attempt(
        effective,
        attempts=job.attempts + 1,
        due_at=job.due_at,
        expires_at=job.expires_at,
        now=timing.ended_at,
        random=random,
        at_most_s=outcome.at_most_s if isinstance(outcome, Deferred) else None,
        at_least_s=outcome.at_least_s if isinstance(outcome, HandedOver) else None,
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
                stays_at=_stays_at(job, outcome),
            )
        case TooLate():
            detail = "The next attempt would come after the time set by its author."
            ending = Ending(Status.EXPIRED, timing.ended_at, attempts, detail=detail)
        case GaveUp(limit):
            detail = f"{_limit_reached(limit, effective)}: {tries[-1].reply.text}"
            ending = Ending(Status.FAILED, timing.ended_at, attempts, reason=Reason.GAVE_UP, detail=detail)
        case _:
            assert_never(decision)
    return _end_open(job, recipients or job.recipients, ending)


def _stays_at(job: Job, outcome: HandedOver | Deferred) -> str | None:
    """A relay that may have an earlier copy keeps the job; so does any where none was asked this time."""
    is_in_doubt = job.unknown_outcomes > 0 and not job.assumed
    if isinstance(outcome, Deferred) or is_in_doubt:
        return job.stays_at
    return outcome.stays_at


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
    """The policy decides. A second copy is sent once, and never beyond what its author or its backoff allows."""
    number, last = job.unknown_outcomes + 1, outcome.tries[-1]
    if outcome.policy is UnknownPolicy.ACCEPT:
        taken = HandedOver(outcome.tries, _where_in_doubt(outcome.recipients, RecipientStatus.SENT))
        ending = conclude(job, taken, timing, schedule, random)
        noted = (*ending.attempts[:-1], replace(ending.attempts[-1], outcome="unknown"))
        return replace(ending, attempts=noted, assumed=True, unknown_outcomes=number)
    attempts = _attempts(job, timing, outcome.tries, "unknown")
    decision = allowed_at(
        timing.ended_at + RESEND_AFTER_MS,
        schedule_of(job, schedule),
        attempts=job.attempts + 1,
        due_at=job.due_at,
        expires_at=job.expires_at,
        now=timing.ended_at,
    )
    if outcome.policy is UnknownPolicy.RESEND and number == 1 and isinstance(decision, Again):
        return Ending(
            Status.DEFERRED,
            timing.ended_at,
            (*attempts[:-1], replace(attempts[-1], next_attempt_at=decision.at)),
            recipients=outcome.recipients,
            unknown_outcomes=number,
            next_attempt_at=decision.at,
            stays_at=last.relay,
        )
    detail = f"The relay may have the mail: its answer to the final dot was lost ({last.reply.text})"
    return Ending(
        Status.UNKNOWN,
        timing.ended_at,
        attempts,
        recipients=_where_in_doubt(outcome.recipients, RecipientStatus.UNKNOWN),
        detail=detail,
        unknown_outcomes=number,
    )


def _where_in_doubt(recipients: tuple[Recipient, ...], status: RecipientStatus) -> tuple[Recipient, ...]:
    """Those whom the relay took before the final dot, and whose answer to it was lost, get `status`."""
    return tuple(
        replace(item, status=status)
        if item.status in OPEN_RECIPIENT and item.reply is not None and (item.reply.code or 0) // 100 == ACCEPTED
        else item
        for item in recipients
    )


def _verdict(job: Job, outcome: HandedOver, timing: Timing) -> Ending:
    sent = sum(item.status is RecipientStatus.SENT for item in outcome.recipients)
    whole = sent == len(outcome.recipients)
    word = "sent" if whole else "partial" if sent else "failed"
    return Ending(
        status=Status.SENT if sent else Status.FAILED,
        at=timing.ended_at,
        attempts=_attempts(job, timing, outcome.tries, word),
        recipients=outcome.recipients,
        reason=None if sent else Reason.REFUSED,
        detail=None if whole else outcome.tries[-1].reply.text,
        partial=bool(sent) and not whole,
    )


def _end_open(job: Job, recipients: tuple[Recipient, ...] | None, ending: Ending) -> Ending:
    """End for recipients that are still open too. A job that reached somebody before is `sent`, in part; one that may
    have reached somebody stays in doubt."""
    if recipients is None:
        return ending
    if job.unknown_outcomes and not job.assumed and any(item.status in OPEN_RECIPIENT for item in recipients):
        doubtful = tuple(
            replace(item, status=RecipientStatus.UNKNOWN) if item.status in OPEN_RECIPIENT else item
            for item in recipients
        )
        detail = f"The relay may have the mail: its answer to an earlier copy was lost. {ending.detail}"
        return replace(ending, status=Status.UNKNOWN, reason=None, detail=detail, recipients=doubtful)
    ended = tuple(
        replace(item, status=RecipientStatus.FAILED) if item.status in OPEN_RECIPIENT else item for item in recipients
    )
    if any(item.status is RecipientStatus.SENT for item in ended):
        return replace(ending, status=Status.SENT, reason=None, recipients=ended, partial=True)
    return ending if ending.status is Status.SKIPPED else replace(ending, recipients=ended)


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
        )
        for tried in tries
    )
