"""One job's life at the worker, as named steps from top to bottom."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog

from mailer.addresses import Address
from mailer.catalogue import TemplateLibrary
from mailer.compose import Message, compose
from mailer.errors import (
    AddressError,
    HeaderError,
    PostroomError,
    RenderingError,
    SourceMissing,
    SourceUnavailable,
    TemplateError,
    TemplateUnavailable,
    UnknownTemplate,
)
from mailer.jobs import FINAL, OPEN_RECIPIENT, Field, Job, Payload, Phase, Reason, Recipient, Reply, distinct
from mailer.rendering import Rendered, is_wanted, render, render_recipients, render_reply_to
from mailer.store.jobs import Ending, JobStore
from mailer.templates import Template
from worker.fetch import Fetcher
from worker.outcomes import Deferred, Expired, Failed, HandedOver, Outcome, Skipped, Timing, conclude
from worker.relays.pool import Pool
from worker.relays.replies import status_after
from worker.relays.timeouts import Timeouts
from worker.relays.transaction import Envelope, Lost
from worker.settings import WorkerProcessSettings

log = structlog.get_logger()

PREPARING_S = 60.0
"""More than fetching (a deadline of its own) and rendering (the same, for each part) can take."""
LONGEST_ATTEMPT_S = PREPARING_S + Timeouts().before_content_s + Timeouts().content_s
"""With the time to record its end, it is shorter than arq's job_timeout, whose end would be final."""

MISSING_GRACE_MS = 60_000
"""A 404 within this time of the job's due time is taken for a source behind its own event."""
MISSING_AGAIN_S = 10.0
EARLY_MS = 50
LOOK_AGAIN_S = 1.0
LARGE_CHARS = 100_000
"""Composing more than this would hold up the loop for over ten milliseconds."""
HTTP_GONE = 410


@dataclass(frozen=True, slots=True)
class Deps:
    """What a delivery needs beside the store."""

    templates: TemplateLibrary
    fetcher: Fetcher
    pool: Pool
    settings: WorkerProcessSettings
    default_from: Address | None
    random: Callable[[], float]
    monotonic: Callable[[], float] = time.monotonic


class Clock:
    """The queue server's time, carried on from one reading by the monotonic clock."""

    def __init__(self, server_time: int, monotonic: Callable[[], float]) -> None:
        self._server_time = server_time
        self._monotonic = monotonic
        self._read_at = monotonic()

    def now(self) -> int:
        return self._server_time + int((self._monotonic() - self._read_at) * 1000)


@dataclass(frozen=True, slots=True)
class Mail:
    """Composed, and ready to be handed over."""

    envelope: Envelope
    recipients: tuple[Recipient, ...]


async def deliver(job_id: str, store: JobStore, deps: Deps) -> float | None:
    """Run a job once. The seconds to wait before it runs again; None at its end."""
    loaded = await store.load(job_id)
    if loaded is None or loaded.job.status in FINAL:
        return None
    job, clock = loaded.job, Clock(loaded.server_time, deps.monotonic)
    early_ms = (job.next_attempt_at or job.due_at) - clock.now()
    if early_ms > EARLY_MS:
        return early_ms / 1000
    began_at = clock.now()
    outcome = await _guarded(job, loaded.payload, deps, clock)
    timing = Timing(began_at, clock.now())
    ending = conclude(job, outcome, timing, deps.settings.backoff_of(job.stream), deps.random)
    if not await store.finish(job, ending):
        log.warning("job.run_elsewhere", status=ending.status)
        return await _wait_of_the_other_run(job_id, store)
    _report(job, ending)
    if ending.next_attempt_at is None:
        return None
    return max(0.001, (ending.next_attempt_at - clock.now()) / 1000)


async def _wait_of_the_other_run(job_id: str, store: JobStore) -> float | None:
    """Two runs of one job ended; the other was first. If it deferred the job, its queue entry has to stay.

    A short wait, for arq adds it to that of the other run; the next run looks at the record and waits for the rest.
    """
    loaded = await store.load(job_id)
    return None if loaded is None or loaded.job.status in FINAL else LOOK_AGAIN_S


async def _guarded(job: Job, payload: Payload | None, deps: Deps, clock: Clock) -> Outcome:
    if payload is None:
        return Failed(Reason.INTERNAL, "Its content is no longer there.")
    try:
        return await attempt(job, payload, deps, clock)
    except Exception as error:  # a defect ends the job with a reason; arq would drop it without a word
        log.error("job.crashed", exc_info=error)
        return Failed(Reason.INTERNAL, f"A defect of Postroom: {type(error).__name__}. The log has the details.")


async def attempt(job: Job, payload: Payload, deps: Deps, clock: Clock) -> Outcome:
    """Everything from the record to the relay's verdict. Needs no queue server: `send --now` runs it as well."""
    if job.expires_at is not None and clock.now() >= job.expires_at:
        return Expired()
    try:
        template = _template_of(job, deps)
        variables = await _variables(job, payload, template, deps)
        if template is not None and not is_wanted(template, variables):
            return Skipped("Its template's `when` says that there is nothing to send.")
        recipients = _recipients(job, template, variables)
        mail = await _compose(job, payload, template, variables, recipients, deps, clock)
    except PostroomError as error:
        return _without_mail(job, error, clock)
    return await _hand_over(mail, deps)


def _template_of(job: Job, deps: Deps) -> Template | None:
    if job.template is None:
        return None
    template = deps.templates.catalogue(deps.monotonic()).get(job.template)
    if template.version != job.template_version:
        log.info("template.changed", template=template.name, accepted=job.template_version, now=template.version)
    return template


async def _variables(job: Job, payload: Payload, template: Template | None, deps: Deps) -> dict[str, Any]:
    if template is None:
        return {}
    given = {**payload.data, "event": job.event} if job.event else payload.data
    return {**given, **await deps.fetcher.fetch(template, given)}


def _recipients(job: Job, template: Template | None, variables: Mapping[str, Any]) -> tuple[Recipient, ...]:
    """Who the mail is for. What a source names may change until the relay has decided on one of them."""
    recorded = job.recipients
    if recorded is not None:
        settled = any(item.status not in OPEN_RECIPIENT for item in recorded)
        if settled or not job.recipients_from_source:
            return recorded
    if template is None:
        raise RenderingError("The job has no recipients.")
    found = distinct(render_recipients(template, variables))
    if not found:
        raise RenderingError(f"The template {template.name} names no recipients any more.")
    return found


async def _compose(
    job: Job,
    payload: Payload,
    template: Template | None,
    variables: Mapping[str, Any],
    recipients: tuple[Recipient, ...],
    deps: Deps,
    clock: Clock,
) -> Mail:
    sender = payload.sender or (template.manifest.sender if template else None) or deps.default_from
    if sender is None:
        raise RenderingError("There is no From address; set POSTROOM_FROM for the worker as well.")
    if template is not None:
        content = render(template, variables)
    else:
        content = Rendered(payload.subject or "", payload.html, payload.text)
    reply_to = payload.reply_to or (render_reply_to(template, variables) if template else ())
    domain = deps.settings.message_id_domain or sender.email.rpartition("@")[2]
    message = Message(
        job_id=job.id,
        message_id_domain=domain,
        date=datetime.fromtimestamp(clock.now() // 1000, UTC),
        sender=sender,
        to=tuple(item.address for item in recipients if item.field is Field.TO),
        cc=tuple(item.address for item in recipients if item.field is Field.CC),
        reply_to=reply_to,
        subject=content.subject,
        html=content.html,
        text=content.text,
        headers=payload.headers,
    )
    still_open = tuple(item.address for item in recipients if item.status in OPEN_RECIPIENT)
    size = len(content.html or "") + len(content.text or "")
    composed = compose(message) if size < LARGE_CHARS else await asyncio.to_thread(compose, message)
    return Mail(Envelope(deps.settings.return_path or sender, still_open, composed), recipients)


async def _hand_over(mail: Mail, deps: Deps) -> Outcome:
    relay = deps.pool.relay.name
    try:
        verdicts = await deps.pool.send(mail.envelope)
    except Lost as lost:
        return Deferred(lost.phase, lost.reply, relay, mail.recipients)
    recipients = tuple(
        replace(item, status=status_after(reply.code), reply=reply)
        if (reply := verdicts.replies.get(item.address.email)) is not None
        else item
        for item in mail.recipients
    )
    return HandedOver(relay, verdicts.phase, verdicts.decisive, recipients)


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
