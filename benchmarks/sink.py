"""An SMTP server that takes every mail at once and notes when: the Message-ID, and the moment of its 250."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_MESSAGE_ID = re.compile(rb"^Message-ID: <([^>@]+)", re.MULTILINE | re.IGNORECASE)
_END = b"\r\n.\r\n"


@dataclass
class Sink:
    """`taken`: job id (the Message-ID's left side) to the moment of the answer, by time.perf_counter."""

    taken: dict[str, float] = field(default_factory=dict)
    copies: int = 0
    port: int = 0
    pipelining: bool = True

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}?tls=none"


class _Session(asyncio.Protocol):
    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = bytearray()
        self._in_content = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(b"220 sink.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._take_content() if self._in_content else self._take_command():
            pass

    def _take_command(self) -> bool:
        line, newline, rest = bytes(self._buffer).partition(b"\r\n")
        if not newline:
            return False
        self._buffer = bytearray(rest)
        verb = line[:4].upper()
        self._in_content = verb == b"DATA"
        greeting = b"250-sink.test\r\n250 PIPELINING" if self._sink.pipelining else b"250 sink.test"
        reply = {b"DATA": b"354 go on", b"EHLO": greeting, b"QUIT": b"221 bye"}.get(verb, b"250 ok")
        self._transport.write(reply + b"\r\n")
        if verb == b"QUIT":
            self._transport.close()
        return True

    def _take_content(self) -> bool:
        end = self._buffer.find(_END)
        if end < 0:
            return False
        found = _MESSAGE_ID.search(bytes(self._buffer[:end]))
        del self._buffer[: end + len(_END)]
        self._in_content = False
        self._transport.write(b"250 queued\r\n")
        self._sink.copies += 1
        if found:
            self._sink.taken[found[1].decode()] = time.perf_counter()
        return True


@asynccontextmanager
async def sink_server(*, pipelining: bool = True) -> AsyncIterator[Sink]:
    sink = Sink(pipelining=pipelining)
    server = await asyncio.get_running_loop().create_server(lambda: _Session(sink), "127.0.0.1", 0)
    sink.port = server.sockets[0].getsockname()[1]
    try:
        yield sink
    finally:
        server.close()
        await server.wait_closed()
