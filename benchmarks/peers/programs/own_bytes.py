"""The finished bytes of a mail, written by Postroom's own code: what the fastest of the others are given."""

from datetime import UTC, datetime

from benchmarks.mail import SENDER, TEMPLATE, TEMPLATES, recipient, variables
from mailer.addresses import Address
from mailer.catalogue import load_catalogue
from mailer.compose import Message, compose
from mailer.rendering import render
from mailer.turns import at_once

_TEMPLATE = load_catalogue(TEMPLATES).get(TEMPLATE)
_AUTHOR = Address(SENDER)
_DOMAIN = SENDER.rpartition("@")[2]


def finished(number: int) -> bytes:
    """Rendered in the sandbox and composed, as a worker of Postroom does it."""
    content = at_once(render(_TEMPLATE, variables(number)))
    return compose(
        Message(
            job_id=f"bench{number}",
            message_id_domain=_DOMAIN,
            date=datetime.now(UTC),
            sender=_AUTHOR,
            to=(Address(recipient(number)),),
            subject=content.subject,
            html=content.html,
            text=content.text,
        )
    )
