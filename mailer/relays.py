"""What is known of a relay across processes: how its worker describes it, and the state that all workers share. Pure.

Times are milliseconds by the queue server's clock. The trap: nothing of a relay's credentials is ever in here but a
fingerprint of a few bits.
"""

from dataclasses import dataclass
from enum import StrEnum

from mailer.jobs import Phase, Reply


class OpenedBy(StrEnum):
    """Why a breaker is open: how long for, and what closes it, depends on it."""

    CONNECTION = "connection"  # no name, no connection, no banner or handshake, time after time
    REFUSED = "refused"  # a banner of 5xx, or a name that does not exist: at once
    CERTIFICATE = "certificate"  # TLS is not as the settings ask for it: at once
    CREDENTIALS = "credentials"  # user and password were refused: at once, and until they change
    QUOTA = "quota"  # the relay says that its quota is used up


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
    """The newest thing that went wrong at a relay. `row`: the line of the fault matrix."""

    at: int
    row: str
    phase: Phase
    reply: Reply


@dataclass(frozen=True, slots=True)
class RelayState:
    """Shared by all workers. `open_until` in the past: half open, one probe may find out."""

    paused_at: int | None = None
    failures: int = 0
    """Connections that failed one after another, while the breaker is closed."""
    opened_at: int | None = None
    open_until: int | None = None
    opened_by: OpenedBy | None = None
    openings: int = 0
    """How often it opened since it was last closed: each time for longer."""
    credentials: str | None = None
    """Fingerprint of the user and password that were refused."""
    probe: str | None = None
    """Who is finding out, until `probe_until`."""
    probe_until: int | None = None
    pace: float = 1.0
    """Share of rate and connections that is used: halved when the relay says that it is too much, growing back."""
    paced_at: int | None = None
    trouble: Trouble | None = None
