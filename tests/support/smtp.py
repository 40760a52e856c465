"""An SMTP server whose every reply a test can name, drop or delay. A real conversation on a real socket."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

DROP = "DROP"
"""In place of a reply: close the connection."""
HANG = "HANG"
"""In place of a reply: say nothing."""


@dataclass
class Received:
    sender: str
    recipients: list[str]
    content: bytes
    options: str = ""


@dataclass
class ScriptedRelay:
    """`script` maps a moment to replies, used up one by one, the last one for good; without one it is the usual reply.

    Moments: BANNER EHLO STARTTLS AUTH MAIL RCPT DATA DOT RSET QUIT, and "RCPT <address>" for one recipient. AUTH LOGIN
    and AUTH USER are what is said to that command and to the user's name, before AUTH. What follows a refusal is out of
    order, as at any relay; NOBODY is DATA when no recipient was taken. DOT is two replies for each mail: the first
    takes the mail where it is a 250, the second is said. BODY is in the midst of the content, and LEAVE at once after
    the reply to that, which have no usual reply.
    """

    script: dict[str, list[str]] = field(default_factory=dict)
    extensions: list[str] = field(default_factory=lambda: ["PIPELINING"])
    tls: ssl.SSLContext | None = None
    received: list[Received] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    body_after: int = 1000
    """Octets of content after which it is the moment BODY."""
    dots: int = 0
    """Final dots that arrived, whatever became of them."""
    read: int = 0
    """Octets of the newest content that have arrived."""
    before_reply: Callable[[str], Awaitable[None]] | None = None
    """Awaited with the moment before each reply."""
    in_body: Callable[[], Awaitable[None]] | None = None
    """Awaited in the midst of each content; the relay reads nothing meanwhile."""
    before_dot: Callable[[], Awaitable[None]] | None = None
    """Awaited when a mail is whole, before the relay answers."""

    def reply(self, moment: str, usual: str) -> str:
        replies = self.script.get(moment)
        if not replies:
            return usual
        return replies.pop(0) if len(replies) > 1 else replies[0]

    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def say_unasked(self, reply: str) -> None:
        """On every connection that is open; then they are closed."""
        for writer in list(self.writers):
            writer.write(reply.encode() + b"\r\n")
            await writer.drain()
            writer.close()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}?tls=none"


class _Conversation:
    def __init__(self, relay: ScriptedRelay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.relay = relay
        self.reader = reader
        self.writer = writer
        self.mail: Received | None = None

    async def say(self, moment: str, usual: str) -> str:
        if self.relay.before_reply is not None:
            await self.relay.before_reply(moment)
        reply = self.relay.reply(moment, usual)
        if reply == DROP:
            self.writer.transport.abort()
            raise ConnectionAbortedError
        if reply == HANG:
            await asyncio.sleep(3600)
        self.writer.write(reply.encode() + b"\r\n")
        await self.writer.drain()
        return reply

    async def run(self) -> None:
        await self.say("BANNER", "220 relay.test ESMTP")
        while line := await self.reader.readline():
            command = line.decode().strip()
            self.relay.commands.append(command)
            verb = command.split(" ")[0].upper()
            if await getattr(self, f"on_{verb.lower()}", self.on_unknown)(command) is False:
                return

    async def on_ehlo(self, command: str) -> None:
        lines = ["relay.test", *self.relay.extensions]
        usual = "\r\n".join(f"250{' ' if line is lines[-1] else '-'}{line}" for line in lines)
        await self.say("EHLO", usual)

    async def on_starttls(self, command: str) -> None:
        reply = await self.say("STARTTLS", "220 go ahead")
        if reply.startswith("220") and self.relay.tls:
            await self.writer.start_tls(self.relay.tls)

    async def on_auth(self, command: str) -> None:
        """LOGIN asks for the user and for the password, whatever came with the command."""
        prompts = {"AUTH LOGIN": "334 VXNlcm5hbWU6", "AUTH USER": "334 UGFzc3dvcmQ6"}
        for moment, prompt in prompts.items() if command.upper().startswith("AUTH LOGIN") else ():
            if not (await self.say(moment, prompt)).startswith("334"):
                return
            self.relay.commands.append((await self.reader.readline()).decode().strip())
        await self.say("AUTH", "235 2.7.0 welcome")

    async def on_mail(self, command: str) -> None:
        path, _, options = command[10:].partition(" ")
        reply = await self.say("MAIL", "250 2.1.0 ok")
        self.mail = Received(path.strip("<>"), [], b"", options) if reply.startswith("250") else None

    async def on_rcpt(self, command: str) -> None:
        if self.mail is None:
            await self.say("OUT OF ORDER", "503 5.5.1 MAIL first")
            return
        address = command[8:].strip("<>")
        moment = f"RCPT {address}"
        reply = await self.say(moment if moment in self.relay.script else "RCPT", "250 2.1.5 ok")
        if reply.startswith("250"):
            self.mail.recipients.append(address)

    async def on_data(self, command: str) -> None:
        if self.mail is None:
            await self.say("OUT OF ORDER", "503 5.5.1 MAIL first")
            return
        if self.mail.recipients:
            reply = await self.say("DATA", "354 go on")
        else:
            reply = await self.say("NOBODY", "554 5.5.1 No valid recipients")
        if not reply.startswith("354"):
            return
        content = await self.read_content()
        if content is None:
            return
        self.mail.content = content
        self.relay.dots += 1
        if self.relay.before_dot is not None:
            await self.relay.before_dot()
        mail, self.mail = self.mail, None
        if not mail.recipients:
            await self.say("OUT OF ORDER", "554 5.5.1 No valid recipients")
            return
        if self.relay.reply("DOT", "250").startswith("250"):
            self.relay.received.append(mail)
        await self.say("DOT", "250 2.0.0 queued as 4fXyz")

    async def read_content(self) -> bytes | None:
        """None where the line ended before it did."""
        lines: list[bytes] = []
        self.relay.read = octets = 0
        while (line := await self.reader.readline()) != b".\r\n":
            if not line:
                return None
            lines.append(line.removeprefix(b"."))
            self.relay.read += len(lines[-1])
            before, octets = octets, octets + len(lines[-1])
            if self.relay.in_body is not None and before <= self.relay.body_after < octets:
                await self.relay.in_body()
            if "BODY" in self.relay.script and self.relay.read > self.relay.body_after:
                await self.say("BODY", "")
                if self.relay.script.pop("LEAVE", None):
                    await self.say("LEAVE", DROP)
                del self.relay.script["BODY"]
        return b"".join(lines)

    async def on_rset(self, command: str) -> None:
        self.mail = None
        await self.say("RSET", "250 2.0.0 ok")

    async def on_quit(self, command: str) -> bool:
        await self.say("QUIT", "221 2.0.0 bye")
        return False

    async def on_unknown(self, command: str) -> None:
        await self.say("UNKNOWN", "502 5.5.2 not implemented")


@asynccontextmanager
async def scripted_relay(
    relay: ScriptedRelay | None = None, port: int = 0, *, implicit_tls: bool = False
) -> AsyncIterator[ScriptedRelay]:
    relay = relay or ScriptedRelay()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay.connections += 1
        relay.writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await _Conversation(relay, reader, writer).run()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()  # TLS would wait for the other side's farewell
        finally:
            tasks.discard(task)
            relay.writers.discard(writer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=relay.tls if implicit_tls else None)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
