"""The relay of a run: fast, moody by a seeded choice, and the witness of what was handed over.

A copy is written down when its final dot has come, before any answer: whatever happens to the answer, the relay has it.
"""

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import cast

STALLED = 0.25
DROPPED = 0.008
REFUSED = 0.015
"""Share of the replies that are late, that are a cut line instead, and that are a 4xx."""
LONG_STALL = 0.08
"""Share of the stalls that take one to two seconds."""
END_OF_CONTENT = b"\r\n.\r\n"
_MESSAGE_ID = re.compile(rb"^Message-ID: <([^@>\s]+)@", re.MULTILINE)
_PATH = re.compile(rb"<([^>]*)>")


@dataclass(frozen=True, slots=True)
class Copy:
    """One mail that one recipient has been given."""

    job_id: str
    recipient: str
    digest: str


class Sink:
    """`calm`: no more moods. `moods` counts those that it had; `unanswered`: final dots whose line was cut, by whomever
    it was, before the answer went out."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.calm = False
        self.copies: list[Copy] = []
        self.moods: Counter[str] = Counter()
        self.unanswered = 0
        self.port = 0
        self.connections: set[_Conversation] = set()
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


@dataclass(frozen=True, slots=True)
class _Mood:
    stall_s: float = 0.0
    drop: bool = False
    refuse: bool = False


class _Conversation(asyncio.Protocol):
    """RFC 5321 as far as Postroom speaks it. While a reply is late, what comes in waits."""

    transport: asyncio.Transport

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = bytearray()
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
        verb = bytes(line[:4]).upper().decode("ascii", "replace")
        handlers: dict[str, Callable[[bytes], None]] = {"RCPT": self._on_rcpt, "DATA": self._on_data}
        if verb == "QUIT":
            self.transport.close()
        elif verb in handlers:
            handlers[verb](bytes(line))
        else:
            if verb in {"MAIL", "RSET", "EHLO"}:
                self._recipients = []
            self._say(verb, b"250 2.0.0 ok", b"451 4.3.0 not now")
        return True

    def _on_rcpt(self, line: bytes) -> None:
        found = _PATH.search(line)
        recipient = found[1].decode() if found else ""

        def taken() -> None:
            self._recipients.append(recipient)

        self._say("RCPT", b"250 2.1.5 ok", b"450 4.2.0 not now", taken)

    def _on_data(self, _: bytes) -> None:
        def begins() -> None:
            self._in_content = True
            self._cut_content = self._mood("CONTENT").drop

        self._say("DATA", b"354 go on", b"451 4.3.0 not now", begins)

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
        mood = self._mood("DOT")
        if not mood.refuse:  # a relay that says 4xx has not taken the mail, though its answer may be lost as well
            self._write_down(content)
        self._act(mood, b"451 4.3.0 not now" if mood.refuse else b"250 2.0.0 taken")
        return True

    def _write_down(self, content: bytes) -> None:
        found = _MESSAGE_ID.search(content[:8192])
        job_id = found[1].decode() if found else "no Message-ID"
        digest = hashlib.sha256(content).hexdigest()[:16]
        self._sink.copies += [Copy(job_id, recipient, digest) for recipient in self._recipients]

    def _say(self, phase: str, reply: bytes, refusal: bytes, then: Callable[[], None] | None = None) -> None:
        """`then` happens where the reply is the usual one."""
        mood = self._mood(phase)
        if then is not None and not mood.refuse:
            then()
        self._act(mood, refusal if mood.refuse else reply)

    def _act(self, mood: _Mood, reply: bytes) -> None:
        if mood.stall_s:
            self._waits = asyncio.get_running_loop().call_later(mood.stall_s, self._act_late, mood, reply)
        elif mood.drop:
            self.abort()
        else:
            self.transport.write(reply + b"\r\n")
            self._owes_verdict = False

    def _act_late(self, mood: _Mood, reply: bytes) -> None:
        self._waits = None
        self._act(_Mood(drop=mood.drop), reply)
        self._go_on()

    def _mood(self, phase: str) -> _Mood:
        if self._sink.calm:
            return _Mood()
        random = self._sink.random
        stall_s = 0.0
        if random.random() < STALLED:
            stall_s = random.uniform(1.0, 2.0) if random.random() < LONG_STALL else random.uniform(0.02, 0.6)
        turn = random.random()
        mood = _Mood(stall_s, drop=turn < DROPPED, refuse=DROPPED <= turn < DROPPED + REFUSED)
        word = "stalled" if mood.stall_s else None
        word = "dropped" if mood.drop else "refused" if mood.refuse else word
        if word:
            self._sink.moods[word] += 1
        return mood
