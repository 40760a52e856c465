"""What a mail is made of, from its record to its bytes: template, data, recipients, message."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from mailer.addresses import Address
from mailer.catalogue import TemplateLibrary
from mailer.compose import Message, compose
from mailer.errors import RenderingError
from mailer.jobs import OPEN_RECIPIENT, Field, Job, Payload, Recipient, distinct
from mailer.rendering import Rendered, render, render_recipients, render_reply_to
from mailer.templates import Template
from worker.fetch import Fetcher
from worker.relays.router import Router
from worker.relays.transaction import Envelope
from worker.settings import WorkerProcessSettings

log = structlog.get_logger()

LARGE_CHARS = 100_000
"""Composing more than this would hold up the loop for over ten milliseconds."""


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


def author_of(payload: Payload, template: Template | None, deps: Deps) -> Address:
    """The mail's From."""
    author = payload.sender or (template.manifest.sender if template else None) or deps.default_from
    if author is None:
        raise RenderingError("There is no From address; set POSTROOM_FROM for the worker as well.")
    return author


async def compose_mail(job: Job, payload: Payload, prepared: Prepared, deps: Deps) -> Mail:
    template, variables, recipients = prepared.template, prepared.variables, prepared.recipients
    sender = author_of(payload, template, deps)
    if template is not None:
        content = render(template, variables)
    else:
        content = Rendered(payload.subject or "", payload.html, payload.text)
    message = Message(
        job_id=job.id,
        message_id_domain=deps.settings.message_id_domain or sender.email.rpartition("@")[2],
        date=datetime.fromtimestamp(prepared.dated // 1000, UTC),
        sender=sender,
        to=tuple(item.address for item in recipients if item.field is Field.TO),
        cc=tuple(item.address for item in recipients if item.field is Field.CC),
        reply_to=payload.reply_to or (render_reply_to(template, variables) if template else ()),
        subject=content.subject,
        html=content.html,
        text=content.text,
        headers=payload.headers,
    )
    still_open = tuple(item.address for item in recipients if item.status in OPEN_RECIPIENT)
    size = len(content.html or "") + len(content.text or "")
    composed = compose(message) if size < LARGE_CHARS else await asyncio.to_thread(compose, message)
    return Mail(Envelope(deps.settings.return_path or sender, still_open, composed), sender, prepared)
