"""When a deferred job is tried again, and when no more. Pure: time and randomness are arguments."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from mailer.jobs import Job
from worker.settings import BackoffSchedule

FULL_MAILBOX_FLOOR_S = 1800.0
"""A full mailbox is not emptied within minutes."""
_GREYLIST_S = (60.0, 300.0, 600.0)


@dataclass(frozen=True, slots=True)
class Schedule:
    """What holds for one job. `delays_s`: its waits one by one, in place of base and cap."""

    base_s: float
    cap_s: float
    give_up_s: float
    max_attempts: int | None = None
    delays_s: tuple[float, ...] | None = None

    @property
    def last_attempt(self) -> int | None:
        """The number of the attempt after which there is none; None: only time ends it."""
        listed = None if self.delays_s is None else len(self.delays_s) + 1
        return min((number for number in (listed, self.max_attempts) if number is not None), default=None)


class Limit(StrEnum):
    """What ends a job's attempts."""

    TIME = "time"
    ATTEMPTS = "attempts"


@dataclass(frozen=True, slots=True)
class Again:
    """The next attempt, milliseconds by the server's clock."""

    at: int


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A limit of the schedule is reached."""

    limit: Limit


@dataclass(frozen=True, slots=True)
class TooLate:
    """The time that the author set is over, or the next attempt would come after it."""


def schedule_of(job: Job, stream: BackoffSchedule) -> Schedule:
    """The stream's, but for what the job's own backoff says.

    A list is a schedule of its own, which the stream's limits must not cut short: it has the stream's time, or twice
    that of its waits where that is longer, so that slow attempts have their room. So has a base that is longer than the
    stream's cap.
    """
    own = job.backoff
    if own is None:
        return Schedule(stream.base_s, stream.cap_s, stream.give_up_s, stream.max_attempts)
    if own.delays_s:
        give_up_s = own.give_up_s or max(stream.give_up_s, 2 * sum(own.delays_s))
        return Schedule(stream.base_s, stream.cap_s, give_up_s, own.max_attempts, own.delays_s)
    return Schedule(
        base_s=own.base_s or stream.base_s,
        cap_s=own.cap_s or max(stream.cap_s, own.base_s or 0),
        give_up_s=own.give_up_s or stream.give_up_s,
        max_attempts=own.max_attempts or stream.max_attempts,
    )


def next_attempt(
    schedule: Schedule,
    *,
    attempts: int,
    due_at: int,
    expires_at: int | None,
    now: int,
    random: Callable[[], float],
    at_most_s: float | None = None,
    at_least_s: float | None = None,
) -> Again | GaveUp | TooLate:
    """`attempts`: how many were made that count. The delay is uniform(0.5, 1) * min(cap, base * 2^(attempts - 1)), or
    exactly the list's.

    `at_most_s` shortens the first kind, for what is expected to pass soon. `at_least_s` is a floor for both kinds, even
    beyond the cap, for what is known to take its time.
    """
    if schedule.delays_s is not None:
        delay_ms = round(schedule.delays_s[min(max(attempts, 1), len(schedule.delays_s)) - 1] * 1000)
    else:
        longest_s = min(schedule.cap_s, schedule.base_s * 2.0 ** min(max(attempts, 1) - 1, 60))
        if at_most_s is not None:
            longest_s = min(longest_s, at_most_s)
        delay_ms = int((0.5 + random() / 2) * longest_s * 1000)
    at = now + max(1, delay_ms, math.ceil((at_least_s or 0) * 1000))
    return allowed_at(at, schedule, attempts=attempts, due_at=due_at, expires_at=expires_at, now=now)


def allowed_at(
    at: int, schedule: Schedule, *, attempts: int, due_at: int, expires_at: int | None, now: int
) -> Again | GaveUp | TooLate:
    """Whether there may be another attempt at `at`, after so many. The author's time comes before the schedule's, but a
    job whose attempts are used up did not miss a time that is still to come."""
    if expires_at is not None and now >= expires_at:
        return TooLate()
    if schedule.last_attempt is not None and attempts >= schedule.last_attempt:
        return GaveUp(Limit.ATTEMPTS)
    if expires_at is not None and at > expires_at:
        return TooLate()
    if at > due_at + schedule.give_up_s * 1000:
        return GaveUp(Limit.TIME)
    return Again(at)


def greylist_floor_s(attempts: int) -> float:
    """Shortest wait after so many attempts (at least 1): tries come about 1, 6 and 16 minutes after the first refusal,
    then each 10 minutes."""
    return _GREYLIST_S[min(attempts, len(_GREYLIST_S)) - 1]
