"""One open connection to a relay, once it is ready for mail: replies as they come, writing with back-pressure, and a
note of all that is said.

The trap: one task at a time may wait on it.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Container
from typing import cast

from mailer.jobs import Phase
from worker.relays.answers import Kind, lost
from worker.relays.parsing import Malformed, RawReply, ReplyParser

CHUNK = 64 * 1024
"""Octets of content written at a time."""
MOST_UNREAD = 200
"""Replies that wait to be read: more than a mail has commands."""
MOST_UNREAD_CHARS = 256 * 1024
NOTED_CHARS = 4000


class Wire(asyncio.Protocol):
    """`adopt` a transport before anything else. `noted`: monotonic time, "<" or ">", and what was said."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self.noted: list[tuple[float, str, bytes | str]] = []
        self._loop = asyncio.get_running_loop()
        self._parser = ReplyParser()
        self._replies: deque[RawReply] = deque()
        self._owed: deque[Container[int]] = deque()
        self._broken: tuple[Kind, str] | None = None
        self._paused = False
        self._waiter: asyncio.Future[bool] | None = None

    def time(self) -> float:
        """The loop's clock, by which deadlines are."""
        return self._loop.time()

    def adopt(self, transport: asyncio.Transport) -> None:
        """Become the protocol of an open connection. Draining then means an empty buffer, not a low one."""
        self._transport = transport
        transport.set_protocol(self)
        transport.set_write_buffer_limits(high=1, low=0)  # over TLS, an empty buffer counts as full with high=0
        if transport.is_closing():
            self._break(Kind.DROPPED, "The connection was closed")

    @property
    def is_open(self) -> bool:
        return self._broken is None and not self._transport.is_closing()

    @property
    def has_spoken(self) -> bool:
        """The relay said something, began to, or hung up: what is written now would come too late for it. What it owes
        does not count."""
        return bool(self._replies) or (self._parser.is_midway and not self._owed) or not self.is_open

    @property
    def owes(self) -> bool:
        """An answer to what was told is still to come: the next one is not that to another command."""
        return bool(self._owed)

    def data_received(self, data: bytes) -> None:
        if self._broken is not None:
            return
        trouble = None
        try:
            replies = self._parser.feed(data)
        except Malformed as error:
            replies, trouble = list(error.before), str(error)
        if replies:
            self._replies.extend(replies)
            now = time.monotonic()
            self.noted += [(now, "<", f"{reply.code} {reply.text[:NOTED_CHARS]}") for reply in replies]
            trouble = self._settle() or trouble
            self._wake()
            if len(self._replies) > MOST_UNREAD or sum(len(each.text) for each in self._replies) > MOST_UNREAD_CHARS:
                trouble = "Too many replies, unasked"
        if trouble is not None:
            self._break(Kind.OUT_OF_STEP, trouble)
            self._transport.abort()

    def eof_received(self) -> bool:
        self._break(Kind.DROPPED, "The relay closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._broken is None:
            self.data_received(_left_unread(self._transport))
        self._break(Kind.DROPPED, str(exc) if exc else "The connection was lost")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    def say(self, commands: bytes, note: bytes | str | None = None) -> None:
        """Write commands. `note`: what is kept of them, where it is not the same."""
        self.noted.append((time.monotonic(), ">", commands if note is None else note))
        self._transport.write(commands)

    def tell(self, command: bytes, expected: Container[int]) -> None:
        """Write a command whose answer nobody waits for. One that is not `expected` breaks the connection."""
        self.say(command)
        self._owed.append(expected)

    async def settled(self, within_s: float) -> bool:
        """Whether all that is owed comes in time, and nothing else."""
        deadline = self._loop.time() + within_s
        while self._owed and self.is_open and await self._event(deadline - self._loop.time()):
            pass
        return not (self._owed or self.has_spoken)

    def put(self, content: bytes) -> None:
        """Write content."""
        self._transport.write(content)

    async def reply(self, phase: Phase, within_s: float) -> RawReply:
        """The next one. Raises Lost."""
        if not self._replies:
            deadline = self._loop.time() + within_s
            while not self._replies:
                self._raise_if_broken(phase)
                if not await self._event(deadline - self._loop.time()):
                    raise lost(phase, Kind.SILENT, f"No answer within {within_s:.3g} s")
        return self._replies.popleft()

    async def drain(self, phase: Phase, stall_s: float, deadline: float) -> None:
        """Until all that was written is with the operating system, or the relay speaks. `deadline` by the loop's clock.
        Raises Lost where the relay takes nothing for `stall_s`, or too little until the deadline."""
        left = self._transport.get_write_buffer_size()
        while self._paused and not self.has_spoken:
            now = self._loop.time()
            moved = await self._event(min(stall_s, deadline - now))
            before, left = left, self._transport.get_write_buffer_size()
            if self._loop.time() >= deadline or not (moved or left < before):
                raise lost(phase, Kind.SILENT, "The relay did not take the content in time")

    def abort(self) -> None:
        """At once, without a word: what the relay has of a mail it discards (RFC 5321 4.1.1.10)."""
        self._transport.abort()

    def part(self) -> None:
        """Say QUIT and go, without waiting for an answer."""
        if self.is_open:
            self._transport.write(b"QUIT\r\n")
        self._transport.close()

    def _settle(self) -> str | None:
        """Take out the answers that were owed. What is wrong with one of them, if anything."""
        while self._owed and self._replies:
            reply = self._replies.popleft()
            if reply.code not in self._owed.popleft():
                return f"Out of step: {reply.code}"
        return None

    def _raise_if_broken(self, phase: Phase) -> None:
        if self._broken is not None:
            raise lost(phase, *self._broken)

    async def _event(self, within_s: float) -> bool:
        """Whether anything happened in time."""
        if within_s <= 0:
            return False
        self._waiter = self._loop.create_future()
        timer = self._loop.call_later(within_s, self._wake, False)
        try:
            return await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _break(self, kind: Kind, text: str) -> None:
        if self._broken is None:
            self._broken = (kind, text)
            self.noted.append((time.monotonic(), "-", text))
            self._wake()

    def _wake(self, happened: bool = True) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(happened)


def _left_unread(transport: asyncio.Transport) -> bytes:
    """What a relay said before it hung up, where writing found that out before reading did. Under TLS it is lost."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0 or transport.get_extra_info("sslcontext") is not None:
        return b""
    with contextlib.suppress(OSError), sock.dup() as unread:
        unread.setblocking(False)
        return bytes(unread.recv(CHUNK))
    return b""


def as_transport(transport: asyncio.BaseTransport) -> asyncio.Transport:
    """What asyncio and uvloop give for a TCP connection, plain or TLS."""
    return cast(asyncio.Transport, transport)
