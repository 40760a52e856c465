"""The relay of all measurements: Postfix's smtp-sink, which takes every mail at once and counts what came; and in its
place, where a relay has to be slow, one of our own that counts alike."""

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from benchmarks.section import Stopped
from tests.peers.smtp_sink import sink_command, sink_environment
from tests.support.processes import free_port

_COUNT = re.compile(rb"mesg=(\d+)\r")
LOOK_EVERY_S = 0.01
EMPTY_EVERY_S = 0.1
STALLED_S = 60.0


@dataclass(slots=True)
class Relay:
    """`counted`: so many mails came to their final dot. `arrivals`: when the n-th one did, by time.perf_counter, as
    far as somebody was looking each LOOK_EVERY_S; exact while `exactly` lasts."""

    port: int
    pid: int
    _pipe: int
    counted: int = 0
    arrivals: list[float] = field(default_factory=list)
    _rest: bytes = b""

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}?tls=none"

    def look(self) -> int:
        """Reads what the sink has said of its mails since."""
        try:
            while said := os.read(self._pipe, 65536):
                self._rest += said
        except BlockingIOError:
            pass
        if found := _COUNT.findall(self._rest):
            self._rest = self._rest[self._rest.rindex(b"\r") + 1 :]
            count, now = int(found[-1]), time.perf_counter()
            self.arrivals += [now] * (count - self.counted)
            self.counted = count
        return self.counted

    async def until(self, mails: int) -> None:
        """Until so many have come since it began. Raises Stopped where for STALLED_S none came. Whether more did
        is for `settle` to say."""
        seen, since = self.look(), time.monotonic()
        while seen < mails:
            await asyncio.sleep(LOOK_EVERY_S)
            if self.look() > seen:
                seen, since = self.counted, time.monotonic()
            elif time.monotonic() - since > STALLED_S:
                raise Stopped(f"The sink counted {seen} mails of {mails}, and then none for {STALLED_S:g} s")

    async def settle(self, mails: int) -> None:
        """Raises Stopped where it counts another number than was sent, a moment later."""
        await asyncio.sleep(0.3)
        if self.look() != mails:
            raise Stopped(f"The sink counted {self.counted} mails, and {mails} were sent")

    @asynccontextmanager
    async def exactly(self) -> AsyncIterator[None]:
        """Each arrival is noted when it happens: for few mails a second."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pipe, self.look)
        try:
            yield
        finally:
            loop.remove_reader(self._pipe)


RelayMaker = Callable[[], AbstractAsyncContextManager[Relay]]


def counting_relay(*options: str) -> AbstractAsyncContextManager[Relay]:
    """smtp-sink; `options` as in smtp-sink(1)."""
    port = free_port()
    return _counted(port, sink_command(port, *options), sink_environment())


def slow_relay(delay_ms: int) -> AbstractAsyncContextManager[Relay]:
    """Each mail's final 250 comes so much later, whatever else is under way."""
    port = free_port()
    return _counted(port, (sys.executable, "-m", "benchmarks.sink", str(port), str(delay_ms)), os.environ)


@asynccontextmanager
async def _counted(port: int, command: Sequence[str], env: Mapping[str, str]) -> AsyncIterator[Relay]:
    here, there = os.pipe()
    os.set_blocking(here, False)
    child = await asyncio.create_subprocess_exec(*command, env=dict(env), stdout=there)
    os.close(there)
    try:
        await _listening(port, child)
        relay = Relay(port, child.pid, here)
        emptying = asyncio.create_task(_emptied(relay))
        try:
            yield relay
        finally:
            emptying.cancel()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
        os.close(here)


async def _emptied(relay: Relay) -> None:
    """Whoever waits for something else: a sink whose pipe is full takes no mail."""
    while True:
        relay.look()
        await asyncio.sleep(EMPTY_EVERY_S)


async def _listening(port: int, child: asyncio.subprocess.Process) -> None:
    deadline = time.monotonic() + 10
    while child.returncode is None and time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        writer.close()
        return
    raise Stopped(f"The sink does not listen on port {port} (exit code {child.returncode})")
