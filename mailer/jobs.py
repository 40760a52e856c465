"""What a job is: the record's fields and format version, the statuses, and the moves allowed between them.

Pure. Times are integers, milliseconds since the epoch by the queue server's clock. The queue carries a job's id;
what is true of the job is here. docs/statuses.md explains each status to users and draws MOVES.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mailer.addresses import Address

RECORD_VERSION = 3
"""Format of record, payload and attempts. A worker leaves alone what has a greater version than its own. 2: leased and
journaled, which a worker of version 1 knows nothing of. 3: values are packed."""

ATTEMPTS_KEPT = 50
"""Only the newest attempts of a job are listed; `Job.attempts` counts all of them."""

CRASHES_TO_QUARANTINE = 2
"""A job whose worker died so often runs alone from then on, so that no neighbour is counted with it."""
CRASHES_TO_POISON = 5
"""A job whose worker died so often is failed."""


class Status(StrEnum):
    """Stored statuses. While `pending`, users are shown `scheduled`, `queued` or `sending` instead."""

    PENDING = "pending"
    DEFERRED = "deferred"
    UNKNOWN = "unknown"
    SENT = "sent"
    FAILED = "failed"
    SKIPPED = "skipped"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


OPEN = frozenset({Status.PENDING, Status.DEFERRED})
"""A worker will go on with the job: it has a place in a queue. `unknown` has none, and is not final either."""
FINAL = frozenset({Status.SENT, Status.FAILED, Status.SKIPPED, Status.EXPIRED, Status.CANCELLED})

MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.DEFERRED, Status.UNKNOWN, *FINAL}) - {Status.CANCELLED},
    Status.DEFERRED: frozenset({Status.DEFERRED, Status.UNKNOWN, *FINAL}) - {Status.CANCELLED},
    Status.UNKNOWN: frozenset({Status.SENT}),  # the answer that was thought lost came after all
    Status.SENT: frozenset(),
    Status.FAILED: frozenset(),
    Status.SKIPPED: frozenset(),
    Status.EXPIRED: frozenset(),
    Status.CANCELLED: frozenset(),
}
"""From each status to those that a run may make of it: enforced in mailer/store/lua/finish.lua. What a person may make
of it is in service/controls.py."""


class Reason(StrEnum):
    """Why a job is `failed`."""

    REFUSED = "refused"  # the relay said no, for good
    RENDERING = "rendering"  # the template failed on its data
    MISSING_DATA = "missing_data"  # a source does not have what the mail needs
    INVALID_RECIPIENT = "invalid_recipient"  # what a source gave is no address
    GAVE_UP = "gave_up"  # its time for trying, or the number of its attempts, is over
    NO_USABLE_RELAY = "no_usable_relay"  # that time ended while it waited for a relay
    RESOLVED = "resolved"  # a person said so, of a job that was in doubt
    POISON = "poison"  # the worker died each time that it ran the job
    INTERNAL = "internal"  # a defect of Postroom: the log has the traceback


class UnknownPolicy(StrEnum):
    """What becomes of a mail whose answer was lost after the final dot: the relay may have it, or not."""

    RESEND = "resend"  # once more after a minute, byte for byte the same; lost again: unknown
    HOLD = "hold"  # unknown, until a person decides
    ACCEPT = "accept"  # taken for sent: it may be a mail that never arrived


class Stream(StrEnum):
    """A lane with its own queue and backoff, in the order in which workers look for work."""

    CRITICAL = "critical"
    NORMAL = "normal"
    BULK = "bulk"


class RecipientStatus(StrEnum):
    PENDING = "pending"
    DEFERRED = "deferred"
    UNKNOWN = "unknown"
    SENT = "sent"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN_RECIPIENT = frozenset({RecipientStatus.PENDING, RecipientStatus.DEFERRED})
"""Recipients the next attempt still writes to."""


TAKEN = range(200, 300)
"""Codes of replies to RCPT."""


class Field(StrEnum):
    """The header a recipient stands in; `bcc` is in the envelope only."""

    TO = "to"
    CC = "cc"
    BCC = "bcc"


class Phase(StrEnum):
    """Where an attempt ended. The SMTP ones are commands of RFC 5321."""

    FETCH = "fetch"
    CONNECT = "connect"  # the name's addresses and TCP
    BANNER = "banner"
    EHLO = "ehlo"
    TLS = "tls"  # STARTTLS, or the handshake where TLS begins at once
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"  # the command and the content
    DOT = "dot"  # after the final dot: the relay may have taken the mail


@dataclass(frozen=True, slots=True)
class Reply:
    """What a relay (or a source) said: SMTP or HTTP code, RFC 3463 enhanced code, text. No code: no answer came."""

    code: int | None
    text: str
    enhanced: str | None = None


@dataclass(frozen=True, slots=True)
class Recipient:
    """`in_doubt`: the relay that may have a copy for it, whose answer to the final dot was lost. Any later one goes
    nowhere else."""

    address: Address
    field: Field = Field.TO
    status: RecipientStatus = RecipientStatus.PENDING
    reply: Reply | None = None
    in_doubt: str | None = None

    @property
    def was_taken(self) -> bool:
        """As journaled: the relay took it before the final dot."""
        return self.status is RecipientStatus.PENDING and self.reply is not None and self.reply.code in TAKEN


@dataclass(frozen=True, slots=True)
class Backoff:
    """What a template or a job says of its own schedule; None: as its stream has it. Seconds. `delays_s`: the waits
    between its attempts one by one, in place of base and cap; after the last one it gives up."""

    delays_s: tuple[float, ...] | None = None
    base_s: float | None = None
    cap_s: float | None = None
    give_up_s: float | None = None
    max_attempts: int | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a relay, or at the sources the mail needs before it. A failover to the next relay is the same attempt:
    it has an entry for each relay, with one number.

    `conversation`: "12 > MAIL FROM:<...>" for what we said 12 ms after the attempt began, "<" for what the relay said,
    secrets masked. The answer to "> RSET" is not in there: nobody waits for it. `timings`: milliseconds by phase.
    `queue_id`: what the relay calls the mail. `row`: of the fault matrix, where the relay did not take the mail.
    """

    number: int
    at: int
    duration_ms: int
    phase: Phase
    outcome: str
    reply: Reply
    relay: str | None = None
    next_attempt_at: int | None = None
    queue_id: str | None = None
    timings: Mapping[str, int] = field(default_factory=dict)
    conversation: tuple[str, ...] = ()
    row: str | None = None


@dataclass(frozen=True, slots=True)
class JournalMark:
    """Written just before the final dot, removed with the relay's answer. Found by a later run, it says that the answer
    to this attempt was lost."""

    relay: str
    number: int
    at: int


@dataclass(frozen=True, slots=True)
class Event:
    """What an application reported. The names of id, source, subject and time are CloudEvents'."""

    name: str
    id: str
    source: str | None = None
    subject: str | None = None
    time: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job's record. `recipients` is None while only a source knows them; what a source named is read again at each
    attempt, until a relay has decided on one of them or a mail to them was journaled."""

    id: str
    status: Status
    stream: Stream
    created_at: int
    due_at: int
    template: str | None = None
    template_version: str | None = None
    event: Event | None = None
    recipients: tuple[Recipient, ...] | None = None
    recipients_from_source: bool = False
    recipients_come_late: bool = False
    """They were not known when it was accepted, so the index has them from its first attempt on."""
    reason: Reason | None = None
    detail: str | None = None
    partial: bool = False
    attempts: int = 0
    next_attempt_at: int | None = None
    expires_at: int | None = None
    finished_at: int | None = None
    stays_at: str | None = None
    """The relay that is asked first at the next attempt: it asked for patience."""
    backoff: Backoff | None = None
    uncounted: int = 0
    """Attempts that found every relay shut for all mail: no limit counts them."""
    unknown_policy: UnknownPolicy | None = None
    unknown_outcomes: int = 0
    """Attempts whose answer was lost after the final dot: as many more copies may have reached the relay."""
    assumed: bool = False
    """`sent` by policy, not by a relay's answer."""
    crashes: int = 0
    """How often a worker died while it ran the job, since a run that came to an end."""
    journal: JournalMark | None = None
    dated: int | None = None
    """The mail's Date, once an attempt was journaled: any later copy has the same."""
    version: int = RECORD_VERSION
    kind: str = "mail"

    @property
    def counted(self) -> int:
        """The attempts that a backoff goes by."""
        return self.attempts - self.uncounted


@dataclass(frozen=True, slots=True)
class Payload:
    """What a job's mail is made of; kept beside the record, and removed earlier.

    Either a template's `data`, or inline `subject`, `html` and `text`, which are never templates.
    """

    data: dict[str, Any] = field(default_factory=dict)
    subject: str | None = None
    html: str | None = None
    text: str | None = None
    sender: Address | None = None
    reply_to: tuple[Address, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job about to be accepted. Lengths of time become times by the queue server's clock; `send_at` and `expires_at`
    (ms), where they are given, take their place."""

    id: str
    payload: Payload
    stream: Stream = Stream.NORMAL
    template: str | None = None
    template_version: str | None = None
    event: Event | None = None
    recipients: tuple[Recipient, ...] | None = None
    delay_ms: int = 0
    send_at: int | None = None
    expires_in_ms: int | None = None
    expires_at: int | None = None
    backoff: Backoff | None = None
    unknown_policy: UnknownPolicy | None = None


def distinct(recipients: tuple[Recipient, ...]) -> tuple[Recipient, ...]:
    """Each address once, where it stands first: nobody gets one mail twice."""
    seen: dict[str, Recipient] = {}
    for recipient in recipients:
        seen.setdefault(recipient.address.email, recipient)
    return tuple(seen.values())
