"""Jobs as the API sees them: accepted by enqueue.lua, and read. A worker's side is leases.py.

Raises QueueUnavailable when the server does not answer in time.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from mailer import queue
from mailer.interventions import Intervention, decode_interventions
from mailer.jobs import Attempt, Job, NewJob, Status
from mailer.settings import Durability, Retention
from mailer.store import keys, records
from mailer.store.connection import RedisClient, answered, command
from mailer.store.gather import SYNCING_AT_ONCE, Gatherer
from mailer.store.scripts import Script

IDEMPOTENCY_KEPT_MS = 24 * 3600 * 1000


class Verdict(StrEnum):
    ACCEPTED = "accepted"
    REPLAYED = "replayed"
    REUSED = "reused"
    WITHHELD = "withheld"


VERDICTS = {verdict.encode(): verdict for verdict in Verdict}


@dataclass(frozen=True, slots=True)
class Idempotency:
    """Who asked, with which key, for what (fingerprint), and the answer to give again."""

    owner: str
    key: str
    fingerprint: str
    answer: bytes


@dataclass(frozen=True, slots=True)
class EnqueueRequest:
    jobs: tuple[NewJob, ...]
    idempotency: Idempotency | None = None


@dataclass(frozen=True, slots=True)
class EnqueueResult:
    verdict: Verdict
    answer: bytes | None = None
    """The first answer, when replayed."""


@dataclass(frozen=True, slots=True)
class JobView:
    """What a reader is shown: the record, its newest attempts, and what the queue says of it now."""

    job: Job
    attempts: tuple[Attempt, ...]
    status: str
    interventions: tuple[Intervention, ...] = ()


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A request as enqueue.lua takes it."""

    names: tuple[str, ...]
    args: tuple[str | bytes | int, ...]

    @property
    def size(self) -> int:
        """Octets, about: what is large in a request is bytes."""
        return sum(len(arg) for arg in self.args if isinstance(arg, bytes))


class JobStore:
    def __init__(self, redis: RedisClient, durability: Durability, retention: Retention) -> None:
        self._redis = redis
        self._recipient_ms = retention.recipient_ms
        self._enqueue = Script(redis, "enqueue", durability)
        self._earlier = Script(redis, "earlier", durability)
        self._requests = Gatherer(
            self._enqueue_all, size=lambda request: request.size, at_once=SYNCING_AT_ONCE if durability.fsync else 1
        )

    async def worker_is_alive(self) -> bool:
        """Whether a worker wrote its health key within the last seconds (what `arq --check` asks)."""
        return bool(await command(self._redis, "EXISTS", queue.HEALTH_CHECK_KEY))

    async def enqueue(self, request: EnqueueRequest) -> EnqueueResult:
        """Accept a request: all of its jobs or none. Those that come together share a round trip, never a verdict."""
        return await self._requests.ask(_encode(request))

    async def enqueue_each(self, requests: Sequence[EnqueueRequest]) -> list[EnqueueResult | Exception]:
        """As `enqueue`, for each; what that would raise for one stands in its place."""
        return await self._requests.ask_all([_encode(request) for request in requests])

    async def enqueue_together(self, requests: Sequence[EnqueueRequest]) -> list[EnqueueResult]:
        """Accept all of these requests; or none of them, where the idempotency key of one is REUSED: the others are
        WITHHELD."""
        return await self._enqueue_all([_encode(request) for request in requests], together=True)

    async def _enqueue_all(self, requests: Sequence[_Encoded], *, together: bool = False) -> list[EnqueueResult]:
        names = [name for request in requests for name in request.names]
        args: list[str | bytes | int] = [keys.WAKE, keys.jobs(Status.PENDING), keys.RECIPIENT, self._recipient_ms]
        args += [IDEMPOTENCY_KEPT_MS, int(together), len(requests)]
        args += [arg for request in requests for arg in request.args]
        replies = await self._enqueue(names, args)
        return [
            EnqueueResult(VERDICTS[reply[0]], reply[1] if len(reply) > 1 else None)
            for reply in cast(list[list[bytes]], replies)
        ]

    async def earlier_answer(self, owner: str, key: str, fingerprint: str) -> bytes | None:
        """What was answered to the same request before, if it came with this idempotency key."""
        answer: bytes | None = await self._earlier([keys.idempotency(owner, key)], [fingerprint])
        return answer

    async def view(self, job_id: str) -> JobView | None:
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(keys.job(job_id))
        pipe.lrange(keys.attempts(job_id), 0, -1)
        pipe.exists(keys.arq_in_progress(job_id))
        pipe.time()
        record, attempts, leased, time_reply = await answered(self._redis, pipe.execute())
        if not record:
            return None
        job = records.decode_record(job_id, record)
        return JobView(
            job=job,
            attempts=tuple(records.decode_attempt(raw) for raw in attempts),
            status=shown_status(job, leased=bool(leased), now=_milliseconds(time_reply)),
            interventions=decode_interventions(record.get(records.HISTORY.encode())),
        )


SHOWN_PENDING = frozenset({"scheduled", "queued", "sending"})


def shown_status(job: Job, *, leased: bool, now: int) -> str:
    """The stored status; for a pending job what the queue says: `scheduled`, `queued` or `sending`."""
    if job.status is not Status.PENDING:
        return job.status
    if leased:
        return "sending"
    return "scheduled" if job.due_at > now else "queued"


def _milliseconds(time_reply: tuple[int, int]) -> int:
    """The server's TIME: seconds and microseconds."""
    return time_reply[0] * 1000 + time_reply[1] // 1000


def _encode(request: EnqueueRequest) -> _Encoded:
    now_ms = time.time_ns() // 1_000_000
    given = request.idempotency
    names = [keys.idempotency(given.owner, given.key)] if given is not None else []
    args: list[str | bytes | int] = ["1", given.fingerprint, given.answer] if given is not None else ["0", "", ""]
    args.append(len(request.jobs))
    for job in request.jobs:
        names += [keys.job(job.id), keys.payload(job.id), keys.arq_job(job.id), queue.QUEUES[job.stream]]
        args += _job_arguments(job, now_ms)
    return _Encoded(tuple(names), tuple(args))


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


def _job_arguments(job: NewJob, now_ms: int) -> list[str | bytes | int]:
    record = records.new_record(job)
    hashes = [keys.hash_of(item.address.email) for item in job.recipients or ()]
    return [
        job.id,
        str(job.delay_ms),
        _text(job.send_at),
        _text(job.expires_in_ms),
        _text(job.expires_at),
        records.encode_payload(job.payload),
        queue.blob(job.id, now_ms),
        len(hashes),
        *hashes,
        str(2 * len(record)),
        *(part for pair in record.items() for part in pair),
    ]
