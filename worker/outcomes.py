"""What an attempt produced, as values."""

from dataclasses import dataclass

from mailer.jobs import Reason, Recipient, UnknownPolicy
from worker.relays.attempt import Tried


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Relays were asked, the deciding one last: each recipient has a status of its own. `at_least_s`: shortest wait for
    those that are tried again; `stays_at`: the relay that they come back to first; `uncounted`: it is no attempt
    that a limit counts."""

    tries: tuple[Tried, ...]
    recipients: tuple[Recipient, ...]
    at_least_s: float | None = None
    stays_at: str | None = None
    uncounted: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """What comes before the relay could not be had. `at_most_s`: longest wait, where it is expected to pass."""

    tried: Tried
    at_most_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The answer was lost after the final dot. `recipients` as journaled: one that was taken may have it. The others
    are tried again: `at_least_s` and `stays_at` as in HandedOver."""

    tries: tuple[Tried, ...]
    recipients: tuple[Recipient, ...]
    policy: UnknownPolicy
    at_least_s: float | None = None
    stays_at: str | None = None


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
