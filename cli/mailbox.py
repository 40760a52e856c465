"""The mailbox's SMTP server: takes every mail, sends none on.

Recipients `defer+451@...` (any 4xx) and `bounce+550@...` (any 5xx) get that reply at RCPT, to watch what becomes of it.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from mailer.errors import QueueUnavailable
from mailer.store.mailbox import MailboxStore

log = structlog.get_logger()

MAX_MESSAGE_BYTES = 25 * 1024 * 1024
_ON_PURPOSE = re.compile(r"(?:defer\+(?P<defer>4\d\d)|bounce\+(?P<bounce>5\d\d))@", re.IGNORECASE)
# RFC 3463 codes that real servers give with these replies.
_ENHANCED = {
    "421": "4.3.2", "450": "4.2.1", "451": "4.3.0", "452": "4.2.2",
    "550": "5.1.1", "551": "5.1.6", "552": "5.2.2", "553": "5.1.3", "554": "5.7.1",
}  # fmt: skip


def reply_on_purpose(address: str) -> str | None:
    """The reply that an address asks for by its local part; None for one that is simply taken."""
    asked = _ON_PURPOSE.match(address)
    if asked is None:
        return None
    if code := asked["defer"]:
        return f"{code} {_ENHANCED.get(code, '4.0.0')} Deferred on purpose: the address defer+{code} asks for it"
    code = asked["bounce"]
    return f"{code} {_ENHANCED.get(code, '5.0.0')} Refused on purpose: the address bounce+{code} asks for it"


class _Intake:
    """What aiosmtpd calls; the names are its own."""

    def __init__(self, store: MailboxStore) -> None:
        self._store = store

    async def handle_RCPT(  # noqa: N802 - the name of the hook
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, rcpt_options: list[str]
    ) -> str:
        if refusal := reply_on_purpose(address):
            return refusal
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(rcpt_options)
        return "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802 - the name of the hook
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        raw = bytes(envelope.original_content or b"")
        try:
            message_id = await self._store.add(raw, _mailbox(envelope.mail_from), tuple(envelope.rcpt_tos))
        except QueueUnavailable as error:
            log.warning("mailbox.unavailable", detail=str(error))
            return "451 4.3.0 The mailbox cannot keep mail at the moment, try again"
        log.debug("mailbox.captured", message=message_id, size=len(raw))
        return f"250 2.0.0 Captured as {message_id}"


def _mailbox(mail_from: str | None) -> str:
    """The empty reverse path (RFC 5321 4.5.5) is `<>` to aiosmtpd."""
    return "" if mail_from in {None, "<>"} else str(mail_from)


@asynccontextmanager
async def serve_mailbox(store: MailboxStore, host: str, port: int) -> AsyncIterator[asyncio.Server]:
    """Listen in the running loop; at the end, close every session. Raises OSError if the port is taken."""
    loop = asyncio.get_running_loop()
    sessions: set[SMTP] = set()

    class Protocol(SMTP):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            sessions.add(self)
            super().connection_made(transport)

        def connection_lost(self, error: Exception | None) -> None:
            sessions.discard(self)
            super().connection_lost(error)

    def protocol() -> SMTP:
        return Protocol(
            _Intake(store),
            data_size_limit=MAX_MESSAGE_BYTES,
            enable_SMTPUTF8=True,
            decode_data=False,
            hostname="postroom.localhost",
            ident="Postroom mailbox",
            loop=loop,
        )

    server = await loop.create_server(protocol, host, port)
    try:
        yield server
    finally:
        server.close()
        for session in tuple(sessions):
            if session.transport is not None:
                session.transport.close()
        await server.wait_closed()
