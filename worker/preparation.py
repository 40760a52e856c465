"""What a mail is made of, from its record to its bytes: template, data, recipients, message."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from mailer.addresses import Address
from mailer.catalogue import TemplateLibrary
from mailer.compose import compose
from mailer.drafting import author_of, draft, is_large
from mailer.errors import RenderingError
from mailer.jobs import OPEN_RECIPIENT, Job, Payload, Recipient, distinct
from mailer.rendering import render_recipients
from mailer.templates import Template
from mailer.turns import Turns
from worker.fetch import Fetcher
from worker.lookout import Lookout
from worker.relays.router import Router
from worker.relays.transaction import Envelope
from worker.settings import WorkerProcessSettings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Deps:
    """What a delivery needs beside the store."""

    templates: TemplateLibrary
    fetcher: Fetcher
    router: Router
    settings: WorkerProcessSettings
    default_from: Address | None
    random: Callable[[], float]
    monotonic: Callable[[], float] = time.monotonic
    lookout: Lookout = field(default_factory=Lookout)
    turns: Turns = field(default_factory=Turns)


@dataclass(frozen=True, slots=True)
class Frozen:
    """What a journaled attempt fixed for all later ones; before the first, nothing."""

    dated: int | None = None
    fetched: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that a mail is made of: what its template is rendered with, and what the journal keeps of it."""

    template: Template | None
    variables: Mapping[str, Any]
    fetched: Mapping[str, Any]
    recipients: tuple[Recipient, ...]
    dated: int


@dataclass(frozen=True, slots=True)
class Mail:
    """Composed, and ready to be handed over."""

    envelope: Envelope
    author: Address
    """Who it is from, whatever its return path."""
    prepared: Prepared


def template_of(job: Job, deps: Deps) -> Template | None:
    if job.template is None:
        return None
    template = deps.templates.catalogue(deps.monotonic()).get(job.template)
    if template.version != job.template_version:
        log.info("template.changed", template=template.name, accepted=job.template_version, now=template.version)
    return template


async def read_variables(
    job: Job, payload: Payload, template: Template | None, deps: Deps, frozen: Frozen
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What came with the job, and what its sources say: now, or when a mail of this job was journaled."""
    if template is None:
        return {}, {}
    given = {**payload.data, "event": job.event} if job.event else payload.data
    if frozen.fetched is not None:
        return given, frozen.fetched
    return given, await deps.fetcher.fetch(template, given)


def recipients_of(job: Job, template: Template | None, variables: Mapping[str, Any]) -> tuple[Recipient, ...]:
    """Who the mail is for. What a source names may change until the relay has decided on one of them, or a
    mail to them was journaled."""
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


async def compose_mail(job: Job, payload: Payload, prepared: Prepared, deps: Deps) -> Mail:
    template, recipients = prepared.template, prepared.recipients
    author = author_of(payload, template, deps.default_from)
    drafted = draft(
        job.id,
        payload,
        template,
        prepared.variables,
        recipients,
        author=author,
        dated=prepared.dated,
        message_id_domain=deps.settings.message_id_domain,
    )
    message = await deps.turns.take(drafted)
    still_open = tuple(item.address for item in recipients if item.status in OPEN_RECIPIENT)
    composed = await asyncio.to_thread(compose, message) if is_large(message) else compose(message)
    return Mail(Envelope(deps.settings.return_path or author, still_open, composed), author, prepared)
