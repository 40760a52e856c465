"""One job's life at the worker, as named steps from top to bottom."""

import asyncio
import logging

import orjson
import structlog

from mailer.drafting import author_of
from mailer.errors import (
    AddressError,
    HeaderError,
    PostroomError,
    QueueUnavailable,
    RenderingError,
    SourceMissing,
    SourceUnavailable,
    TemplateError,
    TemplateUnavailable,
    UnknownTemplate,
)
from mailer.jobs import CRASHES_TO_POISON, OPEN, Job, Payload, Phase, Reason, Reply
from mailer.rendering import is_wanted
from mailer.store import records
from mailer.store.runs import Ending, FinishVerdict, JournalVerdict
from worker.backoff import schedule_of
from worker.clock import Clock
from worker.conclusion import Timing, conclude
from worker.handover import hand_over, place_of, policy_of, without_takers
from worker.journal import Journal, Withheld
from worker.lease import Lease
from worker.outcomes import Deferred, Expired, Failed, Outcome, Skipped, Unknown
from worker.preparation import (
    Deps,
    Frozen,
    Prepared,
    compose_mail,
    read_variables,
    recipients_of,
    template_of,
)
from worker.relays.answers import Answer, Kind
from worker.relays.attempt import Tried, Waiting
from worker.relays.relay_file import MOST_RELAYS
from worker.relays.replies import decide
from worker.relays.timeouts import Timeouts

log = structlog.get_logger()

PREPARING_S = 60.0
"""More than fetching (a deadline of its own) and rendering (the same, for each part) can take."""
LONGEST_ATTEMPT_S = PREPARING_S + MOST_RELAYS * Timeouts().longest_try_s
"""All the bounds of an attempt together, but for waiting for the queue server."""
MISSING_GRACE_MS = 60_000
"""A 404 within this time of the job's due time is taken for a source behind its own event."""
MISSING_AGAIN_S = 10.0
HTTP_GONE = 410


async def deliver(lease: Lease, deps: Deps) -> None:
    """One run of a job, from its claim to its end or back to its queue.

    Raises RecordTooNew for what a newer version wrote, and QueueUnavailable where the journal could not be written; the
    job has to be given back then.
    """
    claimed = lease.claimed
    if not claimed.record:
        log.error("job.record_gone")
        return await lease.drop()
    job, clock = records.decode_record(claimed.job_id, claimed.record), Clock(claimed.server_time, deps.monotonic)
    if job.status not in OPEN:
        return await lease.drop()
    job = without_takers(job)
    began_at = job.journal.at if job.journal else clock.now()
    try:
        outcome = await _outcome(job, lease, deps, clock)
    except Withheld as withheld:
        log.warning("job.withheld", why=withheld.verdict)
        return await lease.give_back()
    if isinstance(outcome, Waiting):
        if clock.now() < _gives_up_at(job, deps):
            return await _wait(job, outcome, lease, deps, clock)
        outcome = Failed(Reason.NO_USABLE_RELAY, f"Its time for trying is over. {outcome.detail}")
    timing = Timing(began_at, clock.now())
    ending = conclude(job, outcome, timing, deps.settings.backoff_of(job.stream), deps.random)
    verdict = await lease.finish(job, ending)
    if verdict is not FinishVerdict.FINISHED:
        log.warning("job.run_elsewhere", status=ending.status, verdict=verdict)
        return await lease.give_back()
    _report(job, ending)
    return None


async def _wait(job: Job, waiting: Waiting, lease: Lease, deps: Deps, clock: Clock) -> None:
    """Back to the queue until a relay may be had, or its time is over. No attempt was made."""
    now, gives_up_at = clock.now(), _gives_up_at(job, deps)
    ends_at = min(job.expires_at or gives_up_at, gives_up_at)
    log.debug("job.waits_for_relay", detail=waiting.detail)
    delay_ms = max(0, min(deps.lookout.next_s(waiting.wait_s) * 1000, ends_at - now))
    await lease.give_back(delay_ms / 1000, waiting.detail)


def _gives_up_at(job: Job, deps: Deps) -> int:
    return job.due_at + int(schedule_of(job, deps.settings.backoff_of(job.stream)).give_up_s * 1000)


async def _outcome(job: Job, lease: Lease, deps: Deps, clock: Clock) -> Outcome | Waiting:
    """What this run makes of the job: what an earlier one left behind comes first."""
    if job.journal is not None:
        lost = _lost(job.journal.relay, "The worker ended before it had recorded the relay's answer.")
        return Unknown((lost,), job.recipients or (), policy_of(job, deps))
    if job.crashes >= CRASHES_TO_POISON:
        return Failed(Reason.POISON, f"The worker died {job.crashes} times while it ran this job.")
    if lease.claimed.payload is None:
        return Failed(Reason.INTERNAL, "Its content is no longer there.")
    try:
        return await _journaled_attempt(job, lease.claimed.payload, lease, deps, clock)
    except Withheld as withheld:
        if withheld.verdict is JournalVerdict.EXPIRED:
            return Expired()
        raise


async def _journaled_attempt(job: Job, payload: bytes, lease: Lease, deps: Deps, clock: Clock) -> Outcome | Waiting:
    """An attempt whose final dot waits for the journal. A defect ends the job with a reason, or in doubt where the dot
    may have been written: trying again would meet it again."""
    journal, frozen = Journal(lease), lease.claimed.frozen
    try:
        fixed = Frozen(job.dated, orjson.loads(frozen) if frozen is not None else None)
        return await attempt(job, await _read(payload), deps, clock, journal, fixed)
    except (Withheld, QueueUnavailable):
        raise
    except Exception as error:  # a defect
        log.error("job.crashed", exc_info=error)
        detail = f"A defect of Postroom: {type(error).__name__}. The log has the details."
        if (entry := journal.newest) is not None:
            return Unknown((_lost(entry.mark.relay, detail),), entry.recipients, policy_of(job, deps))
        return Failed(Reason.INTERNAL, detail)


async def _read(payload: bytes) -> Payload:
    if len(payload) > records.LONG_OCTETS:
        return await asyncio.to_thread(records.decode_payload, payload)
    return records.decode_payload(payload)


def _lost(relay: str, why: str) -> Tried:
    answer = Answer(Phase.DOT, Kind.DROPPED, Reply(None, why))
    return Tried(answer.phase, answer.reply, relay, row=decide(answer).row)


async def attempt(
    job: Job, payload: Payload, deps: Deps, clock: Clock, journal: Journal, frozen: Frozen
) -> Outcome | Waiting:
    """Everything from the record to the relay's verdict. Needs no queue server: `send --now` runs it as well."""
    if job.expires_at is not None and clock.now() >= job.expires_at:
        return Expired()
    try:
        template = template_of(job, deps)
        author = author_of(payload, template, deps.default_from)
        if (obstacle := deps.router.obstacle(place_of(job), author)) is not None:
            return obstacle
        given, fetched = await read_variables(job, payload, template, deps, frozen)
        variables = {**given, **fetched}
        if template is not None and not is_wanted(template, variables):
            return Skipped("Its template's `when` says that there is nothing to send.")
        recipients = recipients_of(job, template, variables)
        dated = frozen.dated or clock.now()
        prepared = Prepared(template, variables, fetched, recipients, dated)
        mail = await compose_mail(job, payload, prepared, deps)
    except PostroomError as error:
        return _without_mail(job, error, clock)
    return await hand_over(job, mail, deps, clock, journal)


def _without_mail(job: Job, error: PostroomError, clock: Clock) -> Outcome:
    """What the errors before the relay mean for the job."""
    match error:
        case SourceMissing():
            return _missing(job, error, clock)
        case SourceUnavailable():
            return Deferred(Tried(Phase.FETCH, Reply(error.code, str(error))))
        case AddressError():
            return Failed(Reason.INVALID_RECIPIENT, str(error))
        case RenderingError() | HeaderError():
            return Failed(Reason.RENDERING, str(error))
        case UnknownTemplate() | TemplateUnavailable() | TemplateError():
            # A worker with older files, or somebody is editing: the mail waits for the folder.
            return Deferred(Tried(Phase.FETCH, Reply(None, str(error))))
        case _:
            raise error


def _missing(job: Job, error: SourceMissing, clock: Clock) -> Outcome:
    reply = Reply(error.code, str(error))
    if error.code != HTTP_GONE and clock.now() - job.due_at < MISSING_GRACE_MS:
        return Deferred(Tried(Phase.FETCH, reply), at_most_s=MISSING_AGAIN_S)
    if error.on_missing == "skip":
        return Skipped(str(error))
    return Failed(Reason.MISSING_DATA, str(error), Tried(Phase.FETCH, reply))


def _report(job: Job, ending: Ending) -> None:
    if not log.is_enabled_for(logging.INFO):
        return
    fields: dict[str, object] = {
        "template": job.template,
        "stream": job.stream,
        "reason": ending.reason,
        "next_attempt_at": ending.next_attempt_at,
    }
    if ending.attempts:
        last = ending.attempts[-1]
        fields |= {"attempt": last.number, "phase": last.phase, "code": last.reply.code, "relay": last.relay}
        fields["row"] = last.row
    log.info(f"job.{ending.status}", **{name: value for name, value in fields.items() if value is not None})
