"""A relay that takes its time: `python -m benchmarks.sink PORT DELAY_MS`. Each mail's final 250 comes so much later.

It prints how many mails have come to their final dot, as smtp-sink does. Any number of sessions wait side by side.
"""

import asyncio
import sys

import uvloop

_END = b"\r\n.\r\n"
_REPLIES = {b"DATA": b"354 go on", b"EHLO": b"250-sink.test\r\n250 PIPELINING", b"QUIT": b"221 bye"}


class _Sessions:
    """`mails`: that came to their final dot, in all sessions."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.mails = 0

    def count(self) -> None:
        self.mails += 1
        sys.stdout.write(f"mesg={self.mails}\r")
        sys.stdout.flush()


class _Session(asyncio.Protocol):
    def __init__(self, sessions: _Sessions) -> None:
        self._sessions = sessions
        self._buffer = bytearray()
        self._in_content = False
        self._is_waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's is none by its class
        self._transport.write(b"220 sink.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._go_on()

    def _go_on(self) -> None:
        while not self._is_waiting and (self._take_content() if self._in_content else self._take_command()):
            pass

    def _take_command(self) -> bool:
        line, newline, rest = bytes(self._buffer).partition(b"\r\n")
        if not newline:
            return False
        self._buffer = bytearray(rest)
        verb = line[:4].upper()
        self._in_content = verb == b"DATA"
        self._transport.write(_REPLIES.get(verb, b"250 ok") + b"\r\n")
        if verb == b"QUIT":
            self._transport.close()
        return True

    def _take_content(self) -> bool:
        end = self._buffer.find(_END)
        if end < 0:
            return False
        del self._buffer[: end + len(_END)]
        self._in_content, self._is_waiting = False, True
        self._sessions.count()
        asyncio.get_running_loop().call_later(self._sessions.delay_s, self._answer)
        return False

    def _answer(self) -> None:
        self._is_waiting = False
        self._transport.write(b"250 queued\r\n")
        self._go_on()


async def _serve(port: int, delay_ms: int) -> None:
    sessions = _Sessions(delay_ms / 1000)
    server = await asyncio.get_running_loop().create_server(lambda: _Session(sessions), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
