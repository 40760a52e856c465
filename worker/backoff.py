"""When a deferred job is tried again, and when no more. Pure: time and randomness are arguments."""

from collections.abc import Callable
from dataclasses import dataclass

from worker.settings import BackoffSchedule


@dataclass(frozen=True, slots=True)
class Again:
    """The next attempt, milliseconds by the server's clock."""

    at: int


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The stream's time for trying is over."""


@dataclass(frozen=True, slots=True)
class TooLate:
    """The next attempt would come after the time the author set."""


def next_attempt(
    schedule: BackoffSchedule,
    *,
    attempts: int,
    due_at: int,
    expires_at: int | None,
    now: int,
    random: Callable[[], float],
    at_most_s: float | None = None,
) -> Again | GaveUp | TooLate:
    """`attempts`: how many were made (at least 1). The delay is uniform(0.5, 1) * min(cap, base * 2^(attempts - 1)).

    `at_most_s` shortens it, for what is expected to pass soon.
    """
    longest_s = min(schedule.cap_s, schedule.base_s * 2.0 ** min(attempts - 1, 60))
    if at_most_s is not None:
        longest_s = min(longest_s, at_most_s)
    at = now + max(1, int((0.5 + random() / 2) * longest_s * 1000))
    if expires_at is not None and at > expires_at:
        return TooLate()
    if at > due_at + schedule.give_up_s * 1000:
        return GaveUp()
    return Again(at)
