"""A wire to the queue server that a test can cut or block: where a reply is lost, or all of a process's connections."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mailer.server import parse_queue_url

LUA = Path(__file__).parents[2] / "mailer" / "store" / "lua"
CHUNK = 1 << 20


@dataclass
class Wire:
    """`lost`: the replies that did not arrive."""

    url: str = ""
    lost: list[bytes] = field(default_factory=list)
    _loses: tuple[bytes, bytes] | None = None
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _generation: int = 0

    def lose_reply(self, script: str, saying: bytes) -> None:
        """Cut the connection in place of the next reply to this script that says this. The server has run it."""
        digest = hashlib.sha1((LUA / f"{script}.lua").read_bytes()).hexdigest()
        self._loses = (digest.encode(), saying)

    def block(self) -> None:
        """Nothing passes any more, and nothing is said of it."""
        self._open.clear()

    def unblock(self) -> None:
        self._open.set()

    def swallow(self) -> None:
        """Nothing passes any more on the connections that are open now, and nothing is said of it; new ones work."""
        self._generation += 1

    def takes(self, request: bytes, reply: bytes) -> bool:
        """Whether this reply is the one to lose."""
        if self._loses is None or self._loses[0] not in request or self._loses[1] not in reply:
            return False
        self._loses = None
        self.lost.append(reply)
        return True

    @property
    def generation(self) -> int:
        """Of a connection that is opened now."""
        return self._generation

    async def is_open(self, generation: int) -> None:
        await self._open.wait()
        if generation < self._generation:
            await asyncio.Event().wait()


@asynccontextmanager
async def wire_to(url: str) -> AsyncIterator[Wire]:
    wire = Wire()
    wire.unblock()
    server = parse_queue_url(url)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            if server.socket_path:
                upstream = await asyncio.open_unix_connection(server.socket_path)
            else:
                upstream = await asyncio.open_connection(server.host, server.port)
            try:
                await _pass_on(wire, (reader, writer), upstream)
            finally:
                upstream[1].transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            tasks.discard(task)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    wire.url = f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/{server.database}"
    try:
        yield wire
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _pass_on(wire: Wire, client: Ends, server: Ends) -> None:
    """One connection, until either side closes it, or a reply of it is lost."""
    request, generation = b"", wire.generation

    async def requests() -> None:
        nonlocal request
        while chunk := await client[0].read(CHUNK):
            await wire.is_open(generation)
            request = chunk
            server[1].write(chunk)

    async def replies() -> None:
        while chunk := await server[0].read(CHUNK):
            await wire.is_open(generation)
            if wire.takes(request, chunk):
                return
            client[1].write(chunk)

    both = {asyncio.create_task(requests()), asyncio.create_task(replies())}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
