"""The queue server of a run: killed and started again on the same data and the same socket."""

import asyncio
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from cli.children import end_with_parent, stop
from cli.embedded import find_engine
from mailer.errors import QueueUnavailable
from mailer.server import parse_queue_url
from mailer.store.connection import command, connect

START_S = 30.0
STOP_S = 10.0


class KillableServer:
    """Set up as the embedded one: each write is synced to disk before its answer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "queue.sock"
        self._engine = find_engine()
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self.url = f"unix://{quote(str(self._socket))}"
        self.outages: list[tuple[float, float]] = []
        """From the kill until it answered again, by the monotonic clock."""

    def was_out(self, began: float, ended: float) -> bool:
        return any(start <= ended and end >= began for start, end in self.outages)

    async def start(self) -> None:
        self._socket.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            self._engine.binary,
            *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700", "--dir", str(self._folder)),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"),
            *("--logfile", str(self._folder / "server.log")),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        async with asyncio.timeout(START_S), connect(parse_queue_url(self.url)) as client:
            while not await _answers(client):
                assert self._process.returncode is None, f"the queue server did not start; see {self._folder}"
                await asyncio.sleep(0.02)

    async def kill(self, for_s: float) -> None:
        """kill -9, and a start `for_s` seconds later."""
        async with self._turn:
            assert self._process is not None
            began = time.monotonic()
            self.outages.append((began, float("inf")))
            self._process.kill()
            await self._process.wait()
            await asyncio.sleep(for_s)
            await self.start()
            self.outages[-1] = (began, time.monotonic())

    async def end(self) -> None:
        if self._process is not None:
            await stop(self._process, STOP_S)


async def _answers(client: object) -> bool:
    try:
        await command(client, "PING")
    except QueueUnavailable:
        return False
    return True
