"""A relay that answers as it pleases: what it listens to, offers and takes. How it answers is in answering.py."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import NoReturn

from tests.faults.answering import GARBAGE, PATIENCE_S, REFUSALS, TROUBLE, Answering, Gone
from tests.faults.dealings import Dealing, Record

FAREWELL_S = 0.3
"""How long it waits for the end of TLS."""
SIZES = ("SIZE", "SIZE 0", "SIZE 35882577", "SIZE=1000000", "SIZE 99999999999999999999999")
BAD_SIZES = ("SIZE 1000", "SIZE many", "SIZE -1")


class UnrulyRelay(Answering):
    """One connection to it."""

    tls: ssl.SSLContext | None = None
    """For STARTTLS."""

    async def run(self) -> NoReturn:
        await self.answer("BANNER")
        while True:
            line = await self.command()
            verb = line.split(b" ")[0].strip().lower().decode("latin-1")
            await getattr(self, f"on_{verb}", self.on_unknown)(line.strip())

    async def command(self) -> bytes:
        """While it waits for one, it may say something."""
        reading = asyncio.create_task(self.reader.readline())
        try:
            if self.tells_lies and not self.record.calm and self.random.random() < 0.3:
                await asyncio.wait({reading}, timeout=self.random.choice((0, 0, 0.001, 0.01, 0.1)))
                if not reading.done():
                    await self.stray()
                    await self.settle()
                    self.line.spent |= self.has_mailed and not self.line.owes and not reading.done()
            line = await reading
        finally:
            reading.cancel()
        if not line.endswith(b"\n"):
            raise Gone
        return line

    async def on_ehlo(self, line: bytes) -> None:
        some, pick = self.random.random, self.random.choice
        offers = ["relay.test"]
        offers += ["PIPELINING"] if some() < 0.6 else []
        offers += ["8bitmime"] if some() < 0.5 else []
        offers += ["SMTPUTF8"] if some() < 0.7 else []
        offers += [pick(SIZES if self.record.calm else SIZES + BAD_SIZES)] if some() < 0.5 else []
        if self.record.calm or some() < 0.9:
            offers.append(pick(("AUTH PLAIN LOGIN", "AUTH LOGIN PLAIN CRAM-MD5", "AUTH LOGIN")))
        if self.tls is not None and (self.record.calm or some() < 0.97):
            offers.append("STARTTLS")
        await self.answer("EHLO", lines=offers)

    async def on_starttls(self, line: bytes) -> None:
        if await self.answer("STARTTLS") == 220 and self.tls is not None:
            await self.writer.start_tls(self.tls)

    async def on_auth(self, line: bytes) -> None:
        for _ in ("user", "password") if line.upper().startswith(b"AUTH LOGIN") else ():
            if await self.answer("LOGIN", 334) != 334:
                return
            await self.reader.readline()
        await self.answer("AUTH")

    async def on_mail(self, line: bytes) -> None:
        if self.line.spent:
            self.record.misuse.append(f"a mail on a connection that was spent: {line!r}")
        self.has_mailed = True
        self.trouble = self.random.choice(TROUBLE)
        number = line.partition(b"<m")[2].partition(b"@")[0]
        self.dealing = Dealing(self.line, int(number) if number.isdigit() else -1)
        self.record.dealings.append(self.dealing)
        code = await self.answer("MAIL")
        self.dealing.is_open = code is not None and code // 100 == 2

    async def on_rcpt(self, line: bytes) -> None:
        email = line.partition(b"<")[2].rpartition(b">")[0].decode("latin-1")
        dealing = self.dealing
        if dealing is None or not dealing.is_open:
            await self.answer(f"RCPT {email}", self.random.choice((503, 554, 550)))
            return
        is_wanted = self.record.calm or self.random.random() < 0.9
        code = await self.answer(f"RCPT {email}", 250 if is_wanted else self.random.choice(REFUSALS))
        if code is not None and code // 100 == 2:
            dealing.taken.append(email)

    async def on_data(self, line: bytes) -> None:
        """It may ask for content though nobody is left to get it (RFC 2920 3.1)."""
        dealing = self.dealing
        if dealing is None or not dealing.is_open:
            usual = self.random.choice((503, 554))
        else:
            usual = 354 if dealing.taken else self.random.choice((503, 554, 354))
        if await self.answer("DATA", usual) != 354:
            return
        await self.content(dealing)
        if dealing is not None:
            dealing.is_open = False

    async def content(self, dealing: Dealing | None) -> None:
        if dealing is not None and not self.line.lied:  # what a liar said before may be heard as what it says after
            dealing.said.clear()
        is_rude = not self.record.calm and self.random.random() < 0.15
        early_after = self.random.choice((20, 300, 20_000, 200_000)) if is_rude else None
        lines, octets = list[bytes](), 0
        while (line := await self.reader.readline()) != b".\r\n":
            if not line.endswith(b"\n"):
                raise Gone
            lines.append(line.removeprefix(b"."))
            octets += len(line)
            if early_after is not None and octets > early_after:
                early_after = None
                await self.early(dealing)
        if dealing is None or not lines:
            await self.answer("LONE DOT", self.random.choice((554, 250)))
            return
        dealing.content = b"".join(lines)
        if dealing.is_barred:
            self.record.misuse.append(f"m{dealing.mail}: a final dot though something was said before it: {dealing}")
        self.judges = True
        if dealing.early is None:
            await self.answer("DOT")
        elif self.random.random() < 0.5:
            await self.say(dealing.early, ["as before"], "DOT")
        self.judges = False

    async def early(self, dealing: Dealing | None) -> None:
        """In the midst of the content: a refusal, nonsense, the end, a stall, or a lie."""
        kind = self.random.choice(("refusal", "refusal", "garbage", "drop", "stall", "pause", "stray"))
        self.record.modes[f"early {kind}"] += 1
        match kind:
            case "refusal" if dealing is not None:
                dealing.early = self.random.choice(REFUSALS)
                await self.write(self.encoded(dealing.early, ["early"], "DATA"))
                await self.heard_before_the_dot(dealing)
            case "garbage":
                self.line.spent |= not self.line.lied
                await self.write(self.random.choice(GARBAGE))
                await self.heard_before_the_dot(dealing)
            case "drop":
                self.drop()
            case "stall":
                await asyncio.sleep(PATIENCE_S * 4)
            case "pause":
                await asyncio.sleep(self.random.random() * PATIENCE_S)
            case _ if self.tells_lies:
                await self.stray()
                await self.heard_before_the_dot(dealing)

    async def heard_before_the_dot(self, dealing: Dealing | None) -> None:
        """Where the client is in its journal by then, or not even there."""
        await self.settle()
        if dealing is not None and not self.line.owes:
            dealing.is_barred = dealing.mail not in self.record.past_journal

    async def on_rset(self, line: bytes) -> None:
        self.dealing = None
        await self.answer("RSET")

    async def on_quit(self, line: bytes) -> NoReturn:
        await self.answer("QUIT")
        raise Gone

    async def on_unknown(self, line: bytes) -> None:
        await self.answer("UNKNOWN", 502)


async def _end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, TimeoutError, asyncio.CancelledError):
        async with asyncio.timeout(FAREWELL_S):
            await writer.wait_closed()
    writer.transport.abort()


@asynccontextmanager
async def unruly_relay(
    random: Random, tls: ssl.SSLContext | None = None, *, implicit: bool = False
) -> AsyncIterator[Record]:
    record = Record(random)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        record.connections += 1
        task = asyncio.current_task()
        assert task is not None
        record.open.add(task)
        connection = UnrulyRelay(record, reader, writer)
        connection.tls = None if implicit else tls
        try:
            await connection.run()
        except (Gone, OSError, asyncio.CancelledError):
            pass
        except RuntimeError as error:  # uvloop's word for a connection that is lost
            if "handler is closed" not in str(error):
                record.misuse.append(f"it failed itself: {error!r}")
        except Exception as error:  # noqa: BLE001 - a fault of the test shows as one
            record.misuse.append(f"it failed itself: {error!r}")
        finally:
            await _end(writer)
            record.open.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls if implicit else None)
    record.port = server.sockets[0].getsockname()[1]
    try:
        yield record
    finally:
        server.close()
        for task in list(record.open):
            task.cancel()
        await asyncio.gather(*record.open, return_exceptions=True)
        await server.wait_closed()
