"""Relays that are odd, and within the law or nearly: they get each mail once, and what they say is understood.

Those that answer for something else are in test_out_of_step.py.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trustme

from mailer.addresses import Address
from mailer.jobs import Phase, Reply
from tests.support.smtp import HANG, ScriptedRelay, scripted_relay
from worker.relays.answers import Answer, Kind, Verdicts
from worker.relays.pool import AGE_S, Pool
from worker.relays.relay import Relay
from worker.relays.timeouts import Timeouts
from worker.relays.transaction import Envelope

CONTENT = b"Subject: Hi\r\n\r\n.\r\n..\r\nHi\r\n"
MANY = 50
WHOLE_S = 20.0
"""Much more than any of these takes, and less than what must not be waited for."""
CLOSE = b"CLOSE"
"""In place of a reply, or at its end: the line is closed, by TLS with its farewell."""


@dataclass
class Odd:
    """`says`: by verb, in place of the usual reply; `end`: of each line; `by_octets`: each of them by itself.
    `shuts`: after which verb's reply it says no more, but would go on listening."""

    says: dict[str, bytes] = field(default_factory=dict)
    offers: tuple[bytes, ...] = (b"PIPELINING",)
    end: bytes = b"\r\n"
    by_octets: bool = False
    shuts: str | None = None
    tls: ssl.SSLContext | None = None
    commands: list[bytes] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    port: int = 0

    def usual(self, verb: str) -> bytes:
        lines = [b"relay.test", *self.offers]
        ehlo = b"".join(b"250%b%b\r\n" % (b"-" if more else b" ", line) for more, line in _with_more(lines))
        return {"BANNER": b"220 relay.test\r\n", "EHLO": ehlo, "DATA": b"354 go on\r\n"}.get(verb, b"250 ok\r\n")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.say(writer, "BANNER")
        while line := await reader.readline():
            self.commands.append(line)
            verb = line.split()[0].partition(b":")[0].decode().upper()
            await self.say(writer, verb)
            if verb == self.shuts:
                writer.write_eof()
                await reader.read()
            elif verb == "DATA":
                self.contents.append(await reader.readuntil(b"\r\n.\r\n"))
                await self.say(writer, "DOT")

    async def say(self, writer: asyncio.StreamWriter, verb: str) -> None:
        said = self.says.get(verb, self.usual(verb))
        octets = said.removesuffix(CLOSE).replace(b"\r\n", self.end)
        for piece in (octets[at : at + 1] for at in range(len(octets))) if self.by_octets else [octets]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if said.endswith(CLOSE):
            writer.close()
            raise ConnectionAbortedError


def _with_more(lines: list[bytes]) -> list[tuple[bool, bytes]]:
    return [(line is not lines[-1], line) for line in lines]


@asynccontextmanager
async def listening(odd: Odd) -> AsyncIterator[None]:
    tasks = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await odd.serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    with socket.socket() as narrow:  # a relay that takes little at a time
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            narrow.setsockopt(socket.SOL_SOCKET, option, 2048)
        narrow.bind(("127.0.0.1", 0))
        odd.port = narrow.getsockname()[1]
        server = await asyncio.start_server(serve, sock=narrow, ssl=odd.tls, limit=1024)
        try:
            yield
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def nothing(_: Mapping[str, Reply]) -> None:
    """Not journaled."""


async def sent(
    odd: Odd,
    recipients: int = 1,
    *,
    domain: str = "example.com",
    login: bool = False,
    ca_file: Path | None = None,
    command_s: float = WHOLE_S,
) -> Verdicts:
    way, user = "none" if odd.tls is None else "implicit", "ada" if login else None
    to = tuple(Address(f"user{number}@{domain}") for number in range(recipients))
    async with asyncio.timeout(WHOLE_S), listening(odd):
        relay = Relay("odd", "127.0.0.1", odd.port, way, user, "secret" if login else None, ca_file=ca_file)
        pool = Pool(relay, replace(Timeouts(), command_s=command_s))
        try:
            return (await pool.send(Envelope(Address("hello@postroom.example"), to, CONTENT), nothing)).verdicts
        finally:
            await pool.close()


def stuffed(content: bytes) -> bytes:
    return content.replace(b"\n.", b"\n..") + b".\r\n"


ODD = {
    "a greeting of many lines": Odd({"BANNER": b"220-hello\r\n" * 100 + b"220 hello\r\n"}),
    "a thousand extensions": Odd(offers=(*(b"XTENSION%d" % number for number in range(1000)), b"PIPELINING")),
    "one octet at a time": Odd(by_octets=True),
    "lines that end in LF": Odd(end=b"\n"),
    "lines that end in CR CR LF": Odd(end=b"\r\r\n"),
    "codes alone": Odd({"MAIL": b"250\r\n", "RCPT": b"250\r\n", "DATA": b"354\r\n", "DOT": b"250\r\n"}),
    "NUL and other octets": Odd({"MAIL": b"250 o\0k\r\n", "RCPT": b"250 \xff\xfe\x1b[0m\r\n", "DOT": b"250 \xe9\r\n"}),
    "251": Odd({"RCPT": b"251 2.1.5 will forward\r\n", "DOT": b"251 ok\r\n"}),
    "252": Odd({"RCPT": b"252 2.1.5 will try\r\n"}),
    "answers of many lines": Odd(dict.fromkeys(("MAIL", "RCPT", "DOT"), b"250-ok\r\n" * 50 + b"250 ok\r\n")),
}


@pytest.mark.parametrize("pipelined", [True, False], ids=["pipelined", "one by one"])
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_each_recipient_is_taken_and_the_content_arrives_as_it_is(odd: Odd, pipelined: bool) -> None:
    offers = odd.offers if pipelined else tuple(offer for offer in odd.offers if offer != b"PIPELINING")
    odd = replace(odd, offers=offers, commands=[], contents=[])
    verdicts = await sent(odd, MANY)
    assert [answer.is_accepted for answer in verdicts.answers.values()] == [True] * MANY
    assert odd.contents == [stuffed(CONTENT)]
    assert sum(command.startswith(b"RCPT") for command in odd.commands) == MANY


async def test_a_relay_that_reads_and_answers_one_command_at_a_time_gets_all_in_one_go() -> None:
    """Neither for ever: its buffers are full long before it has read them all."""
    odd = Odd({"RCPT": b"250-2.1.5 very well\r\n" * 10 + b"250 2.1.5 ok\r\n"})
    verdicts = await sent(odd, MANY, domain=".".join(["a-long-name"] * 15))
    assert all(answer.is_accepted for answer in verdicts.answers.values())
    assert odd.contents == [stuffed(CONTENT)]


@pytest.mark.parametrize(
    ("offer", "mechanism"),
    [(b"AUTH=PLAIN LOGIN", b"PLAIN"), (b"AUTH=LOGIN", b"LOGIN"), (b"auth login plain", b"PLAIN"),
     (b"AUTH  CRAM-MD5  PLAIN", b"PLAIN")],
)  # fmt: skip
async def test_a_login_is_offered_in_whatever_form(offer: bytes, mechanism: bytes) -> None:
    odd = Odd({"AUTH": b"535 5.7.8 No\r\n"}, (offer,))
    verdicts = await sent(odd, login=True)
    assert (verdicts.decisive.phase, verdicts.decisive.reply.code) == (Phase.AUTH, 535)
    assert [command.split()[1] for command in odd.commands if command.startswith(b"AUTH")] == [mechanism]


def seen(answer: Answer) -> tuple[Phase, Kind, int | None]:
    return answer.phase, answer.kind, answer.reply.code


@pytest.mark.parametrize(
    ("odd", "ends"),
    [
        (Odd(shuts="MAIL"), (Phase.RCPT, Kind.DROPPED, None)),
        (Odd(shuts="RCPT"), (Phase.DATA, Kind.DROPPED, None)),
        (Odd({"DATA": b"354 go on\r\n451 4.3.0 Not now\r\n"}), (Phase.DATA, Kind.REPLY, 451)),
        (Odd({"DATA": b"354 go on\r\n421 4.3.2 Closing\r\n" + CLOSE}), (Phase.DATA, Kind.REPLY, 421)),
        (Odd({"EHLO": b"250-relay.test\r\n250-" + CLOSE}), (Phase.EHLO, Kind.DROPPED, None)),
    ],
    ids=["speaks no more after MAIL", "after RCPT", "354 and 451 at once", "354 and 421 at once", "half an EHLO"],
)  # fmt: skip
async def test_who_breaks_off_before_the_dot_has_nothing(odd: Odd, ends: tuple[Phase, Kind, int | None]) -> None:
    odd = replace(odd, commands=[], contents=[])
    assert seen((await sent(odd)).decisive) == ends
    assert odd.contents == []


async def test_a_line_that_ends_in_cr_alone_has_not_ended() -> None:
    decisive = (await sent(Odd({"MAIL": b"250 ok\r"}, (b"8BITMIME",)), command_s=0.3)).decisive
    assert seen(decisive) == (Phase.MAIL, Kind.SILENT, None)


@pytest.mark.parametrize(
    ("verb", "ends"),
    [("MAIL", Phase.MAIL), ("RCPT", Phase.RCPT), ("DATA", Phase.DATA), ("DOT", Phase.DOT)],
)
async def test_a_farewell_of_tls_is_the_end_of_the_line(tmp_path: Path, verb: str, ends: Phase) -> None:
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    odd = Odd({verb: CLOSE}, tls=tls)
    decisive = (await sent(odd, ca_file=tmp_path / "ca.pem")).decisive
    assert seen(decisive) == (ends, Kind.DROPPED, None)


async def test_a_goodbye_that_is_not_answered_is_not_waited_for() -> None:
    """Neither by the next mail, which has a connection of its own, nor in the end."""
    now = 0.0
    relay = ScriptedRelay({"QUIT": [HANG]})
    async with scripted_relay(relay), asyncio.timeout(WHOLE_S):
        place = Relay("first", "127.0.0.1", relay.port, "none", None, None)
        pool = Pool(place, Timeouts(reset_s=3600), monotonic=lambda: now)
        mail = Envelope(Address("hello@postroom.example"), (Address("ada@example.com"),), CONTENT)
        for _ in range(2):
            assert (await pool.send(mail, nothing)).verdicts.accepted
            now += AGE_S
        await pool.close()
        assert (len(relay.received), relay.connections) == (2, 2)
