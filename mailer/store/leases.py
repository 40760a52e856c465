"""A worker's side of the queue: jobs leased, kept, journaled, finished and given back. See the scripts in lua/.

Each call may be repeated with the same arguments. Raises QueueUnavailable when the server does not answer in time.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mailer import queue
from mailer.jobs import ATTEMPTS_KEPT, CRASHES_TO_QUARANTINE, FINAL, MOVES, OPEN, RECORD_VERSION, Job, Status
from mailer.settings import Durability, Retention
from mailer.store import keys, records
from mailer.store.connection import CALL_TIMEOUT_S, RedisClient
from mailer.store.gather import SYNCING_AT_ONCE, Gatherer
from mailer.store.runs import (
    MOST_CLAIMED,
    Claim,
    Claimed,
    Ending,
    FinishVerdict,
    Held,
    JournalEntry,
    JournalVerdict,
    Quota,
    Release,
)
from mailer.store.scripts import Script

JOURNALED_LEASES = 3
"""A run past its journal is held for so many leases: nobody is in a hurry for it, and another worker that found its
mark while this one still waits for the relay would make a doubt of it."""
PUSHED_BACK_MS = 60_000
"""What nobody here understands is looked at again after this time."""
JOURNAL_PAUSE_S = 0.003
FINISH_PAUSE_S = 0.01
"""Between two calls of a worker that is busy. A relay waits for the journal, nobody for the finish."""
NO_QUOTA = Quota()
_OPEN = "".join(f"{status}," for status in sorted(OPEN))
_REACHED_FROM = {end: "".join(f"{status}," for status, to in MOVES.items() if end in to) for end in Status}
"""As the scripts read lists of statuses: "a,b,"."""
_PREFIXES = (keys.JOB, keys.PAYLOAD, keys.FROZEN, keys.ARQ_IN_PROGRESS, keys.ARQ_JOB, keys.CLAIMED)


@dataclass(frozen=True, slots=True)
class _Finish:
    held: Held
    job: Job
    ending: Ending


class LeaseStore:
    def __init__(self, redis: RedisClient, retention: Retention, durability: Durability, lease_ms: int) -> None:
        self._retention = retention
        self._lease_ms = lease_ms
        self._journaled_ms = JOURNALED_LEASES * lease_ms
        self._clock: tuple[int, float] | None = None
        self._claim = Script(redis, "claim")
        self._beat = Script(redis, "beat")
        self._journal = Script(redis, "journal", durability)
        self._finish = Script(redis, "finish", durability)
        self._unjournal = Script(redis, "unjournal")
        self._release = Script(redis, "release")
        at_once = SYNCING_AT_ONCE if durability.fsync else 1
        self._journals = Gatherer(
            self._journal_all, size=lambda entry: len(entry.fetched), at_once=at_once, pause_s=JOURNAL_PAUSE_S
        )
        self._finishes = Gatherer(self._finish_all, at_once=at_once, pause_s=FINISH_PAUSE_S)
        # Not synced: a release that is lost leaves a lease that runs out.
        self._releases = Gatherer(self._release_all)

    async def claim(
        self,
        worker: str,
        number: int,
        *,
        wanted: int,
        running: int,
        streams_first: bool = False,
        quota: Quota = NO_QUOTA,
    ) -> Claim:
        """Lease up to `wanted` due jobs. `running`: this worker's runs that a quarantined job waits for.
        `streams_first`: one has just had its turn.

        `number` counts this worker's claims; a claim that got no answer is repeated with the same one.
        """
        began = time.monotonic()
        names = [queue.QUARANTINE, *queue.QUEUES.values(), keys.PAUSED_STREAMS]
        names += [keys.QUARANTINE_HOLDER, keys.WORKERS, keys.claimed(worker)]
        now, next_due, alone, waiting, jobs, newer, held_back = await self._claim(
            names,
            [
                *(worker, number, self._lease_ms, min(wanted, MOST_CLAIMED), running, int(streams_first)),
                *(RECORD_VERSION, CRASHES_TO_QUARANTINE, PUSHED_BACK_MS, *_PREFIXES, self._waited_for_until(began)),
                quota.lower_most,
                *(part for stream in queue.QUEUES for part in (stream, quota.least.get(stream, 0))),
            ],
        )
        self._clock = (now, began)
        run = f"{worker}/{number}"
        return Claim(
            jobs=tuple(_claimed(job, run, now) for job in jobs),
            server_time=now,
            next_due=None if next_due < 0 else next_due,
            alone=bool(alone),
            waiting=bool(waiting),
            newer=tuple(job_id.decode(errors="backslashreplace") for job_id in newer),
            held_back=bool(held_back),
        )

    def _waited_for_until(self, began: float) -> int | str:
        """By the server's clock as the last claim told it, so that a clock that was set costs one claim."""
        if self._clock is None:
            return ""
        server_time, read_at = self._clock
        return server_time + int((began - read_at + CALL_TIMEOUT_S) * 1000)

    async def beat(
        self,
        worker: str,
        runs: Sequence[Held],
        health: str,
        health_ms: int,
        *,
        journaled: frozenset[Held] = frozenset(),
        is_holder: bool = False,
    ) -> frozenset[Held]:
        """Extend the leases of `runs` and the health key. Those runs whose job is another's by now, or gone.

        `journaled`: those past their journal. `is_holder`: while it takes care of quarantined jobs.
        """
        names = [queue.HEALTH_CHECK_KEY, keys.QUARANTINE_HOLDER, keys.WORKERS, keys.claimed(worker)]
        args: list[str | bytes | int] = [health, health_ms, self._lease_ms, worker, int(is_holder)]
        for held in runs:
            names += [keys.job(held.job_id), keys.arq_in_progress(held.job_id), held.queue]
            args += [held.job_id, held.run, self._journaled_ms if held in journaled else self._lease_ms]
        return frozenset(runs[number - 1] for number in await self._beat(names, args))

    async def journal(self, entry: JournalEntry) -> JournalVerdict:
        """Whether the final dot may be written."""
        return await self._journals.ask(entry)

    async def unjournal(self, entry: JournalEntry) -> None:
        """The relay did not take what was journaled. Not synced: what is lost of it makes a doubt, as a crash does."""
        held = entry.held
        await self._unjournal(
            [keys.job(held.job_id), keys.arq_in_progress(held.job_id), held.queue],
            [held.job_id, held.run, records.encode_journal(entry.mark), self._lease_ms],
        )

    async def finish(self, held: Held, job: Job, ending: Ending) -> FinishVerdict:
        """Write how a run of `job` (as it was claimed) ended."""
        return await self._finishes.ask(_Finish(held, job, ending))

    async def release(self, release: Release) -> None:
        """Give a job back without an end."""
        await self._releases.ask(release)

    async def _journal_all(self, entries: Sequence[JournalEntry]) -> list[JournalVerdict]:
        names: list[str] = []
        args: list[str | bytes | int] = [self._journaled_ms, _OPEN]
        for entry in entries:
            job_id = entry.held.job_id
            names += [keys.job(job_id), keys.arq_in_progress(job_id), keys.frozen(job_id), entry.held.queue]
            args += [
                job_id,
                entry.held.run,
                records.encode_journal(entry.mark),
                records.encode_recipients(entry.recipients),
                entry.dated,
                entry.fetched,
            ]
        return [_journal_verdict(word.decode()) for word in await self._journal(names, args)]

    async def _finish_all(self, finishes: Sequence[_Finish]) -> list[FinishVerdict]:
        names = [queue.QUARANTINE, *queue.QUEUES.values()]
        args: list[str | bytes | int] = [len(names), ATTEMPTS_KEPT, keys.MOVED, keys.JOBS, keys.RECIPIENT]
        args.append(self._retention.recipient_ms)
        for item in finishes:
            job_id = item.held.job_id
            names += [keys.job(job_id), keys.payload(job_id), keys.frozen(job_id), keys.attempts(job_id)]
            names += [keys.arq_in_progress(job_id), keys.arq_job(job_id)]
            names += [item.held.queue, queue.QUEUES[item.job.stream], keys.claimed(item.held.worker)]
            args += self._finish_arguments(item)
        return [FinishVerdict(reply[0].decode()) for reply in await self._finish(names, args)]

    def _finish_arguments(self, item: _Finish) -> list[str | bytes | int]:
        job, ending = item.job, item.ending
        record_ms, payload_ms = "", ""
        if ending.status not in OPEN:
            longer = ending.status in {Status.FAILED, Status.UNKNOWN}
            record_ms, payload_ms = self._retention.after(failed=longer)
        fields: dict[str, str | bytes] = {
            "attempts": str(ending.attempts[-1].number if ending.attempts else job.attempts),
            "reason": ending.reason or "",
            "detail": ending.detail or "",
            "next_attempt_at": str(ending.next_attempt_at or ""),
            "partial": "1" if ending.partial else "",
            "stays_at": ending.stays_at or "",
        }
        if ending.assumed:
            fields["assumed"] = "1"
        if ending.unknown_outcomes is not None:
            fields["unknown_outcomes"] = str(ending.unknown_outcomes)
        if ending.uncounted is not None:
            fields["uncounted"] = str(ending.uncounted)
        if ending.status in FINAL:
            fields["finished_at"] = str(ending.at)
        if ending.recipients is not None:
            fields["recipients"] = records.encode_recipients(ending.recipients)
        return [
            item.held.job_id,
            item.held.run,
            ending.status,
            _REACHED_FROM[ending.status],
            # A sent mail leaves the queue even when the lease was lost.
            "1" if ending.status is Status.SENT and not ending.assumed else "0",
            *_counted([records.encode_attempt(attempt) for attempt in ending.attempts]),
            *_counted(_not_indexed_yet(job, ending)),
            str(ending.next_attempt_at or ""),
            fields["attempts"],
            record_ms,
            payload_ms,
            2 * len(fields),
            *(part for pair in fields.items() for part in pair),
        ]

    async def _release_all(self, releases: Sequence[Release]) -> list[None]:
        names: list[str] = []
        args: list[str | bytes | int] = [keys.WAKE]
        for item in releases:
            job_id = item.held.job_id
            names += [keys.job(job_id), keys.arq_in_progress(job_id), keys.arq_job(job_id), item.held.queue]
            names.append(keys.claimed(item.held.worker))
            delay = "drop" if item.delay_ms is None else item.delay_ms
            args += [job_id, item.held.run, delay, "1" if item.unsent else "0", item.detail]
        await self._release(names, args)
        return [None] * len(releases)


def _counted(items: Sequence[str | bytes]) -> list[str | bytes | int]:
    """As the scripts read a list: its length, then its items."""
    return [len(items), *items]


def _not_indexed_yet(job: Job, ending: Ending) -> list[str]:
    """Hashes of recipients that were not known at acceptance."""
    recipients = ending.recipients or job.recipients or () if job.recipients_come_late else ()
    return [keys.hash_of(item.address.email) for item in recipients]


def _claimed(reply: Sequence[Any], run: str, now: int) -> Claimed:
    job_id, queue_name, blob, flat, payload, frozen = reply
    return Claimed(
        job_id=job_id.decode(),
        queue=queue_name.decode(),
        run=run,
        blob=blob,
        record=dict(zip(flat[::2], flat[1::2], strict=True)),
        payload=payload,
        frozen=frozen,
        server_time=now,
    )


def _journal_verdict(word: str) -> JournalVerdict:
    """A word that is none of the verdicts is the status that forbids the mail."""
    return JournalVerdict(word) if word in set(JournalVerdict) - {JournalVerdict.REST} else JournalVerdict.REST
