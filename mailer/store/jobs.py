"""Jobs on the queue server: accepted by enqueue.lua, moved by finish.lua, read here.

The single place where a status is written. Raises QueueUnavailable when the server does not answer in time.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import cast

from mailer import queue
from mailer.errors import QueueUnavailable
from mailer.jobs import ATTEMPTS_KEPT, FINAL, MOVES, Attempt, Job, NewJob, Payload, Reason, Recipient, Status
from mailer.settings import Retention
from mailer.store import keys, records
from mailer.store.connection import RedisClient, answered, command

FINISH_PATIENCE_S = 300.0
IDEMPOTENCY_KEPT_MS = 24 * 3600 * 1000


class Verdict(StrEnum):
    ACCEPTED = "accepted"
    REPLAYED = "replayed"
    REUSED = "reused"


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
class LoadedJob:
    """What a worker needs. `payload` is None when its retention is over."""

    job: Job
    payload: Payload | None
    server_time: int


@dataclass(frozen=True, slots=True)
class JobView:
    """What a reader is shown: the record, its newest attempts, and what the queue says of it now."""

    job: Job
    attempts: tuple[Attempt, ...]
    status: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run of a job ended. `at` and `next_attempt_at`: milliseconds by the server's clock."""

    status: Status
    at: int
    attempt: Attempt | None = None
    recipients: tuple[Recipient, ...] | None = None
    reason: Reason | None = None
    detail: str | None = None
    partial: bool = False
    next_attempt_at: int | None = None


class JobStore:
    def __init__(self, redis: RedisClient, retention: Retention) -> None:
        scripts = resources.files("mailer.store") / "lua"
        self._redis = redis
        self._retention = retention
        self._enqueue = redis.register_script((scripts / "enqueue.lua").read_text())
        self._finish = redis.register_script((scripts / "finish.lua").read_text())

    async def ping(self) -> None:
        await command(self._redis, "PING")

    async def worker_is_alive(self) -> bool:
        """Whether a worker wrote its health key within the last seconds (what `arq --check` asks)."""
        return bool(await command(self._redis, "EXISTS", queue.HEALTH_CHECK_KEY))

    async def enqueue(self, requests: Sequence[EnqueueRequest]) -> list[EnqueueResult]:
        """Accept requests in one round trip: each all or none, with a verdict of its own."""
        now_ms = time.time_ns() // 1_000_000
        names: list[str] = []
        args: list[str | bytes] = [keys.WAKE, str(IDEMPOTENCY_KEPT_MS), str(len(requests))]
        for request in requests:
            given = request.idempotency
            if given is not None:
                names.append(keys.idempotency(given.owner, given.key))
            args += ["1", given.fingerprint, given.answer] if given else ["0", "", ""]
            args.append(str(len(request.jobs)))
            for job in request.jobs:
                names += [keys.job(job.id), keys.payload(job.id), keys.arq_job(job.id), queue.QUEUE]
                args += _job_arguments(job, now_ms)
        replies = await answered(self._enqueue(keys=names, args=args))
        return [
            EnqueueResult(Verdict(reply[0].decode()), reply[1] if len(reply) > 1 else None)
            for reply in cast(list[list[bytes]], replies)
        ]

    async def earlier_answer(self, owner: str, key: str, fingerprint: str) -> bytes | None:
        """What was answered to the same request before, if it came with this idempotency key."""
        found = await command(self._redis, "HMGET", keys.idempotency(owner, key), "fingerprint", "answer")
        answer: bytes | None = found[1] if found[0] == fingerprint.encode() else None
        return answer

    async def load(self, job_id: str) -> LoadedJob | None:
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(keys.job(job_id))
        pipe.get(keys.payload(job_id))
        pipe.time()
        record, payload, time_reply = await answered(pipe.execute())
        if not record:
            return None
        return LoadedJob(
            job=records.decode_record(job_id, record),
            payload=records.decode_payload(payload) if payload is not None else None,
            server_time=_milliseconds(time_reply),
        )

    async def view(self, job_id: str) -> JobView | None:
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(keys.job(job_id))
        pipe.lrange(keys.attempts(job_id), 0, -1)
        pipe.exists(keys.arq_in_progress(job_id))
        pipe.time()
        record, attempts, leased, time_reply = await answered(pipe.execute())
        if not record:
            return None
        job = records.decode_record(job_id, record)
        return JobView(
            job=job,
            attempts=tuple(records.decode_attempt(raw) for raw in attempts),
            status=shown_status(job, leased=bool(leased), now=_milliseconds(time_reply)),
        )

    async def finish(self, job: Job, ending: Ending, *, patience_s: float = FINISH_PATIENCE_S) -> bool:
        """Write how a run of `job` (as loaded) ended. False if another run was there first, or the record is gone.

        Repeats for `patience_s` seconds while the server is away: what was sent must not be forgotten.
        """
        arguments = self._finish_arguments(job, ending, token=secrets.token_hex(8))
        deadline = time.monotonic() + patience_s
        pause_s = 0.05
        while True:
            names = [keys.job(job.id), keys.payload(job.id), keys.attempts(job.id)]
            try:
                reply = await answered(self._finish(keys=names, args=arguments))
            except QueueUnavailable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(pause_s)
                pause_s = min(1.0, pause_s * 2)
            else:
                return bool(cast(list[bytes], reply)[0] == b"finished")

    def _finish_arguments(self, job: Job, ending: Ending, token: str) -> list[str | bytes]:
        from_statuses = "".join(f"{status}," for status, to in MOVES.items() if ending.status in to)
        record_ms, payload_ms = "", ""
        if ending.status in FINAL:
            record_ms, payload_ms = self._retention.after(failed=ending.status is Status.FAILED)
        fields: dict[str, str | bytes] = {
            "attempts": str(ending.attempt.number if ending.attempt else job.attempts),
            "reason": ending.reason or "",
            "detail": ending.detail or "",
            "next_attempt_at": str(ending.next_attempt_at or ""),
            "partial": "1" if ending.partial else "0",
        }
        if ending.status in FINAL:
            fields["finished_at"] = str(ending.at)
        if ending.recipients is not None:
            fields["recipients"] = records.encode_recipients(ending.recipients)
        return [
            token,
            str(job.attempts),
            ending.status,
            from_statuses,
            records.encode_attempt(ending.attempt) if ending.attempt else "",
            str(ATTEMPTS_KEPT),
            record_ms,
            payload_ms,
            *(part for pair in fields.items() for part in pair),
        ]


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


def _job_arguments(job: NewJob, now_ms: int) -> list[str | bytes]:
    record = records.new_record(job)
    return [
        job.id,
        str(job.delay_ms),
        str(job.expires_in_ms) if job.expires_in_ms is not None else "",
        records.encode_payload(job.payload),
        queue.blob(job.id, now_ms),
        str(2 * len(record)),
        *(part for pair in record.items() for part in pair),
    ]
