"""A job moved by a person, through control.lua: looked at, decided on, and changed only if it is still as it was.

The trap: what is decided has to follow from the record alone, for it is decided anew when somebody was faster.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mailer import queue
from mailer.errors import ContentGone, QueueUnavailable
from mailer.interventions import Deed, Intervention, with_intervention
from mailer.jobs import RECORD_VERSION, Job, Recipient, Status, Stream
from mailer.settings import Durability, Retention
from mailer.store import keys, records
from mailer.store.connection import RedisClient, answered
from mailer.store.records import HISTORY
from mailer.store.scripts import Script

MOST_LOOKS = 20
"""At one job for one control. A run changes it a few times in its life."""
_COMPARED = ("status", "run", "journal", "attempts", "stream", "due_at", "next_attempt_at", HISTORY)


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a job. `at`: the time (ms) at which it is due, where it is to be in a queue. `fields`: others of
    the record, as text."""

    deed: Deed
    status: Status
    recipients: tuple[Recipient, ...] | None
    at: int | None = None
    stream: Stream | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """A job as it is looked at. `is_leased`: a worker has it. `now`: ms by the server's clock."""

    job: Job
    is_leased: bool
    now: int

    @property
    def may_be_sending(self) -> bool:
        """Its final dot may be written by now."""
        return self.job.journal is not None


class ControlStore:
    def __init__(self, redis: RedisClient, retention: Retention, durability: Durability) -> None:
        self._redis = redis
        self._retention = retention
        self._control = Script(redis, "control", durability)

    async def change(self, job_id: str, by: str, decide: Callable[[Standing], Change | None]) -> bool:
        """Whether there is such a job. `decide` may raise what refuses the control; None: it is as it should be. `by`:
        whoever asked for it.

        Raises ContentGone where the job cannot be sent any more, and QueueUnavailable: say it again.
        """
        for _ in range(MOST_LOOKS):
            raw, leased, (seconds, microseconds) = await self._look(job_id)
            if not raw:
                return False
            standing = Standing(records.decode_record(job_id, raw), bool(leased), seconds * 1000 + microseconds // 1000)
            change = decide(standing)
            if change is None or await self._changed(standing, change, by, raw):
                return True
        raise QueueUnavailable(f"The job changed {MOST_LOOKS} times while it was looked at.")

    async def _look(self, job_id: str) -> tuple[dict[bytes, bytes], int, tuple[int, int]]:
        pipe = self._redis.pipeline(transaction=True)
        pipe.hgetall(keys.job(job_id))
        pipe.exists(keys.arq_in_progress(job_id))
        pipe.time()
        raw, leased, clock = await answered(self._redis, pipe.execute())
        return raw, leased, clock

    async def _changed(self, standing: Standing, change: Change, by: str, raw: Mapping[bytes, bytes]) -> bool:
        job = standing.job
        done = Intervention(standing.now, change.deed, by, job.status, change.status, job.reason, job.detail)
        names = [keys.job(job.id), keys.payload(job.id), keys.frozen(job.id), keys.attempts(job.id)]
        names += [keys.arq_in_progress(job.id), keys.arq_job(job.id), queue.QUARANTINE, *queue.QUEUES.values()]
        stream = change.stream or job.stream
        fields: dict[str, str | bytes] = {**change.fields, "status": change.status, "stream": stream}
        fields["v"] = str(RECORD_VERSION)  # its values are written as this version writes them
        fields[HISTORY] = with_intervention(raw.get(HISTORY.encode()), done)
        if change.recipients is not None:
            fields["recipients"] = records.encode_recipients(change.recipients)
        place, record_ms, payload_ms = "", "", ""
        if change.at is not None:
            place = str(names.index(queue.QUEUES[stream]) + 1)
        else:
            longer = change.status in {Status.FAILED, Status.UNKNOWN}
            record_ms, payload_ms = self._retention.after(failed=longer)
        expected = [part for name in _COMPARED for part in (name, raw.get(name.encode(), b""))]
        hashes = [keys.hash_of(item.address.email) for item in job.recipients or ()]
        args: list[str | bytes | int] = [keys.WAKE, keys.MOVED, keys.JOBS, keys.RECIPIENT, self._retention.recipient_ms]
        args += [len(hashes), *hashes, job.id, len(expected), *expected]
        args += [2 * len(fields), *(part for pair in fields.items() for part in pair)]
        args += [place, change.at or "", queue.blob(job.id, time.time_ns() // 1_000_000), record_ms, payload_ms]
        args.append(str(int(change.deed is Deed.RESCHEDULED)))
        verdict: bytes = await self._control(names, args)
        if verdict == b"empty":
            raise ContentGone
        return verdict == b"done"
