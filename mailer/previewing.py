"""A template as it would be sent, from its sample and what is given. Nothing is fetched or sent. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mailer.errors import HeaderError
from mailer.fields import check_data
from mailer.jobs import Event, Recipient
from mailer.rendering import Rendered, render, render_recipients
from mailer.templates import Template


@dataclass(frozen=True, slots=True)
class Preview:
    content: Rendered
    recipients: tuple[Recipient, ...]


def preview(template: Template, given: Mapping[str, Any]) -> Preview:
    """Raises InvalidSubmission or RenderingError as a submission and its sending would."""
    sources = frozenset(template.sources)
    data = check_data(template.name, template.fields, sources, {**template.sample, **given}, strict=True)
    event = Event(name=next(iter(template.manifest.events), "sample"), id="sample")
    variables = {**data, "event": event}
    try:
        recipients = render_recipients(template, variables)
    except HeaderError:
        recipients = ()
    return Preview(render(template, variables), recipients)
