"""One mail on one open connection: MAIL, RCPT, DATA, content, journal, dot (RFC 5321 3.3).

Each recipient's reply is kept apart, and so is where the conversation broke off: before the final dot nothing has
happened, after it the relay may have the mail.
"""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import cast

from aiosmtplib import SMTP, SMTPException, SMTPResponse
from aiosmtplib.protocol import SMTPProtocol

from mailer.addresses import Address
from mailer.jobs import Phase, RecipientStatus, Reply
from worker.relays.replies import reply_of, status_after
from worker.relays.timeouts import Timeouts

GO_AHEAD = 354
ACCEPTED = 2
"""First digit of a positive verdict (RFC 5321 4.2.1)."""
REFUSALS = frozenset({4, 5})
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


Journal = Callable[[Mapping[str, Reply]], Awaitable[None]]
"""Called once the content has drained, with each recipient's reply. It raises where no final dot may be written."""


@dataclass(frozen=True, slots=True)
class _Content:
    """The verdict on the content: on DATA, early (then the connection is out of step), or after the final dot."""

    phase: Phase
    reply: Reply
    in_step: bool


class Lost(Exception):
    """The conversation broke off in `phase`; `code` is the relay's, where it said something. Before the final dot the
    relay discards the mail (RFC 5321 3.3); in Phase.DOT nobody knows."""

    def __init__(self, phase: Phase, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.phase = phase
        self.reply = reply_of(code, text)


async def transact(
    client: SMTP, envelope: Envelope, journal: Journal, timeouts: Timeouts, before_content: asyncio.Timeout
) -> Verdicts:
    """Hand over one mail. Raises Lost when the connection breaks, and what `journal` raises; a refusal is a value.

    `before_content` is the caller's deadline; it is lifted where the content begins, which has its own. After an
    exception the connection has to be aborted.
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
    data = await _data(client, envelope.content, lambda: journal(replies), timeouts, before_content)
    verdicts = {email: data.reply if _accepted(reply) else reply for email, reply in replies.items()}
    accepted = _accepted(data.reply)
    clean = accepted or (data.in_step and await _reset(client, timeouts))
    if refusals and accepted:
        return Verdicts(Phase.RCPT, refusals[0], verdicts, clean)
    return Verdicts(data.phase, data.reply, verdicts, clean)


def _path(address: Address) -> bytes:
    return f"<{address.email}>".encode()


def _accepted(reply: Reply) -> bool:
    return reply.code is not None and reply.code // 100 == ACCEPTED


def _all(phase: Phase, reply: Reply, envelope: Envelope, *, clean: bool) -> Verdicts:
    return Verdicts(phase, reply, {address.email: reply for address in envelope.recipients}, clean)


async def _command(client: SMTP, timeout_s: float, phase: Phase, *words: bytes) -> Reply:
    try:
        response = await client.execute_command(*words, timeout=timeout_s)
    except (SMTPException, OSError) as error:
        raise Lost(phase, str(error) or type(error).__name__) from error
    return reply_of(response.code, response.message)


async def _data(
    client: SMTP,
    content: bytes,
    journal: Callable[[], Awaitable[None]],
    timeouts: Timeouts,
    before_content: asyncio.Timeout,
) -> _Content:
    go_ahead = await _command(client, timeouts.command_s, Phase.DATA, b"DATA")
    if go_ahead.code != GO_AHEAD:
        if status_after(go_ahead.code) is RecipientStatus.SENT:
            raise Lost(Phase.DATA, f"Out of step: DATA was answered with {go_ahead.code} {go_ahead.text}")
        return _Content(Phase.DATA, go_ahead, in_step=True)
    protocol = client.protocol
    if protocol is None:
        raise Lost(Phase.DATA, "The connection was lost before the content.")
    if before_content.expired():  # in the same turn as the go-ahead
        raise Lost(Phase.DATA, "The content was asked for too late.")
    before_content.reschedule(None)
    # Asked for before there is anything to answer: a relay that hangs up or refuses in the middle is heard at once.
    answer = asyncio.create_task(protocol.read_response())
    try:
        await _drained(protocol, _LEADING_DOT.sub(b"..", content), answer, timeouts.content_s)
        if not answer.done():
            await journal()
        if answer.done():
            return _Content(Phase.DATA, _early(answer), in_step=False)
        return _Content(Phase.DOT, await _after_dot(protocol, answer, timeouts.verdict_s), in_step=True)
    finally:
        answer.cancel()
        with contextlib.suppress(asyncio.CancelledError, SMTPException, OSError):
            await answer


async def _drained(protocol: SMTPProtocol, content: bytes, answer: asyncio.Task[SMTPResponse], within_s: float) -> None:
    """Write the content, until all of it is with the operating system, or the relay answers before its end."""
    transport = cast(asyncio.WriteTransport, protocol.transport)
    draining: asyncio.Task[None] | None = None
    try:
        transport.set_write_buffer_limits(high=0)  # so that draining ends with an empty buffer, not a low one
        protocol.write(content)
        draining = asyncio.create_task(protocol._drain_helper())  # noqa: SLF001 - what asyncio's StreamWriter calls
        await asyncio.wait({draining, answer}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return  # what the relay said counts, though it hung up after it
        if draining.done():
            draining.result()
        else:
            raise Lost(Phase.DATA, f"The relay did not take the content within {within_s:g} s")
    except (SMTPException, OSError) as error:
        raise Lost(Phase.DATA, str(error) or type(error).__name__) from error
    finally:
        if draining is not None and not draining.cancel():
            draining.exception()  # looked at: of a line that broke, the answer tells


def _early(answer: asyncio.Task[SMTPResponse]) -> Reply:
    """What the relay said before the final dot: a refusal, or it is out of step."""
    try:
        response = answer.result()
    except (SMTPException, OSError) as error:
        raise Lost(Phase.DATA, str(error) or type(error).__name__) from error
    if response.code // 100 not in REFUSALS:
        raise Lost(Phase.DATA, f"Out of step: {response.code} {response.message} before the end of the content")
    return reply_of(response.code, response.message)


async def _after_dot(protocol: SMTPProtocol, answer: asyncio.Task[SMTPResponse], within_s: float) -> Reply:
    """Write the dot, and read the relay's verdict. Raises Lost in Phase.DOT where none comes that can be understood."""
    try:
        protocol.write(b".\r\n")
    except SMTPException as error:  # the connection was closed before: no dot went out
        raise Lost(Phase.DATA, str(error)) from error
    try:
        async with asyncio.timeout(within_s):
            response = await asyncio.shield(answer)
    except TimeoutError as error:
        raise Lost(Phase.DOT, f"No answer to the final dot within {within_s:g} s") from error
    except (SMTPException, OSError) as error:
        raise Lost(Phase.DOT, str(error) or type(error).__name__) from error
    if response.code // 100 not in {ACCEPTED, *REFUSALS}:
        raise Lost(Phase.DOT, f"The final dot was answered with {response.code} {response.message}")
    return reply_of(response.code, response.message)


async def _reset(client: SMTP, timeouts: Timeouts) -> bool:
    """After a refusal. Whether it worked never changes the outcome, only whether the connection is used again."""
    try:
        response = await client.execute_command(b"RSET", timeout=timeouts.reset_s)
    except (SMTPException, OSError):
        return False
    return response.code == 250  # noqa: PLR2004 - RFC 5321 4.1.1.5
