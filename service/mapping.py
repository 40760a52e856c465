"""A submission becomes jobs: a job one, an event one for each template that answers it. Pure but for new ids."""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mailer.addresses import Address
from mailer.catalogue import Catalogue
from mailer.compose import check_header_text
from mailer.errors import HeaderError, HeaderInjection, InvalidSubmission, RenderingError, VariableMissing
from mailer.fields import check_data
from mailer.jobs import Event, Field, NewJob, Payload, Recipient, distinct
from mailer.rendering import recipient_variables, render_recipients, render_subject
from mailer.templates import Template
from service.submissions import EventSubmission, JobSubmission

WISHES = ("stream", "send_at", "expires_at", "backoff", "unknown_policy")
CONTROL = frozenset(map(chr, (*range(32), *range(127, 160), 0x2028, 0x2029)))


def job_from(submission: JobSubmission, catalogue: Catalogue, default_from: Address | None) -> NewJob:
    """Raises InvalidSubmission and its kind, naming the field."""
    if submission.template is None:
        return _inline_job(submission, default_from)
    template = catalogue.get(submission.template)
    _require_from(submission.sender or template.manifest.sender or default_from)
    if template.uses_event:
        raise InvalidSubmission.at("/template", f"{template.name} uses `event`, so only an event can cause it")
    own = _recipients(submission)
    if own is not None and not own:
        raise _no_recipients()
    if own is None and not (template.to or template.cc or template.bcc):
        raise InvalidSubmission.at("/to", f"The template {template.name} names no recipients: give `to`")
    return _as_wished(_templated_job(template, submission.data, event=None, own=own, submission=submission), submission)


def jobs_from(
    submission: EventSubmission, catalogue: Catalogue, default_from: Address | None
) -> tuple[Event, tuple[NewJob, ...]]:
    """The event, and a job for each template that answers it; all of them or an error."""
    event = Event(
        name=submission.event,
        id=submission.id or new_id(),
        source=submission.source,
        subject=submission.subject,
        time=submission.time,
    )
    jobs = []
    for template in catalogue.answering(submission.event):
        _require_from(template.manifest.sender or default_from)
        if not (template.to or template.cc or template.bcc):
            raise InvalidSubmission.at("/event", f"The template {template.name} answers it, but names no recipients")
        jobs.append(_templated_job(template, submission.data, event=event))
    return event, tuple(jobs)


def new_id() -> str:
    return secrets.token_hex(16)


def _inline_job(submission: JobSubmission, default_from: Address | None) -> NewJob:
    _require_from(submission.sender or default_from)
    recipients = _recipients(submission)
    if not recipients:
        raise _no_recipients()
    payload = Payload(
        subject=submission.subject,
        html=submission.html,
        text=submission.text,
        sender=submission.sender,
        reply_to=tuple(submission.reply_to),
        headers=tuple(submission.headers.items()),
    )
    return _as_wished(NewJob(id=new_id(), payload=payload, recipients=recipients), submission)


def _as_wished(job: NewJob, submission: JobSubmission) -> NewJob:
    """What a job says of its own way takes the place of its template's."""
    wishes = {name: wish for name in WISHES if (wish := getattr(submission, name)) is not None}
    return replace(job, **wishes) if wishes else job


def _templated_job(
    template: Template,
    given: Mapping[str, Any],
    *,
    event: Event | None,
    own: tuple[Recipient, ...] | None = None,
    submission: JobSubmission | None = None,
) -> NewJob:
    data = check_data(template.name, template.fields, frozenset(template.sources), given, strict=event is None)
    variables = {**data, "event": event} if event else data
    recipients = own if own is not None else _known_recipients(template, variables)
    _check_subject(template, variables)
    return NewJob(
        id=new_id(),
        payload=Payload(
            data=data,
            sender=submission.sender if submission else None,
            reply_to=tuple(submission.reply_to) if submission else (),
            headers=tuple(submission.headers.items()) if submission else (),
        ),
        stream=template.manifest.stream,
        template=template.name,
        template_version=template.version,
        event=event,
        recipients=recipients,
        delay_ms=template.manifest.delay,
        expires_in_ms=template.manifest.expires_after,
        backoff=template.manifest.backoff,
        unknown_policy=template.manifest.unknown_policy,
    )


def _recipients(submission: JobSubmission) -> tuple[Recipient, ...] | None:
    if submission.to is None and not (submission.cc or submission.bcc):
        return None
    groups = ((Field.TO, submission.to or []), (Field.CC, submission.cc), (Field.BCC, submission.bcc))
    return distinct(tuple(Recipient(address, field) for field, group in groups for address in group))


def _known_recipients(template: Template, variables: Mapping[str, Any]) -> tuple[Recipient, ...] | None:
    """What the template's recipients are, where the caller's data tells; None while only a source knows."""
    needed = recipient_variables(template)
    if not needed <= variables.keys():
        return None
    try:
        return distinct(render_recipients(template, variables))
    except RenderingError as error:
        raise VariableMissing.at("/data", f"The recipients of {template.name} need more data: {error}") from error
    except HeaderError as error:
        raise bad_header(error, needed, variables) from error


def _check_subject(template: Template, variables: Mapping[str, Any]) -> None:
    """Refuse now what could never be sent: only where the subject needs nothing from a source."""
    if not template.subject.variables <= variables.keys():
        return
    try:
        check_header_text("the subject", render_subject(template, variables))
    except RenderingError as error:
        raise VariableMissing.at("/data", f"The subject of {template.name} needs more data: {error}") from error
    except HeaderError as error:
        raise bad_header(error, template.subject.variables, variables) from error


def bad_header(error: HeaderError, names: frozenset[str], variables: Mapping[str, Any]) -> InvalidSubmission:
    """What is said of a variable whose value cannot stand in a header. `names`: those that may be to blame."""
    kind = HeaderInjection if error.injection else InvalidSubmission
    for name in sorted(names & variables.keys()):
        found = _control_at(variables[name], f"/data/{name}") if error.injection else None
        if found is not None:
            return kind.at(found, str(error))
    only = f"/data/{next(iter(names))}" if len(names) == 1 else "/data"
    return kind.at(only, str(error))


def _control_at(value: object, pointer: str) -> str | None:
    """Pointer of the first string with a control character."""
    if isinstance(value, str):
        return pointer if not CONTROL.isdisjoint(value) else None
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        step = str(name).replace("~", "~0").replace("/", "~1")
        found = _control_at(inner, f"{pointer}/{step}")
        if found is not None:
            return found
    return None


def _require_from(sender: Address | None) -> None:
    if sender is None:
        raise InvalidSubmission.at("/from", "There is no From address: give `from`, or set POSTROOM_FROM")


def _no_recipients() -> InvalidSubmission:
    return InvalidSubmission.at("/to", "There is nobody to write to: give at least one address in `to`")
