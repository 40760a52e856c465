"""What is known of a relay across processes: how its worker describes it, and the state that all workers share. Pure.

Times are milliseconds by the queue server's clock. The trap: nothing of a relay's credentials is ever in here but a
fingerprint of a few bits.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from mailer.jobs import Phase, Reply

SPARE = 1.05


class OpenedBy(StrEnum):
    """Why a breaker is open: how long for, and what closes it, depends on it."""

    CONNECTION = "connection"  # no connection, no banner or handshake, time after time
    REFUSED = "refused"  # a banner of 5xx, or a name that does not exist: at once
    CERTIFICATE = "certificate"  # TLS is not as the settings ask for it: at once
    CREDENTIALS = "credentials"  # user and password were refused: at once, and until they change
    QUOTA = "quota"  # the relay says that its quota is used up


MINUTE_MS = 60_000
LONGEST_OPEN_MS = {
    OpenedBy.CONNECTION: 5 * MINUTE_MS,
    OpenedBy.REFUSED: 5 * MINUTE_MS,
    OpenedBy.CERTIFICATE: 15 * MINUTE_MS,
    OpenedBy.CREDENTIALS: 5 * MINUTE_MS,
    OpenedBy.QUOTA: 60 * MINUTE_MS,
}
LAG_MS = 10_000
"""So far at most is a worker's idea of the server's time behind it."""


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"  # its time is over: one mail may find out


@dataclass(frozen=True, slots=True)
class RelayDescription:
    """A relay as a worker was set up with it. `order`: 0 is preferred. `rate`: mails a second, None without a limit.
    `senders`: domains and addresses that may send through it, all where empty."""

    name: str
    order: int
    host: str
    port: int
    tls: str
    connections: int
    rate: float | None = None
    senders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trouble:
    """The newest thing that went wrong at a relay. `row`: the line of the fault matrix. `at` is set where it becomes
    part of the state."""

    at: int
    row: str
    phase: Phase
    reply: Reply


@dataclass(frozen=True, slots=True)
class RelayState:
    """Shared by all workers. `open_until` in the past: half open, one probe may find out."""

    paused_at: int | None = None
    failures: int = 0
    """Connections that failed one after another, before the breaker opened."""
    failing_since: int | None = None
    logins: int = 0
    """Lines that were cut during AUTH, with no success since the first."""
    opened_at: int | None = None
    """Since when it is not closed."""
    open_until: int | None = None
    opened_by: OpenedBy | None = None
    openings: int = 0
    """How often it opened since it was last closed: each time for longer."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Fingerprints of user and password that the relay refused, and until when nobody tries them again. They outlast
    the opening: other workers may have others, which work."""
    probe: str | None = None
    """Who is finding out, until `probe_until`."""
    probe_until: int | None = None
    pace: float = 1.0
    """Share of rate and connections that is used: halved when the relay says that it is too much, growing back."""
    paced_at: int | None = None
    """When `pace` last changed; None at full pace."""
    trouble: Trouble | None = None


def breaker_state(state: RelayState, now: int) -> BreakerState:
    if state.open_until is None:
        return BreakerState.CLOSED
    return BreakerState.OPEN if is_open(state, now) else BreakerState.HALF_OPEN


def is_open(state: RelayState, now: int) -> bool:
    return is_ahead(state.open_until, LONGEST_OPEN_MS[state.opened_by or OpenedBy.CONNECTION], now)


def is_ahead(until: int | None, longest_ms: int, now: int) -> bool:
    """Whether a time that was set `longest_ms` ahead at the most is still to come. One that is further away was set
    before the server's clock was set back: it counts as over, for it could be days away."""
    return until is not None and now < until <= now + longest_ms + LAG_MS


def paused(state: RelayState, now: int) -> RelayState:
    """Not used until resumed. The breaker stays as it is."""
    return state if state.paused_at is not None else replace(state, paused_at=now)


def resumed(state: RelayState) -> RelayState:
    return replace(state, paused_at=None)


def spacing_us(rate: float) -> int:
    """Microseconds between two mails to a relay that takes `rate` a second.

    There is no burst, and a mail may still be up to a twentieth of the window late (a slow loop, a slow wire) before
    any window has more than its rate allows: that is what the spare is for.
    """
    return math.ceil(SPARE * 1_000_000 / rate)
