"""One run: everything is started, jobs are posted while faults happen, all comes to rest, and the evidence is read."""

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from mailer import queue
from mailer.errors import QueueUnavailable
from mailer.jobs import Job
from mailer.store import keys, records
from mailer.store.connection import answered, command
from tests.chaos import mails
from tests.chaos.cast import Cast, cast
from tests.chaos.faults import Faults
from tests.chaos.judge import Evidence
from tests.chaos.plan import Fault, Settings, schedule
from tests.support.keyspace import leaks
from tests.support.waiting import until

READY_WITHIN_S = 30.0
REST_WITHIN_S = 60.0
RESEND_S = 65.0
"""worker.conclusion.RESEND_AFTER_MS, and the attempt itself."""
TOLD_EVERY_S = 5.0
READ_AT_ONCE = 500


@dataclass(slots=True)
class Observed:
    """What is worth telling beside the evidence."""

    evidence: Evidence
    faults: Counter[Fault] = field(default_factory=Counter)
    moods: Counter[str] = field(default_factory=Counter)
    mails: Counter[str] = field(default_factory=Counter)
    """Final dots, by the relay that took them."""
    fail_overs: Counter[str] = field(default_factory=Counter)
    """Attempts that went on to the next relay, by the phase at which the one before failed."""
    openings: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    unanswered: int = 0
    posts: int = 0
    controls: Counter[str] = field(default_factory=Counter)
    """What people said of jobs, by the answer."""
    past_journal: int = 0
    out: int = 0
    barred: int = 0
    kills_unseen: int = 0
    longest_stop_s: float = 0.0
    took_s: float = 0.0


async def run(settings: Settings, folder: Path) -> Observed:
    began = time.monotonic()
    random = Random(f"schedule {settings.seed}")
    plan = schedule(settings, random)
    posts = mails.posts(settings.jobs, random, resend=settings.resend)
    async with cast(settings, folder) as all_, asyncio.TaskGroup() as watchers:
        await until(all_.are_ready, within_s=READY_WITHIN_S, what="the start of all processes")
        with _telling(all_, settings):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(all_.application.post_all(posts, plan.posts))
                tasks.create_task(Faults(all_, watchers).happen(plan))
            all_.calm_down()
            await _come_to_rest(all_, settings)
        await asyncio.gather(*(process.end() for process in all_.processes))
        observed = Observed(await _evidence(all_, settings), fail_overs=await _fail_overs(all_))
    observed.faults = Counter(moment.fault for moment in plan.moments)
    _note_relays(observed, all_)
    observed.posts, observed.controls = all_.application.tries, all_.application.people.done
    recoveries = all_.recoveries
    observed.past_journal, observed.kills_unseen = recoveries.past_journal, recoveries.kills_unseen
    observed.out, observed.barred = recoveries.out, recoveries.barred
    observed.longest_stop_s = max(worker.longest_stop_s for worker in all_.workers)
    observed.took_s = time.monotonic() - began
    return observed


def _note_relays(observed: Observed, all_: Cast) -> None:
    for sink in all_.sinks:
        observed.moods += sink.moods.had
        observed.mails[sink.name] = sink.mails
        observed.unanswered += sink.unanswered
    observed.openings, observed.slowest = all_.breakers.openings, all_.breakers.slowest


async def _come_to_rest(all_: Cast, settings: Settings) -> None:
    """Until no queue has a job, or the time is over: then the evidence shows what is left."""
    deadline = time.monotonic() + REST_WITHIN_S + (RESEND_S if settings.resend else 0) + 3 * settings.lease_s
    while time.monotonic() < deadline:
        if not await _open_jobs(all_):
            return
        await asyncio.sleep(0.2)


async def _open_jobs(all_: Cast) -> int:
    names = (*queue.QUEUES.values(), queue.QUARANTINE)
    return sum([await command(all_.redis, "ZCARD", name) for name in names])


async def _evidence(all_: Cast, settings: Settings) -> Evidence:
    accepted = all_.application.accepted
    job_ids = list(accepted)
    jobs: dict[str, Job | None] = {}
    for first in range(0, len(job_ids), READ_AT_ONCE):
        jobs |= await _records(all_, job_ids[first : first + READ_AT_ONCE])
    found = {name async for name in all_.redis.scan_iter(match=keys.job("*"), count=READ_AT_ONCE)}
    return Evidence(
        accepted=accepted,
        jobs=jobs,
        records=len(found),
        copies=[copy for sink in all_.sinks for copy in sink.copies],
        lease_s=settings.lease_s,
        waits=all_.recoveries.waits,
        deaths=[str(death) for process in all_.processes for death in process.deaths],
        leaks=await leaks(all_.redis),
        surprises=all_.application.surprises + all_.application.people.surprises,
    )


async def _records(all_: Cast, job_ids: Sequence[str]) -> dict[str, Job | None]:
    pipe = all_.redis.pipeline(transaction=False)
    for job_id in job_ids:
        pipe.hgetall(keys.job(job_id))
    raw = await answered(all_.redis, pipe.execute(), 10.0)
    return {
        job_id: records.decode_record(job_id, record) if record else None
        for job_id, record in zip(job_ids, raw, strict=True)
    }


async def _fail_overs(all_: Cast) -> Counter[str]:
    found: Counter[str] = Counter()
    job_ids = list(all_.application.accepted)
    for first in range(0, len(job_ids), READ_AT_ONCE):
        pipe = all_.redis.pipeline(transaction=False)
        for job_id in job_ids[first : first + READ_AT_ONCE]:
            pipe.lrange(keys.attempts(job_id), 0, -1)
        for raws in await answered(all_.redis, pipe.execute(), 10.0):
            attempts = [records.decode_attempt(raw) for raw in raws]
            found.update(attempt.phase for attempt in attempts if attempt.outcome == "failed_over")
    return found


@contextlib.contextmanager
def _telling(all_: Cast, settings: Settings) -> Iterator[None]:
    """A line of progress every few seconds."""
    began = time.monotonic()

    async def tell() -> None:
        while True:
            await asyncio.sleep(TOLD_EVERY_S)
            try:
                left: int | str = await _open_jobs(all_)
            except QueueUnavailable:
                left = "?"
            accepted, copies = len(all_.application.accepted), sum(len(sink.copies) for sink in all_.sinks)
            text = f"{time.monotonic() - began:4.0f} s  accepted {accepted} of {settings.jobs}, copies {copies}"
            sys.stderr.write(f"{text}, unfinished {left}\n")

    task = asyncio.create_task(tell())
    try:
        yield
    finally:
        task.cancel()
