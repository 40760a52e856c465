"""From a relay's name to a connection that is ready for mail: names, addresses, and what is said at the door."""

import asyncio
import base64
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohappyeyeballs import AddrInfoType

from mailer.jobs import Phase, Status
from tests.integration.conftest import Run
from tests.support.doors import nobody_answers, talker
from tests.support.processes import free_port
from tests.support.smtp import DROP, HANG, ScriptedRelay, scripted_relay
from tests.support.waiting import until
from worker.relays.answers import Answer, Kind, Lost
from worker.relays.opening import Opening, resolve
from worker.relays.relay import Relay
from worker.relays.replies import decide
from worker.relays.timeouts import Timeouts
from worker.relays.transaction import Offers

QUICK = Timeouts(tcp_s=5, banner_s=0.3, ehlo_s=0.3, tls_s=0.3, auth_s=0.3, connect_s=5)
WHOLE_S = 20.0
"""Much more than any of these takes, and less than what must not be waited for."""
IPV4, IPV6 = socket.AF_INET, socket.AF_INET6


def at(port: int, host: str = "127.0.0.1") -> AddrInfoType:
    family = IPV6 if ":" in host else IPV4
    address = (host, port, 0, 0) if family == IPV6 else (host, port)
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)


@dataclass
class Way:
    """To one relay, by addresses that its name is said to have. Its conversation is kept."""

    addresses: Sequence[AddrInfoType]
    relay: Relay = field(default_factory=lambda: Relay("first", "relay.test", 25, "none", None, None))
    tls: ssl.SSLContext | None = None
    timeouts: Timeouts = QUICK
    noted: list[tuple[float, str, bytes | str]] = field(default_factory=list)
    timings: dict[str, int] = field(default_factory=dict)

    async def resolved(self, host: str, port: int) -> Sequence[AddrInfoType]:
        assert (host, port) == (self.relay.host, self.relay.port)
        return self.addresses

    async def offers(self) -> Offers:
        """Raises Lost."""
        opening = Opening(self.relay, self.tls, self.timeouts, self.resolved, self.noted, self.timings)
        async with asyncio.timeout(WHOLE_S):
            wire, offers = await opening.run()
        wire.abort()
        await asyncio.sleep(0)
        return offers

    async def trouble(self) -> Answer:
        with pytest.raises(Lost) as lost:
            await self.offers()
        return lost.value.answer

    @property
    def said(self) -> str:
        return "\n".join(f"{direction} {line!r}" for _, direction, line in self.noted)


@pytest.fixture
async def other() -> AsyncIterator[ScriptedRelay]:
    async with scripted_relay() as server:
        yield server


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Kind.NO_NAME),
        (socket.gaierror(socket.EAI_NODATA, "No address associated"), Kind.NO_NAME),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), Kind.NAME_SERVER),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), Kind.NAME_SERVER),
        (socket.gaierror(socket.EAI_SYSTEM, "System error"), Kind.NAME_SERVER),
        (UnicodeError("label empty or too long"), Kind.NO_NAME),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_name_that_does_not_exist_is_another_trouble_than_a_name_server(error: Exception, kind: Kind) -> None:
    class Nameless(Way):
        async def resolved(self, host: str, port: int) -> Sequence[AddrInfoType]:
            raise error

    way = Nameless([])
    answer = await way.trouble()
    assert (answer.phase, answer.kind, answer.reply.code) == (Phase.CONNECT, kind, None)
    assert "relay.test" in answer.reply.text
    assert answer.reply.text in way.said
    assert decide(answer).then.alert is (kind is Kind.NO_NAME)


async def test_a_host_of_this_machine_is_found() -> None:
    assert {info[4][0] for info in await resolve("127.0.0.1", 25)} == {"127.0.0.1"}
    with pytest.raises((socket.gaierror, UnicodeError)):
        await resolve("a" * 64 + ".example", 25)


async def test_the_relay_is_told_the_name_that_this_machine_has_for_it(relay: ScriptedRelay) -> None:
    known = Relay("first", "relay.test", 25, "none", None, None, ehlo_name="app.acme.example")
    await Way([at(relay.port)], known).offers()
    assert relay.commands == ["EHLO app.acme.example"]


async def test_a_name_server_that_does_not_answer_is_not_waited_for_without_end() -> None:
    class Waiting(Way):
        async def resolved(self, host: str, port: int) -> Sequence[AddrInfoType]:
            await asyncio.sleep(3600)
            return []

    answer = await Waiting([], timeouts=replace(QUICK, connect_s=0.2)).trouble()
    assert (answer.phase, answer.kind) == (Phase.CONNECT, Kind.SILENT)


@pytest.mark.parametrize(
    "script",
    [{"BANNER": [DROP]}, {"BANNER": [HANG]}, {"BANNER": ["hello"]}, {"BANNER": ["421 4.3.2 Busy"]}, {"EHLO": [DROP]},
     {"EHLO": [HANG]}, {"EHLO": ["421 4.3.2 Busy"]}, {"EHLO": ["451 4.3.0 Not now"]}],
    ids=str,
)  # fmt: skip
async def test_where_one_machine_of_a_relay_is_in_trouble_the_next_is_asked_at_once(
    relay: ScriptedRelay, other: ScriptedRelay, script: dict[str, list[str]]
) -> None:
    relay.script |= script
    way = Way([at(relay.port), at(other.port)])
    assert (await way.offers()).pipelining
    assert (relay.connections, other.connections) == (1, 1)
    assert f"connected to 127.0.0.1 port {other.port}" in way.said


async def test_an_address_that_refuses_costs_nothing(other: ScriptedRelay) -> None:
    assert (await Way([at(free_port()), at(other.port)]).offers()).pipelining


async def test_an_address_that_never_answers_does_not_keep_the_next_one_waiting(other: ScriptedRelay) -> None:
    """RFC 8305."""
    patient = replace(QUICK, tcp_s=3600, connect_s=3600)
    with nobody_answers() as port:
        assert (await Way([at(port), at(other.port)], timeouts=patient).offers()).pipelining


async def test_an_address_that_never_answers_is_not_waited_for_without_end() -> None:
    with nobody_answers() as port:
        answer = await Way([at(port)], timeouts=replace(QUICK, tcp_s=0.2)).trouble()
    assert (answer.phase, answer.kind) == (Phase.CONNECT, Kind.UNREACHABLE)
    assert "relay.test:25 did not answer within 0.2 s" in answer.reply.text


@pytest.mark.parametrize("moment", ["BANNER", "EHLO"])
async def test_a_refusal_for_good_is_that_of_the_relay_and_no_other_machine_is_asked(
    relay: ScriptedRelay, other: ScriptedRelay, moment: str
) -> None:
    relay.script[moment] = ["554 5.7.1 Go away"]
    answer = await Way([at(relay.port), at(other.port)]).trouble()
    assert (answer.phase.value.upper(), answer.reply.code, answer.reply.enhanced) == (moment, 554, "5.7.1")
    assert other.connections == 0


async def test_where_every_address_is_in_trouble_the_last_one_tells(relay: ScriptedRelay, other: ScriptedRelay) -> None:
    relay.script["BANNER"], other.script["BANNER"] = [DROP], ["421 4.3.2 Busy"]
    answer = await Way([at(relay.port), at(other.port)]).trouble()
    assert (answer.phase, answer.reply.code) == (Phase.BANNER, 421)
    assert (relay.connections, other.connections) == (1, 1)


async def test_all_addresses_together_have_one_bound(relay: ScriptedRelay, other: ScriptedRelay) -> None:
    relay.script["BANNER"] = other.script["BANNER"] = [HANG]
    way = Way([at(relay.port), at(other.port)], timeouts=replace(QUICK, banner_s=0.4, connect_s=0.6))
    answer = await way.trouble()
    assert (answer.phase, answer.kind, other.connections) == (Phase.BANNER, Kind.SILENT, 1)
    assert answer.reply.text == "Not ready for mail within 0.6 s"


async def test_an_address_that_is_another_one_than_it_says_is_tried_once(relay: ScriptedRelay) -> None:
    """0.0.0.0 is 127.0.0.1 for whoever connects to it."""
    relay.script["BANNER"] = [DROP]
    answer = await Way([at(relay.port, "0.0.0.0")]).trouble()
    assert (answer.kind, relay.connections) == (Kind.DROPPED, 1)


async def test_an_address_of_ipv6_is_one_of_its_addresses(relay: ScriptedRelay) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    assert (await Way([at(free_port(), "::1"), at(relay.port)]).offers()).pipelining


async def test_a_line_that_is_reset_at_once_is_a_relay_in_trouble() -> None:
    """Even where it is gone before anybody could ask where it led."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with talker(reset) as port:
        for _ in range(20):
            answer = await Way([at(port)]).trouble()
            assert answer.phase in {Phase.CONNECT, Phase.BANNER, Phase.EHLO}
            assert answer.kind in {Kind.UNREACHABLE, Kind.DROPPED}


BANNERS = {
    "endless line": b"x" * 100_000,
    "endless lines": b"220-more\r\n" * 20_000,
    "no code": b"hello\r\n",
    "no text": b"\0\xff\r\n",
    "another's": b"250 ok\r\n",
    "a question": b"334 what\r\n",
    "two digits": b"25 x\r\n",
}


@pytest.mark.parametrize("banner", BANNERS.values(), ids=BANNERS)
async def test_a_banner_that_is_none_is_no_refusal(banner: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(banner)
        await reader.read()

    async with talker(talk) as port:
        way = Way([at(port)])
        answer = await way.trouble()
    assert "< '-1" not in way.said, "no relay says what aiosmtplib makes of it"
    assert (answer.phase, answer.reply.code) == (Phase.BANNER, None)
    assert answer.kind in {Kind.OUT_OF_STEP, Kind.DROPPED, Kind.SILENT}
    assert decide(answer).row == "no_connection"


@pytest.mark.parametrize(
    ("offered", "offers"),
    [
        ([], Offers()),
        (["PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 1000"], Offers(True, True, True, 1000)),
        (["pipelining", "8bitmime", "SmtpUtf8", "size 1000"], Offers(True, True, True, 1000)),
        (["SIZE"], Offers(size=0)),
        (["SIZE 0"], Offers(size=0)),
        (["SIZE many"], Offers(size=0)),
        (["SIZE -1"], Offers(size=0)),
        (["SIZE 1 2"], Offers(size=0)),
        (["SIZE 99999999999999999999"], Offers(size=99999999999999999999)),
        (["SIZE " + "9" * 5000], Offers(size=0)),
        (["XPIPELINING", "PIPELINING-NOT"], Offers()),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
async def test_what_is_offered_is_understood_however_it_is_written(
    relay: ScriptedRelay, offered: list[str], offers: Offers
) -> None:
    relay.extensions = offered
    assert await Way([at(relay.port)]).offers() == offers


async def test_words_that_are_no_utf8_are_kept_as_far_as_they_are(make_run: Callable[..., Run]) -> None:
    """From the greeting to the record of the attempt."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write("220 Grüße aus Köln\r\n".encode("latin-1"))
        await reader.readline()
        writer.write("554 5.7.1 Nicht für Sie\r\n".encode("latin-1"))
        await reader.read()

    async with talker(talk) as port:
        run = make_run(smtp_url=f"smtp://127.0.0.1:{port}?tls=none")
        job = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi\n"}
        view = await run.once(await run.submit(job))
    (attempt,) = view.attempts
    assert (view.job.status, attempt.reply.code, attempt.reply.text) == (Status.DEFERRED, 554, "Nicht f?r Sie")
    assert any("Gr??e aus K?ln" in line for line in attempt.conversation)


# With TLS and a password

USER, PASSWORD = "ada", "correct horse"
FORMS = (
    PASSWORD,
    base64.b64encode(PASSWORD.encode()).decode(),
    base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode(),
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secured(authority: trustme.CA, tmp_path: Path) -> Callable[..., tuple[ScriptedRelay, Way]]:
    """A relay with TLS from the start, and the way to it with a password."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    def make(script: dict[str, list[str]], *extensions: str) -> tuple[ScriptedRelay, Way]:
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("relay.test").configure_cert(server)
        host = Relay("first", "relay.test", 465, "implicit", USER, PASSWORD, ca_file=tmp_path / "ca.pem")
        relay = ScriptedRelay(script, list(extensions or ["AUTH PLAIN LOGIN"]), server)
        return relay, Way([], host, host.tls_context(), replace(QUICK, banner_s=5, auth_s=5))

    return make


@pytest.mark.parametrize("reply", ["250 2.0.0 ok", "334 ", "334 UGFzc3dvcmQ6", "220 hm", "235-one\r\n250 two", "what"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_an_answer_to_auth_that_is_none_says_nothing_of_the_password(
    secured: Any, reply: str, mechanism: str
) -> None:
    relay, way = secured({"AUTH": [reply], "QUIT": [HANG]}, f"AUTH {mechanism}")
    async with scripted_relay(relay, implicit_tls=True):
        way.addresses = [at(relay.port)]
        answer = await way.trouble()
    assert (answer.phase, answer.kind, answer.reply.code) == (Phase.AUTH, Kind.OUT_OF_STEP, None)
    assert decide(answer).row == "no_answer_to_auth"
    assert sum(command.startswith("AUTH") for command in relay.commands) == 1


@pytest.mark.parametrize("code", ["535 5.7.8 You said", "501 5.5.4 Cannot decode", "334 go on with"])
@pytest.mark.parametrize("form", FORMS)
async def test_a_relay_that_repeats_the_password_is_not_quoted(secured: Any, code: str, form: str) -> None:
    relay, way = secured({"AUTH": [f"{code} {form}!"]})
    async with scripted_relay(relay, implicit_tls=True):
        way.addresses = [at(relay.port)]
        answer = await way.trouble()
    assert "***!" in answer.reply.text
    assert "***!" in way.said
    assert not [each for each in FORMS if each in way.said + answer.reply.text]


async def test_a_password_is_said_once_and_noted_never(secured: Any) -> None:
    relay, way = secured({}, "AUTH CRAM-MD5 LOGIN PLAIN")
    async with scripted_relay(relay, implicit_tls=True):
        way.addresses = [at(relay.port)]
        await way.offers()
    assert [command for command in relay.commands if command.startswith("AUTH")] == [f"AUTH PLAIN {FORMS[2]}"]
    assert "> 'AUTH PLAIN ***'" in way.said
    assert not [each for each in FORMS if each in way.said]


@pytest.mark.parametrize("prompts", [("VXNlcm5hbWU6", "UGFzc3dvcmQ6"), ("", ""), ("dXNlcjo=", "cGFzczo=")], ids=str)
async def test_a_relay_that_offers_only_login_is_told_the_user_and_the_password_where_it_asks_for_them(
    secured: Any, prompts: tuple[str, str]
) -> None:
    """Some take no user with the command: they would have taken the password for it, and written it to their logs."""
    user, password = prompts
    relay, way = secured({"AUTH LOGIN": [f"334 {user}"], "AUTH USER": [f"334 {password}"]}, "AUTH LOGIN CRAM-MD5")
    async with scripted_relay(relay, implicit_tls=True):
        way.addresses = [at(relay.port)]
        await way.offers()
    encoded = [base64.b64encode(each.encode()).decode() for each in (USER, PASSWORD)]
    assert relay.commands[-3:] == ["AUTH LOGIN", *encoded]
    assert not [each for each in (*FORMS, encoded[0]) if each in way.said]


@pytest.mark.parametrize("moment", ["AUTH LOGIN", "AUTH USER"])
@pytest.mark.parametrize("reply", ["235 2.7.0 in already", "250 ok", "what"])
async def test_a_login_that_is_over_before_the_password_was_asked_for_is_none(
    secured: Any, moment: str, reply: str
) -> None:
    relay, way = secured({moment: [reply]}, "AUTH LOGIN")
    async with scripted_relay(relay, implicit_tls=True):
        way.addresses = [at(relay.port)]
        answer = await way.trouble()
    assert (answer.phase, answer.kind) == (Phase.AUTH, Kind.OUT_OF_STEP)
    assert FORMS[1] not in relay.commands


async def test_logins_that_fail_leave_nothing_behind(secured: Any) -> None:
    """A socket that is closed under a transport, which waits for TLS to end, would be another connection's by then."""
    relay, way = secured({"AUTH": ["535 5.7.8 No"]})
    loop, troubles = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: troubles.append(context))
    try:
        async with scripted_relay(relay, implicit_tls=True), scripted_relay() as plain:
            way.addresses = [at(relay.port)]

            async def failing() -> None:
                for _ in range(10):
                    assert (await replace(way, noted=[]).trouble()).reply.code == 535

            async def succeeding() -> None:
                for _ in range(10):
                    assert (await Way([at(plain.port)]).offers()).pipelining

            await asyncio.gather(*(failing() for _ in range(3)), *(succeeding() for _ in range(3)))
            await until(lambda: _all_gone(relay), what="the end of each connection")
    finally:
        loop.set_exception_handler(None)
    assert troubles == []


async def _all_gone(relay: ScriptedRelay) -> bool:
    return not relay.writers


@contextmanager
def asking_for_a_certificate(authority: trustme.CA, version: ssl.TLSVersion, *, implicit: bool) -> Iterator[int]:
    """The port of a server that says by an alert what it misses, as OpenSSL does and asyncio does not."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("relay.test").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode, context.maximum_version = ssl.CERT_REQUIRED, version

    def serve() -> None:
        connection, _ = server.accept()
        connection.settimeout(WHOLE_S)
        with connection:
            for said in () if implicit else (b"220 relay.test", b"250-relay.test\r\n250 STARTTLS", b"220 go on"):
                connection.sendall(said + b"\r\n")
                if said != b"220 go on":
                    connection.recv(1000)
            handshake = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            with contextlib.suppress(OSError):
                handshake.do_handshake()
            with contextlib.suppress(OSError):  # what the client says meanwhile is read: else it would lose the alert
                raw = socket.socket(fileno=handshake.detach())
                with raw:
                    raw.shutdown(socket.SHUT_WR)
                    while raw.recv(1000):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(WHOLE_S)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "TLS from the start"])
@pytest.mark.parametrize("shown", ["none", "a stranger's", "one that is over"])
async def test_a_relay_that_does_not_take_our_certificate_is_told_as_trouble_with_tls(
    secured: Any, authority: trustme.CA, tmp_path: Path, shown: str, implicit: bool, version: ssl.TLSVersion
) -> None:
    """With TLS 1.3 it says so only after the handshake, which seemed to have gone well. Somebody has to be told; only
    TLS 1.2 has no word for a certificate that is missing."""
    _, way = secured({})
    past = datetime(2020, 1, 1, tzinfo=UTC)
    if shown != "none":
        ours = trustme.CA().issue_cert("us") if "stranger" in shown else authority.issue_cert("us", not_after=past)
        ours.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
        way.relay = replace(way.relay, cert_file=tmp_path / "own.pem")
        way.tls = way.relay.tls_context()
    way.relay = replace(way.relay, tls="implicit" if implicit else "starttls")
    way.timeouts = replace(way.timeouts, tls_s=5, ehlo_s=5)
    with asking_for_a_certificate(authority, version, implicit=implicit) as port:
        way.addresses = [at(port)]
        answer = await way.trouble()
    is_told = shown != "none" or version is ssl.TLSVersion.TLSv1_3
    assert (answer.phase, answer.kind) == (Phase.TLS, Kind.OURS_REFUSED if is_told else Kind.HANDSHAKE)
    assert ("does not accept our certificate" in answer.reply.text, decide(answer).then.alert) == (is_told, is_told)
    assert "AUTH" not in way.said


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "TLS from the start"])
async def test_what_is_no_tls_is_told_as_such(secured: Any, implicit: bool) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not implicit:
            writer.write(b"220 relay.test\r\n")
            await reader.readline()
            writer.write(b"250-relay.test\r\n250 STARTTLS\r\n")
            await reader.readline()
            writer.write(b"220 go on\r\n")
        await reader.read(1)
        writer.write(b"220 I speak no TLS at all, and say so\r\n")
        await reader.read()

    _, way = secured({})
    way.relay = replace(way.relay, tls="implicit" if implicit else "starttls")
    async with talker(talk) as port:
        way.addresses = [at(port)]
        answer = await way.trouble()
    assert (answer.phase, answer.kind) == (Phase.TLS, Kind.HANDSHAKE)


async def test_what_is_said_before_tls_begins_is_forgotten_with_it(secured: Any) -> None:
    """Whoever stands between could have said it (RFC 3207 6)."""
    relay, way = secured({"STARTTLS": ["220 go on\r\n250-injected\r\n250 PIPELINING"]}, "STARTTLS", "8BITMIME")
    way.relay = replace(way.relay, tls="starttls", username=None, password=None)
    async with scripted_relay(relay):
        way.addresses = [at(relay.port)]
        offers = await way.offers()
    assert (offers.pipelining, offers.eightbitmime) == (False, True)
