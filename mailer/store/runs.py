"""What a worker and the queue server tell each other of a run: values, without any server.

Times are milliseconds by the server's clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mailer.jobs import Attempt, JournalMark, Reason, Recipient, Status, Stream

MOST_CLAIMED = 100


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job as it was handed over, undecoded: what is broken in it is its own trouble, not the claim's.

    `run` names this run of it; `record` is empty where the queue has an id that we have no record of.
    """

    job_id: str
    queue: str
    run: str
    blob: bytes | None
    record: Mapping[bytes, bytes]
    payload: bytes | None
    frozen: bytes | None
    server_time: int


@dataclass(frozen=True, slots=True)
class Quota:
    """What of a claim goes to which stream. `least`: jobs of a stream, where so many are due; `lower_most`: jobs of all
    streams but critical."""

    least: Mapping[Stream, int] = field(default_factory=dict)
    lower_most: int = MOST_CLAIMED


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim brought. Times are milliseconds by the server's clock; `next_due` None: the queues are empty."""

    jobs: tuple[Claimed, ...]
    server_time: int
    next_due: int | None
    alone: bool
    """The one job is quarantined: nothing may run beside it."""
    waiting: bool
    """A quarantined job is there for this worker, once nothing else runs."""
    newer: tuple[str, ...]
    """Ids that were pushed back because a newer version wrote their records, or what is there is no record."""
    held_back: bool = False
    """More are due, and the quota had room for critical ones only."""

    @property
    def is_last(self) -> bool:
        """Nothing is left that could be claimed, now or later."""
        return self.next_due is None and not self.waiting and not self.held_back


@dataclass(frozen=True, slots=True)
class Held:
    """What names a run on the server."""

    job_id: str
    queue: str
    run: str

    @property
    def worker(self) -> str:
        return self.run.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class JournalEntry:
    held: Held
    mark: JournalMark
    recipients: tuple[Recipient, ...]
    dated: int
    fetched: bytes
    """What any later copy is rendered from, as JSON; empty where nothing was fetched."""


class JournalVerdict(StrEnum):
    GO = "go"
    LOST = "lost"  # another run has the job, or it is gone
    EXPIRED = "expired"
    REST = "rest"  # its status does not allow it any more


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run of a job ended. `at` and `next_attempt_at`: milliseconds by the server's clock."""

    status: Status
    at: int
    attempts: tuple[Attempt, ...] = ()
    """One; several where a relay failed over to the next, all with one number."""
    recipients: tuple[Recipient, ...] | None = None
    reason: Reason | None = None
    detail: str | None = None
    partial: bool = False
    assumed: bool = False
    unknown_outcomes: int | None = None
    uncounted: int | None = None
    """None: as it was."""
    next_attempt_at: int | None = None
    stays_at: str | None = None
    """The relay that is asked first at the next attempt: it asked for patience."""


class FinishVerdict(StrEnum):
    FINISHED = "finished"
    STALE = "stale"  # another run was there first, or has the job
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Release:
    """`delay_ms` None: the entry means nothing any more, and is dropped. `unsent`: no final dot was written, or the
    relay refused the mail after it. `detail`: what the job waits for."""

    held: Held
    delay_ms: int | None
    unsent: bool
    detail: str = ""
