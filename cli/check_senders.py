"""`postroom check` at who sends: From addresses whose mail no relay may have, so that it would wait in vain. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from cli.findings import Finding, broken
from mailer.addresses import Address
from mailer.templates import Template
from worker.relays.relay import Relay

FIX = "Name it, or its domain, in the `senders` of a relay, or correct it."


def barred_default(sender: Address | None, relays: Sequence[Relay]) -> Iterator[Finding]:
    """`sender`: POSTROOM_FROM."""
    if sender is not None and not _is_allowed(sender, relays):
        yield broken("senders", f"No relay may send for {sender.email}, which is POSTROOM_FROM.", FIX)


def barred_templates(templates: Mapping[str, Template], relays: Sequence[Relay]) -> Iterator[Finding]:
    for name, template in templates.items():
        sender = template.manifest.sender
        if sender is not None and not _is_allowed(sender, relays):
            yield broken(name, f"No relay may send for {sender.email}, its `from`.", FIX)


def _is_allowed(sender: Address, relays: Sequence[Relay]) -> bool:
    """As far as is known: where the relays are not understood, that is told."""
    return not relays or any(relay.allows(sender) for relay in relays)
