"""A template and its variables become a mail's subject, html, text and recipients."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mailer.addresses import Address, make_address
from mailer.jobs import Field, Recipient
from mailer.sandbox import is_true, render_part, rendered
from mailer.templates import RecipientParts, Template
from mailer.turns import Steps

MAX_RECIPIENTS = 50


@dataclass(frozen=True, slots=True)
class Rendered:
    """One mail's content. At least one of html and text is there."""

    subject: str
    html: str | None
    text: str | None
    preheader: str = ""


def render(template: Template, variables: Mapping[str, Any]) -> Steps[Rendered]:
    """Raises RenderingError, which is final: the same data would fail again."""
    subject = render_subject(template, variables)
    preheader = render_part(template.preheader.code, variables)
    everything = {**variables, "mail": {"subject": subject, "preheader": preheader}}
    return Rendered(
        subject=subject,
        html=(yield from rendered(template.html.code, everything)) if template.html else None,
        text=(yield from rendered(template.text.code, everything)) if template.text else None,
        preheader=preheader,
    )


def render_subject(template: Template, variables: Mapping[str, Any]) -> str:
    return render_part(template.subject.code, variables).strip()


def is_wanted(template: Template, variables: Mapping[str, Any]) -> bool:
    """What the manifest's `when` says: is there a mail to send at all?"""
    return template.when is None or is_true(render_part(template.when.code, variables))


def render_recipients(template: Template, variables: Mapping[str, Any]) -> tuple[Recipient, ...]:
    """The recipients that the manifest names. Raises AddressError for a value that is not exactly one address."""
    groups = ((Field.TO, template.to), (Field.CC, template.cc), (Field.BCC, template.bcc))
    return tuple(Recipient(_address(parts, variables), field) for field, group in groups for parts in group)


def render_reply_to(template: Template, variables: Mapping[str, Any]) -> tuple[Address, ...]:
    return tuple(_address(parts, variables) for parts in template.reply_to)


def recipient_variables(template: Template) -> frozenset[str]:
    """What must be known before render_recipients can be called."""
    return _variables_of((*template.to, *template.cc, *template.bcc))


def address_variables(template: Template) -> frozenset[str]:
    """What the addresses are made of that the manifest names, reply_to included."""
    return recipient_variables(template) | _variables_of(template.reply_to)


def _variables_of(all_parts: tuple[RecipientParts, ...]) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for parts in all_parts:
        found |= parts.email.variables
        found |= parts.name.variables if parts.name else frozenset()
    return found


def _address(parts: RecipientParts, variables: Mapping[str, Any]) -> Address:
    email = render_part(parts.email.code, variables).strip()
    name = render_part(parts.name.code, variables) if parts.name else None
    return make_address(email, name)
