"""A template as it would be sent, from its sample and what is given. Nothing is fetched or sent. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mailer.addresses import Address
from mailer.compose import check_header_text
from mailer.errors import HeaderError
from mailer.fields import check_data
from mailer.jobs import Event, Recipient, distinct
from mailer.rendering import Rendered, address_variables, render, render_recipients, render_reply_to
from mailer.templates import Template
from mailer.turns import at_once


@dataclass(frozen=True, slots=True)
class Preview:
    content: Rendered
    recipients: tuple[Recipient, ...]
    reply_to: tuple[Address, ...]


def preview(template: Template, given: Mapping[str, Any]) -> Preview:
    """Raises InvalidSubmission, RenderingError or HeaderError, as a submission and its sending would. Bad addresses of
    the sample are left out: the rest can be looked at."""
    sources = frozenset(template.sources)
    data = check_data(template.name, template.fields, sources, {**template.sample, **given}, strict=True)
    event = Event(name=next(iter(template.manifest.events), "sample"), id="sample")
    variables = {**data, "event": event}
    content = at_once(render(template, variables))
    check_header_text("the subject", content.subject)
    try:
        recipients, reply_to = render_recipients(template, variables), render_reply_to(template, variables)
    except HeaderError:
        if not address_variables(template).isdisjoint(given):
            raise
        recipients, reply_to = (), ()
    return Preview(content, distinct(recipients), reply_to)
