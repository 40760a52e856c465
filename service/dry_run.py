"""What would be sent for a submission, without recording it or asking anybody."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import structlog

from mailer.addresses import Address
from mailer.catalogue import Catalogue
from mailer.compose import Message, compose
from mailer.drafting import author_of, draft
from mailer.errors import HeaderError, InvalidSubmission, Overloaded, RenderingError, VariableMissing
from mailer.jobs import NewJob, Recipient, distinct
from mailer.previewing import preview
from mailer.rendering import address_variables, is_wanted, render_recipients
from mailer.templates import Template
from mailer.turns import at_once
from service.intake import Intake, is_scheduled
from service.mapping import bad_header
from service.schemas import AddressOut, DryRun, DryRunJob, DryRunRecipient, RenderedTemplate
from service.views import rfc3339

log = structlog.get_logger()
Result = TypeVar("Result")

AT_ONCE = 4
"""Composing is work for a processor: more at a time would make each of them, and everything else here, slower."""
LONGEST_S = 10.0
"""Of one mail. Each part of it has a bound of its own, but a loop that writes nothing is not seen by that."""
LONGEST_WAIT_S = 5.0
RETRY_AFTER_S = 30


@dataclass(frozen=True, slots=True)
class _Known:
    """What a mail is rendered with; `from_sample`: sources whose values are those of the template's sample."""

    variables: Mapping[str, Any]
    from_sample: tuple[str, ...] = ()


class Rehearsal:
    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def of(self, body: dict[str, Any]) -> DryRun:
        """Raises a Refused as the submission would, and where the mail could not be rendered."""
        _, jobs = self._intake.prepare(body)
        now = time.time_ns() // 1_000_000
        shown = [await self._bounded(job.template, partial(_rehearsed, job, self._intake, now)) for job in jobs]
        return DryRun(jobs=shown)

    async def of_template(self, template: Template, given: Mapping[str, Any]) -> RenderedTemplate:
        """Raises a Refused that names what is wrong in `data`."""
        return await self._bounded(template.name, partial(_rendered, template, given))

    async def _bounded(self, template: str | None, work: Callable[[], Result]) -> Result:
        """In a thread, one of a few. No thread can be stopped: one that does not end keeps its place.

        Raises Overloaded where no place came free, and InvalidSubmission where it took too long.
        """
        try:
            async with asyncio.timeout(LONGEST_WAIT_S):
                await self._slots.acquire()
        except TimeoutError as error:
            detail = f"{AT_ONCE} mails are being rendered, as many as one process does at once. Send it again later."
            raise Overloaded(detail, retry_after_s=RETRY_AFTER_S) from error
        running = asyncio.create_task(asyncio.to_thread(work))
        running.add_done_callback(self._ended)
        done, _ = await asyncio.wait({running}, timeout=LONGEST_S)
        if not done:
            log.error("dry_run.does_not_end", template=template)
            detail = f"{template or 'The mail'} was not rendered within {LONGEST_S:g} s"
            raise InvalidSubmission.at("/data", detail)
        return running.result()

    def _ended(self, running: asyncio.Task[Any]) -> None:
        self._slots.release()
        if not running.cancelled():
            running.exception()  # seen, though nobody may be there to be told any more


def _rehearsed(job: NewJob, intake: Intake, now: int) -> DryRunJob:
    template = _template_of(job, intake.templates.catalogue(intake.monotonic()))
    known = _known(job, template)
    shown = _shown(job, known, now)
    try:
        if template is not None and not is_wanted(template, known.variables):
            return shown.model_copy(update={"status": "skipped"})
        recipients = job.recipients if job.recipients is not None else _recipients(template, known)
        drafted = draft(
            job.id,
            job.payload,
            template,
            known.variables,
            recipients,
            author=author_of(job.payload, template, intake.default_from),
            dated=_due_at(job, now),
            message_id_domain=None,
        )
        return shown.model_copy(update=_of(at_once(drafted), recipients))
    except RenderingError as error:
        raise VariableMissing.at("/data", str(error)) from error
    except HeaderError as error:
        raise bad_header(error, _in_headers(template), known.variables) from error


def _rendered(template: Template, given: Mapping[str, Any]) -> RenderedTemplate:
    try:
        shown = preview(template, given)
    except RenderingError as error:
        raise VariableMissing.at("/data", str(error)) from error
    except HeaderError as error:
        raise bad_header(error, _in_headers(template) & given.keys(), given) from error
    return RenderedTemplate(
        template=template.name,
        template_version=template.version,
        recipients=_all(shown.recipients),
        reply_to=[_address(address) for address in shown.reply_to],
        subject=shown.content.subject,
        preheader=shown.content.preheader,
        html=shown.content.html,
        text=shown.content.text,
    )


def _in_headers(template: Template | None) -> frozenset[str]:
    """The variables that reach a header."""
    return template.subject.variables | address_variables(template) if template is not None else frozenset()


def _template_of(job: NewJob, catalogue: Catalogue) -> Template | None:
    return catalogue.get(job.template) if job.template is not None else None


def _known(job: NewJob, template: Template | None) -> _Known:
    """Raises VariableMissing that names a source of which neither `data` nor the sample has a value."""
    if template is None:
        return _Known({})
    from_sample = tuple(name for name in template.sources if name not in job.payload.data)
    for name in from_sample:
        if name not in template.sample:
            detail = f"{template.name} fetches {name}: give a value for it here, or in its sample.json"
            raise VariableMissing.at(f"/data/{name}", detail)
    sample = {name: template.sample[name] for name in from_sample}
    event = {"event": job.event} if job.event else {}
    return _Known({**job.payload.data, **sample, **event}, from_sample)


def _recipients(template: Template | None, known: _Known) -> tuple[Recipient, ...]:
    return distinct(render_recipients(template, known.variables)) if template is not None else ()


def _due_at(job: NewJob, now: int) -> int:
    return max(now, job.send_at if job.send_at is not None else now + job.delay_ms)


def _shown(job: NewJob, known: _Known, now: int) -> DryRunJob:
    expires_in = _due_at(job, now) + job.expires_in_ms if job.expires_in_ms is not None else None
    return DryRunJob(
        template=job.template,
        template_version=job.template_version,
        status="scheduled" if is_scheduled(job, now) else "queued",
        stream=job.stream,
        due_at=rfc3339(_due_at(job, now)) or "",
        expires_at=rfc3339(job.expires_at if job.expires_at is not None else expires_in),
        from_sample=list(known.from_sample),
    )


def _of(message: Message, recipients: tuple[Recipient, ...]) -> dict[str, Any]:
    composed = compose(message)
    return {
        "sender": _address(message.sender),
        "reply_to": [_address(address) for address in message.reply_to],
        "recipients": _all(recipients),
        "subject": message.subject,
        "html": message.html,
        "text": message.text,
        "size": len(composed),
        "message": composed.decode(),
    }


def _all(recipients: tuple[Recipient, ...]) -> list[DryRunRecipient]:
    return [DryRunRecipient(email=item.address.email, name=item.address.name, field=item.field) for item in recipients]


def _address(address: Address) -> AddressOut:
    return AddressOut(email=address.email, name=address.name)
