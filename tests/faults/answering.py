"""How an unruly relay answers: as expected, otherwise but validly, malformed, without end, in part, late or not at all.

The trap: a reply counts as said when its last octet is written, and whoever hears it may act before this code goes on.
"""

import asyncio
import re
from typing import NoReturn

from tests.faults.dealings import Dealing, Line, Record

PATIENCE_S = 0.4
"""About the timeouts of the client: a delay may be shorter or longer."""
TROUBLE = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
"""How many of the answers are not the usual ones: drawn for each mail."""
OPENING = {"BANNER", "EHLO", "STARTTLS", "LOGIN", "AUTH"}
USUAL = {"BANNER": 220, "STARTTLS": 220, "AUTH": 235, "DATA": 354, "QUIT": 221}
ODD = (200, 220, 221, 250, 251, 299, 334, 354, 355, 399)
REFUSALS = (400, 421, 421, 432, 450, 451, 452, 454, 499, 500, 501, 503, 530, 535, 550, 552, 554, 599)
GARBAGE = (
    *(b"hello?\r\n", b"\r\n", b"\n", b"\0\0\0\r\n", b"25\r\n", b"2500 ok\r\n", b"250ok\r\n", b"250_ok\r\n"),
    *(b" 250 ok\r\n", b"-250 ok\r\n", b"099 no\r\n", b"150 wait\r\n", b"600 no\r\n", b"999\r\n", b"\xff\xfe250 ok\r\n"),
    *(b"\xd9\xa2\xd9\xa5\xd9\xa0 ok\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"250-one\r\n\r\n250 two\r\n"),
    *(b"250-one\r\ntwo\r\n", b"250-ok\r\n550 no\r\n", b"550-no\r\n250 ok\r\n", b"354-go\r\n250 on\r\n"),
)
"""None of it is a reply, nor begins with a whole one."""
WORDS = (
    *("ok", "no", "\u00e9\u00e8 \u2603", "x" * 1500, "250 ok", "5.0.0", "queued as 4fXyz12345"),
    *("Daily quota exceeded", "5.7.1 Relaying denied", "4.7.1 Greylisted, try again later", "4.2.2 mailbox full"),
    *("5.1.1 no such user", "too many messages, slow down", "blocked using spamhaus"),
)
WHOLE = re.compile(rb"^[2-5][0-9][0-9](?: [^\n]*)?\r?\n", re.MULTILINE)
"""The last line of a reply."""


class Gone(Exception):
    """The connection is over."""


class Answering:
    def __init__(self, record: Record, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.record, self.random = record, record.random
        self.reader, self.writer = reader, writer
        self.line = Line()
        self.trouble = self.random.choice(TROUBLE)
        self.tells_lies = self.random.random() < 0.25
        self.end = b"\n" if self.random.random() < 0.1 else b"\r\n"
        self.is_chatty = self.random.random() < 0.2
        self.dealing: Dealing | None = None
        self.has_mailed = False
        """While a connection is opened, aiosmtplib takes no notice of what it did not ask for, and stays in step."""
        self.judges = False
        """The next reply is that to a final dot."""

    async def answer(self, moment: str, usual: int | None = None, lines: list[str] | None = None) -> int | None:
        """The code, where it said a valid reply to the end; whatever else it may have said after that."""
        verb = moment.split(" ", maxsplit=1)[0]
        usual, lines = usual or USUAL.get(verb, 250), lines or [self.random.choice(WORDS)]
        trouble = self.trouble * 0.3 if verb in OPENING else self.trouble
        if self.record.calm or self.random.random() >= trouble:
            return self.known(verb, await self.say(usual, lines, moment))
        modes = [self.refuse, self.refuse, self.odd, self.garbage, self.endless, self.vanish, self.half, self.hang]
        modes += [self.late, self.late, self.with_garbage, self.close_after]
        if self.tells_lies:
            modes += [self.omit, self.extra, self.extra]
        mode = self.random.choice(modes)
        self.record.modes[mode.__name__] += 1
        return self.known(verb, await mode(usual, lines, moment))

    def known(self, verb: str, code: int | None) -> int | None:
        """After some answers, no client may offer another mail on this connection."""
        if code is not None and not self.line.lied:
            out_of_step = {
                "MAIL": code // 100 == 3,
                "RCPT": code // 100 == 3,
                "DATA": code // 100 < 4 and code != 354,
                "DOT": code // 100 == 3,
                "RSET": code != 250,
            }
            self.line.spent |= out_of_step.get(verb, False)
        return code

    async def say(self, code: int, lines: list[str], moment: str) -> int:
        await self.write(self.encoded(code, lines, moment), code)
        return code

    async def refuse(self, usual: int, lines: list[str], moment: str) -> int:
        code = await self.say(self.random.choice(REFUSALS), lines, moment)
        if code == 421 and self.random.random() < 0.7:
            self.drop()
        return code

    async def odd(self, usual: int, lines: list[str], moment: str) -> int:
        return await self.say(self.random.choice(ODD), lines, moment)

    async def late(self, usual: int, lines: list[str], moment: str) -> int:
        await asyncio.sleep(self.random.random() * PATIENCE_S * 1.5)
        return await self.say(usual, lines, moment)

    async def close_after(self, usual: int, lines: list[str], moment: str) -> int:
        await self.say(usual, lines, moment)
        self.drop()

    async def garbage(self, usual: int, lines: list[str], moment: str) -> None:
        self.line.spent |= self.has_mailed and not self.line.lied
        await self.write(self.random.choice(GARBAGE))

    async def with_garbage(self, usual: int, lines: list[str], moment: str) -> int:
        await self.write(self.encoded(usual, lines, moment) + self.random.choice(GARBAGE), usual)
        return usual

    async def endless(self, usual: int, lines: list[str], moment: str) -> None:
        self.line.spent |= self.has_mailed and not self.line.lied
        code = b"%d" % usual
        piece = self.random.choice((code + b"-" + b"more " * 20 + b"\r\n", code + b"-\n", b"x" * 1000, b"\0" * 99))
        if b"\n" not in piece:
            await self.write(self.random.choice((b"", code + b" ", code + b"-")), whole=True)
        octets = self.random.choice((70_000, 300_000, 3_000_000))
        for _ in range(octets // len(piece) // 10):
            await self.write(piece * 10, whole=True)

    async def vanish(self, usual: int, lines: list[str], moment: str) -> NoReturn:
        self.drop()

    async def half(self, usual: int, lines: list[str], moment: str) -> NoReturn:
        reply = self.encoded(usual, lines, moment)
        await self.write(reply[: self.random.randrange(reply.rindex(b"\n") - 1)].rsplit(b"\n", 1)[0] or b"2")
        if self.random.random() < 0.5:
            self.drop()
        await self.hang(usual, lines, moment)

    async def hang(self, usual: int, lines: list[str], moment: str) -> NoReturn:
        """Until the client gives up."""
        while await self.reader.read(65536):
            pass
        raise Gone

    async def omit(self, usual: int, lines: list[str], moment: str) -> None:
        self.line.lied = self.line.owes = True

    async def extra(self, usual: int, lines: list[str], moment: str) -> int:
        self.line.lied = True
        other = self.random.choice((250, 354, 450, 550))
        await self.write(self.encoded(usual, lines, moment) + b"%d extra\r\n" % other, usual, other, whole=True)
        if moment == "DOT":
            await self.settle()
            self.line.spent |= not self.line.owes and not self.reader._buffer
        return usual

    async def stray(self) -> None:
        """Something that nobody asked for: a reply, or the beginning of one."""
        self.line.lied = True
        self.record.modes["stray"] += 1
        code = self.random.choice((250, 250, 354, 421, 450, 550))
        reply = b"%d stray\r\n" % code
        if self.random.random() < 0.7:
            await self.write(reply, code)
        else:
            await self.write(reply[: self.random.randrange(1, len(reply))], whole=True)

    async def settle(self) -> None:
        """The client has read what was written, and what it wrote before that has come."""
        for _ in range(2):
            for _ in range(5):
                await asyncio.sleep(0)
            await asyncio.sleep(0.005)

    def encoded(self, code: int, lines: list[str], moment: str) -> bytes:
        """It names the mail and the command that it answers, but for a few that say nothing."""
        if moment not in {"BANNER", "EHLO"}:
            if self.random.random() < 0.05:
                return b"%d" % code + self.random.choice((b"", b" ")) + self.end
            tag = f"[m{self.dealing.mail} {moment}] " if self.dealing is not None else ""
            lines = [tag + line for line in lines] * (self.random.randint(1, 5) if self.is_chatty else 1)
        said = [line.encode() for line in lines]
        if self.is_chatty and moment != "EHLO" and self.random.random() < 0.3:
            said[-1] += b" \xff\xfe\x80"
        start = b"%d" % code
        return b"".join([start + b"-" + line + self.end for line in said[:-1]] + [start + b" " + said[-1] + self.end])

    async def write(self, octets: bytes, *codes: int, whole: bool = False) -> None:
        """In pieces of any size. `codes`: of the whole replies, from the first octet on."""
        ends = [match.end() for match in WHOLE.finditer(octets)][: len(codes)]
        to_come = list(zip(ends, codes, strict=True))
        written = 0
        while written < len(octets):
            if self.writer.transport.is_closing():
                raise Gone
            left = len(octets) - written
            size = left if whole or self.random.random() < 0.7 else self.random.randint(1, left)
            self.writer.write(octets[written : written + size])
            written += size
            while to_come and to_come[0][0] <= written:
                self.said(to_come.pop(0)[1])
            await self.writer.drain()
            await asyncio.sleep(0)  # or it would not notice that the client has gone
            if written < len(octets) and self.random.random() < 0.3:
                await asyncio.sleep(self.random.random() * 0.02)

    def said(self, code: int) -> None:
        if self.dealing is not None:
            self.dealing.said.append(code)
            if self.judges and self.dealing.verdict is None:
                self.dealing.verdict = code

    def drop(self) -> NoReturn:
        if self.random.random() < 0.5:
            self.writer.transport.abort()
        raise Gone
