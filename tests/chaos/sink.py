"""A relay of a run: fast, moody, and the witness of what was handed over.

A copy is written down when its final dot has come, before any answer: whatever happens to the answer, the relay has it.
"""

import asyncio
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from tests.chaos.moods import Mood, Moods

END_OF_CONTENT = b"\r\n.\r\n"
NOT_NOW = b"451 4.3.0 not now"
OUT_OF_ORDER = b"503 5.5.1 bad sequence of commands"
NOBODY = b"554 5.5.1 no valid recipients"
_MESSAGE_ID = re.compile(rb"^Message-ID: <([^@>\s]+)@", re.MULTILINE)
_PATH = re.compile(rb"<([^>]*)>")


@dataclass(frozen=True, slots=True)
class Copy:
    """One mail that one recipient has been given, by this relay."""

    job_id: str
    recipient: str
    digest: str
    relay: str = "a relay"


class Sink:
    """`unanswered`: final dots whose line was cut, by whomever it was, before the answer went out."""

    def __init__(self, name: str, moods: Moods, *, pipelining: bool) -> None:
        self.name = name
        self.moods = moods
        self.copies: list[Copy] = []
        self.mails = 0
        self.unanswered = 0
        self.port = 0
        self.connections: set[_Conversation] = set()
        self.extensions = [b"sink.example", b"8BITMIME", *([b"PIPELINING"] if pipelining else [])]
        self._server: asyncio.Server | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Conversation(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def end(self) -> None:
        """Nobody listens any more, and every line is cut."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.abort()

    async def go_out(self, for_s: float) -> None:
        async with self._turn:
            await self.end()
            await asyncio.sleep(for_s)
            await self.start()


class _Conversation(asyncio.Protocol):
    """RFC 5321 as far as Postroom speaks it, one command after the other, however they come in. While a reply is late,
    what comes in waits."""

    transport: asyncio.Transport

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = bytearray()
        self._has_sender = False
        self._in_content = False
        self._owes_verdict = False
        self._cut_content = False
        self._waits: asyncio.TimerHandle | None = None
        self._recipients: list[str] = []

    def abort(self) -> None:
        if self._waits is not None:
            self._waits.cancel()
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._sink.connections.add(self)
        self._say("BANNER", b"220 sink.example ESMTP", b"421 4.3.2 not now")

    def connection_lost(self, exc: Exception | None) -> None:
        self._sink.connections.discard(self)
        self._sink.unanswered += self._owes_verdict
        if self._waits is not None:
            self._waits.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._go_on()

    def _go_on(self) -> None:
        while self._waits is None and not self.transport.is_closing():
            if not (self._take_content() if self._in_content else self._take_command()):
                return

    def _take_command(self) -> bool:
        line, end, rest = self._buffer.partition(b"\r\n")
        if not end:
            return False
        self._buffer = rest
        match bytes(line[:4]).upper():
            case b"QUIT":
                self.transport.close()
            case b"EHLO":
                self._begin()
                self._say("EHLO", _lines(b"250", self._sink.extensions), NOT_NOW)
            case b"RSET":
                self._begin()
                self._say("RSET", b"250 2.0.0 ok", NOT_NOW)
            case b"MAIL":
                self._on_mail()
            case b"RCPT":
                self._on_rcpt(bytes(line))
            case b"DATA":
                self._on_data()
            case _:
                self._say("UNKNOWN", b"502 5.5.2 not known here", NOT_NOW)
        return True

    def _begin(self) -> None:
        self._has_sender, self._recipients = False, []

    def _on_mail(self) -> None:
        def taken() -> None:
            self._has_sender = True

        if self._has_sender:
            self._say("MAIL", OUT_OF_ORDER, OUT_OF_ORDER)
        else:
            self._say("MAIL", b"250 2.1.0 ok", NOT_NOW, taken)

    def _on_rcpt(self, line: bytes) -> None:
        found = _PATH.search(line)
        recipient = found[1].decode() if found else ""

        def taken() -> None:
            self._recipients.append(recipient)

        if self._has_sender:
            self._say("RCPT", b"250 2.1.5 ok", b"450 4.2.0 not now", taken)
        else:
            self._say("RCPT", OUT_OF_ORDER, OUT_OF_ORDER)

    def _on_data(self) -> None:
        def begins() -> None:
            self._in_content = True
            self._cut_content = self._sink.moods.next("CONTENT").drop

        if self._recipients:
            self._say("DATA", b"354 go on", NOT_NOW, begins)
        else:
            reply = NOBODY if self._has_sender else OUT_OF_ORDER
            self._say("DATA", reply, reply)

    def _take_content(self) -> bool:
        if self._cut_content and self._buffer:
            self.abort()
            return False
        end = self._buffer.find(END_OF_CONTENT)
        if end < 0:
            return False
        content = bytes(self._buffer[: end + 2])
        del self._buffer[: end + len(END_OF_CONTENT)]
        self._in_content = False
        self._owes_verdict = True
        mood = self._sink.moods.next("DOT")
        if not mood.refuse:  # a relay that says 4xx has not taken the mail, though its answer may be lost as well
            self._write_down(content)
        self._begin()
        self._act(mood, NOT_NOW if mood.refuse else b"250 2.0.0 taken")
        return True

    def _write_down(self, content: bytes) -> None:
        found = _MESSAGE_ID.search(content[:8192])
        job_id = found[1].decode() if found else "no Message-ID"
        digest = hashlib.sha256(content).hexdigest()[:16]
        self._sink.copies += [Copy(job_id, recipient, digest, self._sink.name) for recipient in self._recipients]
        self._sink.mails += 1

    def _say(self, phase: str, reply: bytes, refusal: bytes, then: Callable[[], None] | None = None) -> None:
        """`then` happens where the reply is the usual one."""
        mood = self._sink.moods.next(phase)
        if then is not None and not mood.refuse:
            then()
        self._act(mood, refusal if mood.refuse else reply)

    def _act(self, mood: Mood, reply: bytes) -> None:
        if mood.stall_s:
            self._waits = asyncio.get_running_loop().call_later(mood.stall_s, self._act_late, mood, reply)
        elif mood.drop:
            self.abort()
        else:
            self.transport.write(reply + b"\r\n")
            self._owes_verdict = False

    def _act_late(self, mood: Mood, reply: bytes) -> None:
        self._waits = None
        self._act(Mood(drop=mood.drop), reply)
        self._go_on()


def _lines(code: bytes, lines: list[bytes]) -> bytes:
    """A reply of several lines (RFC 5321 4.2.1)."""
    return b"\r\n".join(code + (b" " if line is lines[-1] else b"-") + line for line in lines)
