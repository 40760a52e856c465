"""From what a job and its template say to the message: the same for the worker that sends it and a dry run. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mailer.addresses import Address
from mailer.compose import Message
from mailer.errors import RenderingError
from mailer.jobs import Field, Payload, Recipient
from mailer.rendering import Rendered, render, render_reply_to
from mailer.templates import Template
from mailer.turns import Steps

LARGE_CHARS = 100_000
"""Composing more than this would hold up a loop for over ten milliseconds."""


def author_of(payload: Payload, template: Template | None, default_from: Address | None) -> Address:
    """The mail's From."""
    author = payload.sender or (template.manifest.sender if template else None) or default_from
    if author is None:
        raise RenderingError("There is no From address; set POSTROOM_FROM for the worker as well.")
    return author


def draft(
    job_id: str,
    payload: Payload,
    template: Template | None,
    variables: Mapping[str, Any],
    recipients: tuple[Recipient, ...],
    *,
    author: Address,
    dated: int,
    message_id_domain: str | None,
) -> Steps[Message]:
    """All of it rendered. `dated`: ms; `message_id_domain`: None, the author's. Raises RenderingError, HeaderError."""
    if template is not None:
        content = yield from render(template, variables)
    else:
        content = Rendered(payload.subject or "", payload.html, payload.text)
    return Message(
        job_id=job_id,
        message_id_domain=message_id_domain or author.email.rpartition("@")[2],
        date=datetime.fromtimestamp(dated // 1000, UTC),
        sender=author,
        to=tuple(item.address for item in recipients if item.field is Field.TO),
        cc=tuple(item.address for item in recipients if item.field is Field.CC),
        reply_to=payload.reply_to or (render_reply_to(template, variables) if template else ()),
        subject=content.subject,
        html=content.html,
        text=content.text,
        headers=payload.headers,
    )


def is_large(message: Message) -> bool:
    return len(message.html or "") + len(message.text or "") >= LARGE_CHARS
