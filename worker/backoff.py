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
    at_least_s: float | None = None,
) -> Again | GaveUp | TooLate:
    """`attempts`: how many were made (at least 1). The delay is uniform(0.5, 1) * min(cap, base * 2^(attempts - 1)).

    `at_most_s` shortens it, for what is expected to pass soon; `at_least_s` lengthens it, beyond the cap as well.
    """
    longest_s = min(schedule.cap_s, schedule.base_s * 2.0 ** min(attempts - 1, 60))
    if at_most_s is not None:
        longest_s = min(longest_s, at_most_s)
    delay_s = max((0.5 + random() / 2) * longest_s, at_least_s or 0.0)
    at = now + max(1, int(delay_s * 1000))
    if expires_at is not None and at > expires_at:
        return TooLate()
    if at > due_at + schedule.give_up_s * 1000:
        return GaveUp()
    return Again(at)


_GREYLIST_S = (60.0, 300.0, 600.0)
FULL_MAILBOX_FLOOR_S = 1800.0
"""Shortest wait for a mailbox to be emptied."""


def greylist_floor_s(attempts: int) -> float:
    """Shortest wait after the `attempts`th attempt: the tries come about 1, 6 and 16 minutes after the first."""
    return _GREYLIST_S[min(attempts, len(_GREYLIST_S)) - 1]
