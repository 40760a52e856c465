"""One mail on one open connection: MAIL, RCPT, DATA (RFC 5321 3.3), each recipient's reply kept apart."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass

from aiosmtplib import SMTP, SMTPException

from mailer.addresses import Address
from mailer.jobs import Phase, RecipientStatus, Reply
from worker.relays.replies import reply_of, status_after
from worker.relays.timeouts import Timeouts

GO_AHEAD = 354
_LEADING_DOT = re.compile(rb"^\.", re.MULTILINE)
"""RFC 5321 4.5.2: a line that begins with a dot gets a second one."""


@dataclass(frozen=True, slots=True)
class Envelope:
    sender: Address
    recipients: tuple[Address, ...]
    content: bytes

    @property
    def needs_smtputf8(self) -> bool:
        return any(address.needs_smtputf8 for address in (self.sender, *self.recipients)) or not self.content.isascii()


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The relay's replies: `decisive` tells how it ended and where; `replies` has one for each recipient's email."""

    phase: Phase
    decisive: Reply
    replies: Mapping[str, Reply]
    clean: bool
    """The connection can take another mail as it is."""


class Lost(Exception):
    """The conversation broke off in `phase`; `code` is the relay's, where it said something."""

    def __init__(self, phase: Phase, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.phase = phase
        self.reply = reply_of(code, text)


async def transact(client: SMTP, envelope: Envelope, timeouts: Timeouts, before_content: asyncio.Timeout) -> Verdicts:
    """Hand over one mail. Raises Lost when the connection breaks; a refusal is a value.

    `before_content` is the caller's deadline; it is lifted where the content begins, which has its own.
    """
    options: tuple[bytes, ...] = ()
    if envelope.needs_smtputf8:
        if not client.supports_extension("smtputf8"):
            reply = Reply(553, "An address needs SMTPUTF8, which this relay does not offer.", "5.6.7")
            return _all(Phase.MAIL, reply, envelope, clean=True)
        options = (b"BODY=8BITMIME", b"SMTPUTF8")
    mail = await _command(client, timeouts.command_s, Phase.MAIL, b"MAIL", b"FROM:" + _path(envelope.sender), *options)
    if not _accepted(mail):
        return _all(Phase.MAIL, mail, envelope, clean=await _reset(client, timeouts))
    replies = {
        address.email: await _command(client, timeouts.command_s, Phase.RCPT, b"RCPT", b"TO:" + _path(address))
        for address in envelope.recipients
    }
    refusals = [reply for reply in replies.values() if not _accepted(reply)]
    if len(refusals) == len(replies):
        return Verdicts(Phase.RCPT, refusals[0], replies, clean=await _reset(client, timeouts))
    data = await _data(client, envelope.content, timeouts, before_content)
    replies = {email: data if _accepted(reply) else reply for email, reply in replies.items()}
    clean = _accepted(data) or await _reset(client, timeouts)
    if refusals and _accepted(data):
        return Verdicts(Phase.RCPT, refusals[0], replies, clean)
    return Verdicts(Phase.DATA, data, replies, clean)


def _path(address: Address) -> bytes:
    return f"<{address.email}>".encode()


def _accepted(reply: Reply) -> bool:
    return reply.code is not None and reply.code // 100 == 2  # noqa: PLR2004 - RFC 5321 4.2.1: 2yz


def _all(phase: Phase, reply: Reply, envelope: Envelope, *, clean: bool) -> Verdicts:
    return Verdicts(phase, reply, {address.email: reply for address in envelope.recipients}, clean)


async def _command(client: SMTP, timeout_s: float, phase: Phase, *words: bytes) -> Reply:
    try:
        response = await client.execute_command(*words, timeout=timeout_s)
    except (SMTPException, OSError) as error:
        raise Lost(phase, str(error) or type(error).__name__) from error
    return reply_of(response.code, response.message)


async def _data(client: SMTP, content: bytes, timeouts: Timeouts, before_content: asyncio.Timeout) -> Reply:
    go_ahead = await _command(client, timeouts.command_s, Phase.DATA, b"DATA")
    if go_ahead.code != GO_AHEAD:
        if status_after(go_ahead.code) is RecipientStatus.SENT:
            raise Lost(Phase.DATA, f"Out of step: DATA was answered with {go_ahead.code} {go_ahead.text}")
        return go_ahead
    protocol = client.protocol
    if protocol is None:
        raise Lost(Phase.DATA, "The connection was lost before the content.")
    before_content.reschedule(None)
    try:
        protocol.write(_LEADING_DOT.sub(b"..", content) + b".\r\n")
        response = await protocol.read_response(timeout=timeouts.content_s)
    except (SMTPException, OSError) as error:
        raise Lost(Phase.DATA, str(error) or type(error).__name__) from error
    return reply_of(response.code, response.message)


async def _reset(client: SMTP, timeouts: Timeouts) -> bool:
    """After a refusal. Whether it worked never changes the outcome, only whether the connection is used again."""
    try:
        response = await client.execute_command(b"RSET", timeout=timeouts.reset_s)
    except (SMTPException, OSError):
        return False
    return response.code == 250  # noqa: PLR2004 - RFC 5321 4.1.1.5
