"""One job's life at the worker, as named steps from top to bottom."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import orjson
import structlog

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
from mailer.jobs import (
    CRASHES_TO_POISON,
    OPEN,
    Job,
    JournalMark,
    Payload,
    Phase,
    Reason,
    Recipient,
    RecipientStatus,
    Reply,
    UnknownPolicy,
)
from mailer.rendering import is_wanted
from mailer.store import records
from mailer.store.runs import Ending, FinishVerdict, JournalEntry, JournalVerdict
from worker.lease import Lease
from worker.outcomes import Deferred, Expired, Failed, HandedOver, Outcome, Skipped, Timing, Unknown, conclude
from worker.preparation import (
    Deps,
    Frozen,
    Mail,
    Prepared,
    compose_mail,
    read_variables,
    recipients_of,
    template_of,
)
from worker.relays.replies import status_after
from worker.relays.timeouts import Timeouts
from worker.relays.transaction import Lost

log = structlog.get_logger()

PREPARING_S = 60.0
"""More than fetching (a deadline of its own) and rendering (the same, for each part) can take."""
LONGEST_ATTEMPT_S = PREPARING_S + Timeouts().before_content_s + Timeouts().content_s + Timeouts().verdict_s
"""All the bounds of an attempt together, but for waiting for the queue server."""

MISSING_GRACE_MS = 60_000
"""A 404 within this time of the job's due time is taken for a source behind its own event."""
MISSING_AGAIN_S = 10.0
HTTP_GONE = 410


class Clock:
    """The queue server's time, carried on from one reading by the monotonic clock."""

    def __init__(self, server_time: int, monotonic: Callable[[], float]) -> None:
        self._server_time = server_time
        self._monotonic = monotonic
        self._read_at = monotonic()

    def now(self) -> int:
        return self._server_time + int((self._monotonic() - self._read_at) * 1000)


class Withheld(Exception):
    """The journal says that the final dot must not be written."""

    def __init__(self, verdict: JournalVerdict) -> None:
        super().__init__(verdict)
        self.verdict = verdict


Journal = Callable[[JournalMark, Prepared, tuple[Recipient, ...]], Awaitable[None]]
"""Called before the final dot, with what must be the same in any later copy. Raises Withheld."""


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
    began_at = job.journal.at if job.journal else clock.now()
    try:
        outcome = await _outcome(job, lease, deps, clock)
    except Withheld as withheld:
        log.warning("job.withheld", why=withheld.verdict)
        return await lease.give_back()
    timing = Timing(began_at, clock.now())
    ending = conclude(job, outcome, timing, deps.settings.backoff_of(job.stream), deps.random)
    verdict = await lease.finish(job, ending)
    if verdict is not FinishVerdict.FINISHED:
        log.warning("job.run_elsewhere", status=ending.status, verdict=verdict)
        return await lease.give_back()
    _report(job, ending)
    return None


async def _outcome(job: Job, lease: Lease, deps: Deps, clock: Clock) -> Outcome:
    """What this run makes of the job: what an earlier one left behind comes first."""
    if job.journal is not None:
        reply = Reply(None, "The worker ended before it had recorded the relay's answer.")
        return Unknown(job.journal.relay, reply, job.recipients or (), policy_of(job, deps))
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


async def _journaled_attempt(job: Job, payload: bytes, lease: Lease, deps: Deps, clock: Clock) -> Outcome:
    """An attempt whose final dot waits for the journal. A defect ends the job with a reason, or in doubt where the dot
    may have been written: trying again would meet it again."""
    journaled: list[JournalEntry] = []

    async def journal(mark: JournalMark, prepared: Prepared, recipients: tuple[Recipient, ...]) -> None:
        fetched = orjson.dumps(prepared.fetched) if prepared.fetched else b""
        entry = JournalEntry(lease.held, mark, recipients, prepared.dated, fetched)
        verdict = await lease.journal(entry)
        if verdict is not JournalVerdict.GO:
            raise Withheld(verdict)
        journaled.append(entry)

    frozen = lease.claimed.frozen
    try:
        fixed = Frozen(job.dated, orjson.loads(frozen) if frozen is not None else None)
        return await attempt(job, records.decode_payload(payload), deps, clock, journal, fixed)
    except (Withheld, QueueUnavailable):
        raise
    except Exception as error:  # a defect
        log.error("job.crashed", exc_info=error)
        detail = f"A defect of Postroom: {type(error).__name__}. The log has the details."
        if journaled:
            entry = journaled[-1]
            return Unknown(entry.mark.relay, Reply(None, detail), entry.recipients, policy_of(job, deps))
        return Failed(Reason.INTERNAL, detail)


async def attempt(job: Job, payload: Payload, deps: Deps, clock: Clock, journal: Journal, frozen: Frozen) -> Outcome:
    """Everything from the record to the relay's verdict. Needs no queue server: `send --now` runs it as well."""
    if job.expires_at is not None and clock.now() >= job.expires_at:
        return Expired()
    try:
        template = template_of(job, deps)
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
    return await _hand_over(job, mail, deps, clock, journal)


async def _hand_over(job: Job, mail: Mail, deps: Deps, clock: Clock, journal: Journal) -> Outcome:
    relay, recipients = deps.pool.relay.name, mail.prepared.recipients
    journaled = recipients

    async def before_the_dot(replies: Mapping[str, Reply]) -> None:
        nonlocal journaled
        journaled = tuple(_journaled(item, replies.get(item.address.email)) for item in recipients)
        await journal(JournalMark(relay, job.attempts + 1, clock.now()), mail.prepared, journaled)

    try:
        verdicts = await deps.pool.send(mail.envelope, before_the_dot)
    except Lost as lost:
        if lost.phase is Phase.DOT:
            return Unknown(relay, lost.reply, journaled, policy_of(job, deps))
        return Deferred(lost.phase, lost.reply, relay, recipients)
    answered = tuple(
        replace(item, status=status_after(reply.code), reply=reply)
        if (reply := verdicts.replies.get(item.address.email)) is not None
        else item
        for item in recipients
    )
    return HandedOver(relay, verdicts.phase, verdicts.decisive, answered)


def _journaled(recipient: Recipient, reply: Reply | None) -> Recipient:
    """As the journal has it: a recipient that was refused is, and one that was not waits for the answer to the dot."""
    if reply is None:
        return recipient
    status = status_after(reply.code)
    return replace(recipient, status=RecipientStatus.PENDING if status is RecipientStatus.SENT else status, reply=reply)


def policy_of(job: Job, deps: Deps) -> UnknownPolicy:
    """The template's, else the stream's."""
    return job.unknown_policy or deps.settings.policy_of(job.stream)


def _without_mail(job: Job, error: PostroomError, clock: Clock) -> Outcome:
    """What the errors before the relay mean for the job."""
    match error:
        case SourceMissing():
            return _missing(job, error, clock)
        case SourceUnavailable():
            return Deferred(Phase.FETCH, Reply(error.code, str(error)))
        case AddressError():
            return Failed(Reason.INVALID_RECIPIENT, str(error))
        case RenderingError() | HeaderError():
            return Failed(Reason.RENDERING, str(error))
        case UnknownTemplate() | TemplateUnavailable() | TemplateError():
            # A worker with older files, or somebody is editing: the mail waits for the folder.
            return Deferred(Phase.FETCH, Reply(None, str(error)))
        case _:
            raise error


def _missing(job: Job, error: SourceMissing, clock: Clock) -> Outcome:
    reply = Reply(error.code, str(error))
    if error.code != HTTP_GONE and clock.now() - job.due_at < MISSING_GRACE_MS:
        return Deferred(Phase.FETCH, reply, at_most_s=MISSING_AGAIN_S)
    if error.on_missing == "skip":
        return Skipped(str(error))
    return Failed(Reason.MISSING_DATA, str(error), Phase.FETCH, reply)


def _report(job: Job, ending: Ending) -> None:
    fields: dict[str, object] = {
        "template": job.template,
        "stream": job.stream,
        "reason": ending.reason,
        "next_attempt_at": ending.next_attempt_at,
    }
    if ending.attempt is not None:
        last = ending.attempt
        fields |= {"attempt": last.number, "phase": last.phase, "code": last.reply.code, "relay": last.relay}
    log.info(f"job.{ending.status}", **{name: value for name, value in fields.items() if value is not None})
