"""One mail on one open connection: envelope, content, journal, dot (RFC 5321 3.3, RFC 2920).

Each recipient's answer is kept apart, and so is where the conversation broke off: before the final dot nothing has
happened, after it the relay may have the mail.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from mailer.addresses import Address
from mailer.jobs import Phase, Reply
from worker.relays.answers import Answer, Kind, Lost, Verdicts, lost, reply_of
from worker.relays.parsing import RawReply
from worker.relays.timeouts import Timeouts
from worker.relays.wire import CHUNK, Wire

GO_AHEAD = 354
BAD_SEQUENCE = 503
CLOSING = 421
RESET = frozenset({250})
"""The answer to RSET (RFC 5321 4.1.1.5)."""
ENDED = frozenset({*range(200, 300), *range(400, 600)} - {CLOSING})
"""Answers to a final dot after which the relay listens to commands again."""
POSITIVE, INTERMEDIATE = 2, 3
"""First digits of replies (RFC 5321 4.2.1)."""


@dataclass(frozen=True, slots=True)
class Envelope:
    sender: Address
    recipients: tuple[Address, ...]
    content: bytes

    @property
    def needs_smtputf8(self) -> bool:
        """RFC 6531. The composed content is ASCII but where its header names such an address."""
        return any(address.needs_smtputf8 for address in (self.sender, *self.recipients)) or not self.content.isascii()

    @property
    def emails(self) -> tuple[str, ...]:
        return tuple(address.email for address in self.recipients)


Journal = Callable[[Mapping[str, Reply]], Awaitable[None]]
"""Called once the content has drained, with each recipient's reply. It raises where no final dot may be written."""


@dataclass(slots=True)
class Offers:
    """What the relay's EHLO said, as far as it matters to a mail. `size`: octets at most, 0 where it did not say."""

    pipelining: bool = False
    eightbitmime: bool = False
    smtputf8: bool = False
    size: int | None = None


@dataclass(slots=True)
class Transaction:
    """`run` it once. `timings`: milliseconds by part. Raises what `journal` raises; then, and where the verdicts are
    not clean, the connection has to be aborted."""

    wire: Wire
    offers: Offers
    envelope: Envelope
    journal: Journal
    timeouts: Timeouts
    reused: bool = False
    timings: dict[str, int] = field(default_factory=dict)
    _smtputf8: bool = False
    _began: float = 0.0
    _answers: dict[str, Answer] = field(default_factory=dict)

    async def run(self) -> Verdicts:
        self._smtputf8 = self.envelope.needs_smtputf8
        if (unsuited := self._unsuited()) is not None:
            self.wire.noted.append((time.monotonic(), "-", unsuited.reply.text))
            return Verdicts.alike(unsuited, self.envelope.emails, clean=True)
        self._began = time.monotonic()
        deadline = self.wire.time() + self.timeouts.envelope_s
        try:
            go_ahead = await self._envelope(deadline)
        except Lost as broken:
            return self._broken_off(broken.answer)
        finally:
            self._clock("envelope")
        return await self._after_envelope(go_ahead)

    def _unsuited(self) -> Answer | None:
        """What this relay cannot take is not offered to it."""
        size, offered = len(self.envelope.content), self.offers.size
        if offered and size > offered:
            text = f"The mail has {size:,} octets, the relay takes {offered:,}."
            return Answer(Phase.MAIL, Kind.TOO_LARGE, Reply(None, text, "5.3.4"))
        if self._smtputf8 and not self.offers.smtputf8:
            text = "An address needs SMTPUTF8, which this relay does not offer."
            return Answer(Phase.MAIL, Kind.NO_SMTPUTF8, Reply(None, text, "5.6.7"))
        return None

    async def _envelope(self, deadline: float) -> Answer:
        """MAIL, each RCPT and DATA: in one go where the relay offers PIPELINING. The answer to the last of them that
        there was a reason to say. Raises Lost."""
        recipients = self.envelope.recipients
        mail, data = self._mail_command(), b"DATA\r\n"
        rcpts = [b"RCPT TO:" + _path(address) + b"\r\n" for address in recipients]
        if self.offers.pipelining:
            await self._say(b"".join((mail, *rcpts, data)), Phase.MAIL, lines=len(rcpts) + 2)
        answer = await self._command(mail, Phase.MAIL, deadline)
        refused = not answer.is_positive
        if refused:
            self._answers = dict.fromkeys(self.envelope.emails, answer)
            if not self.offers.pipelining:
                return answer
        for address, command in zip(recipients, rcpts, strict=True):
            heard = await self._command(command, Phase.RCPT, deadline, echo=refused)
            if not refused:
                self._answers[address.email] = heard
        takers = self._takers()
        if not takers and not self.offers.pipelining:
            return answer
        return await self._command(data, Phase.DATA, deadline, echo=not takers)

    async def _command(self, command: bytes, phase: Phase, deadline: float, *, echo: bool = False) -> Answer:
        """`echo`: a refusal came before, which those that follow may repeat as a bad sequence. Raises Lost."""
        if not self.offers.pipelining:
            await self._say(command, phase)
        left_s = deadline - self.wire.time()
        raw = await self.wire.reply(phase, max(0.0, min(self.timeouts.command_s, left_s)))
        taken = raw.code == GO_AHEAD if phase is Phase.DATA else raw.code // 100 == POSITIVE and not echo
        if not (taken or raw.code // 100 > INTERMEDIATE) or (raw.code == BAD_SEQUENCE and not echo):
            raise lost(phase, Kind.OUT_OF_STEP, f"Out of step: {raw.code} {raw.text}", raw.code)
        return Answer(phase, Kind.REPLY, reply_of(raw.code, raw.text), self.reused)

    def _takers(self) -> list[str]:
        return [email for email, answer in self._answers.items() if answer.is_positive]

    def _broken_off(self, why: Answer) -> Verdicts:
        """What was refused before stays so; for all others nothing has happened. But one answer that belongs to another
        command (a 250 to DATA) says that those before it may do so as well. Who left after a 421 has told why."""
        closing = next((known for known in self._answers.values() if known.reply.code == CLOSING), None)
        answer = closing if closing and why.kind is Kind.DROPPED else replace(why, reused=self.reused)
        if why.kind is Kind.OUT_OF_STEP and (why.reply.code or 0) // 100 in {POSITIVE, INTERMEDIATE} and self._takers():
            self._answers = {}
        refused = {email: known for email, known in self._answers.items() if not known.is_positive}
        answers = {email: refused.get(email, answer) for email in self.envelope.emails}
        all_refused = len(refused) == len(answers)
        return Verdicts(next(iter(refused.values())) if all_refused else answer, answers)

    async def _after_envelope(self, last: Answer) -> Verdicts:
        """`last`: the answer to the last command of the envelope."""
        takers = self._takers()
        asked_for = last.phase is Phase.DATA and last.reply.code == GO_AHEAD
        if takers and asked_for:
            return await self._content_and_dot(takers)
        if takers:
            return self._concluded(last, takers, clean=self._reset(last))
        decisive = next(iter(self._answers.values()))
        return Verdicts(decisive, self._answers, clean=self._reset(decisive, lone_dot=asked_for))

    async def _content_and_dot(self, takers: list[str]) -> Verdicts:
        replies = {email: answer.reply for email, answer in self._answers.items()}
        try:
            await self._content()
            self._clock("content")
            if not self.wire.has_spoken:
                await self.journal(replies)
                self._clock("journal")
            if self.wire.has_spoken:
                return self._concluded(await self._early(), takers, clean=False)
        except Lost as broken:
            return self._concluded(broken.answer, takers, clean=False)
        try:
            self.wire.say(b".\r\n")
            verdict = self._verdict(await self.wire.reply(Phase.DOT, self.timeouts.verdict_s))
        except Lost as broken:
            verdict = broken.answer
        finally:
            self._clock("dot")
        in_step = verdict.is_positive or (verdict.kind is Kind.REPLY and self._reset(verdict))
        return self._concluded(verdict, takers, clean=in_step)

    def _concluded(self, verdict: Answer, takers: list[str], *, clean: bool) -> Verdicts:
        """For those whom the relay had taken; the others have theirs already."""
        answers = {**self._answers, **dict.fromkeys(takers, verdict)}
        refused = next((answer for answer in answers.values() if answer.phase is Phase.RCPT), None)
        decisive = refused if refused is not None and verdict.is_accepted else verdict
        return Verdicts(decisive, answers, clean and not self.wire.has_spoken)

    async def _content(self) -> None:
        """In pieces, each once the one before has drained, until the relay speaks. Raises Lost."""
        content, deadline = self.envelope.content, self.wire.time() + self.timeouts.content_s
        self.wire.noted.append((time.monotonic(), ">", f"[{len(content):,} octets of content]"))
        at_line_start = True
        for start in range(0, len(content), CHUNK):
            piece = content[start : start + CHUNK]
            stuffed = piece.replace(b"\n.", b"\n..")  # RFC 5321 4.5.2: a line that begins with a dot gets a second one
            if at_line_start and piece.startswith(b"."):
                stuffed = b"." + stuffed
            at_line_start = piece.endswith(b"\n")
            if start:
                await asyncio.sleep(0)  # others have their turn, even where the system takes megabytes at once
            self.wire.put(stuffed)
            await self.wire.drain(Phase.DATA, self.timeouts.stall_s, deadline)
            if self.wire.has_spoken:
                return
        if not content.endswith(b"\r\n"):
            self.wire.put(b"\r\n")
            await self.wire.drain(Phase.DATA, self.timeouts.stall_s, deadline)

    async def _early(self) -> Answer:
        """What the relay said before the final dot: a refusal, or it is out of step. Raises Lost."""
        raw = await self.wire.reply(Phase.DATA, self.timeouts.unasked_s)  # at once, but for a line that is being closed
        kind = Kind.REPLY if raw.code // 100 > INTERMEDIATE else Kind.OUT_OF_STEP
        return Answer(Phase.DATA, kind, reply_of(raw.code, raw.text))

    def _verdict(self, raw: RawReply) -> Answer:
        kind = Kind.OUT_OF_STEP if raw.code // 100 == INTERMEDIATE else Kind.REPLY
        return Answer(Phase.DOT, kind, reply_of(raw.code, raw.text))

    def _reset(self, refusal: Answer, *, lone_dot: bool = False) -> bool:
        """After a refusal. The answer comes when the verdict has long been given: it never changes the outcome, only
        whether the connection is used again. `lone_dot`: the relay asks for content though nobody is left to get it, so
        it gets none."""
        if refusal.reply.code == CLOSING or self.wire.has_spoken:
            return False
        if lone_dot:
            self.wire.tell(b".\r\n", ENDED)
        self.wire.tell(b"RSET\r\n", RESET)
        return True

    def _mail_command(self) -> bytes:
        words = [b"MAIL FROM:" + _path(self.envelope.sender)]
        if self.offers.size is not None:
            words.append(b"SIZE=%d" % len(self.envelope.content))
        if self._smtputf8 and self.offers.eightbitmime:
            words.append(b"BODY=8BITMIME")
        if self._smtputf8:
            words.append(b"SMTPUTF8")
        return b" ".join(words) + b"\r\n"

    async def _say(self, commands: bytes, phase: Phase, lines: int = 1) -> None:
        """Unless the relay speaks unasked: that it is closing (RFC 5321 3.8), or it is out of step. Raises Lost."""
        if commands.count(b"\n") != lines or commands.count(b"\r") != lines:
            raise ValueError("An address with a line break")
        if self.wire.has_spoken:
            raw = await self.wire.reply(phase, self.timeouts.unasked_s)
            kind = Kind.REPLY if raw.code == CLOSING else Kind.OUT_OF_STEP
            raise Lost(Answer(phase, kind, reply_of(raw.code, raw.text)))
        self.wire.say(commands)

    def _clock(self, part: str) -> None:
        now = time.monotonic()
        self.timings[part] = round((now - self._began) * 1000)
        self._began = now


def _path(address: Address) -> bytes:
    return f"<{address.email}>".encode()
