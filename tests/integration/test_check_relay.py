"""A relay that is tried out: each step is told, what is wrong in words with its fix, and no mail is ever begun."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from cli.check_queue import Shared
from cli.check_relay import relay_section
from cli.findings import Finding, Section, State
from cli.resolving import resolve
from mailer.jobs import Phase, Reply
from mailer.relays import OpenedBy, RelayState, Trouble
from mailer.store.relays import KnownRelay
from tests.support.smtp import DROP, HANG, ScriptedRelay, scripted_relay
from worker.relays.inspection import Inspection, inspect
from worker.relays.relay import Relay, describe, relays_from
from worker.relays.timeouts import Timeouts
from worker.settings import WorkerProcessSettings

OFFERS = ["PIPELINING", "8BITMIME", "SIZE 35882577", "AUTH PLAIN LOGIN"]
WITH_TLS = [*OFFERS, "STARTTLS"]
LOGIN = {"username": "ada", "password": "hunter2"}
QUICK = Timeouts(tcp_s=2, banner_s=0.3, ehlo_s=0.3, auth_s=0.3)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Acme Root")


@pytest.fixture
def folder(tmp_path: Path, authority: trustme.CA) -> Path:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "stranger.pem")
    authority.issue_cert("postroom.example").private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    trustme.CA().issue_cert("postroom.example").private_key_and_cert_chain_pem.write_to_path(tmp_path / "foreign.pem")
    return tmp_path


def showing(authority: trustme.CA, *names: str, **certificate: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("localhost",)), **certificate).configure_cert(context)
    return context


def relay_at(folder: Path, url: str, **options: str) -> Relay:
    file = folder / "postroom.toml"
    lines = [f'{name} = "{value}"' for name, value in options.items()]
    file.write_text("\n".join(["[[relays]]", f'url = "{url}"', 'name = "it"', *lines]))
    (relay,) = relays_from(WorkerProcessSettings.load({"POSTROOM_CONFIG": str(file)}))
    return relay


async def looked_at(
    folder: Path, server: ScriptedRelay, *, url: str = "smtp://localhost:{port}", implicit: bool = False, **options: str
) -> tuple[Relay, Inspection]:
    async with scripted_relay(server, implicit_tls=implicit):
        relay = relay_at(folder, url.format(port=server.port), **options)
        seen = await inspect(relay, resolve, QUICK)
    assert not any(command.startswith(("MAIL", "RCPT", "DATA")) for command in server.commands)
    return relay, seen


def section(relay: Relay, seen: Inspection, shared: Shared | None = None) -> Section:
    return relay_section(relay, seen, shared or Shared(), time.time())


def places(found: Section) -> list[str]:
    return [f"{finding.state} {finding.name}" for finding in found.findings]


def trouble(found: Section) -> Finding:
    """The only one that is not ok."""
    (finding,) = (finding for finding in found.findings if finding.state is not State.OK)
    return finding


@pytest.mark.parametrize(("scheme", "implicit"), [("smtp", False), ("smtps", True)])
async def test_a_relay_that_is_well_is_told_step_by_step(
    folder: Path, authority: trustme.CA, scheme: str, implicit: bool
) -> None:
    server = ScriptedRelay(extensions=OFFERS if implicit else WITH_TLS, tls=showing(authority))
    url = f"{scheme}://localhost:{{port}}"
    relay, seen = await looked_at(folder, server, url=url, implicit=implicit, ca_file="ca.pem", **LOGIN)
    found = section(relay, seen)
    steps = ["tls", "banner", "ehlo", "login"] if implicit else ["banner", "ehlo", "tls", "login"]
    assert places(found) == [f"ok {name}" for name in ("name", "connection", *steps, "offers")]
    told = {finding.name: finding.detail for finding in found.findings}
    assert "127.0.0.1" in told["name"]
    assert told["connection"] == f"127.0.0.1 port {server.port}"
    assert told["banner"] == "220 relay.test ESMTP"
    assert told["tls"].startswith("TLS 1.3, certificate for localhost until ")
    assert told["login"] == "as ada by AUTH PLAIN"
    assert told["offers"] == "mails up to 35.9 MB, PIPELINING, 8BITMIME; not SMTPUTF8"
    assert server.commands[-1] == "QUIT"
    facts = found.facts
    assert (facts["size"], facts["mechanism"], facts["tls_version"]) == (35882577, "PLAIN", "TLSv1.3")
    assert "hunter2" not in f"{found}"


async def test_a_relay_without_tls_a_limit_or_a_login_is_well(folder: Path) -> None:
    relay, seen = await looked_at(folder, ScriptedRelay(extensions=[]), url="smtp://127.0.0.1:{port}?tls=none")
    found = section(relay, seen)
    assert places(found) == ["ok connection", "ok banner", "ok ehlo", "ok tls", "ok login", "ok offers"]
    assert found.findings[-1].detail == "no limit of size told; not PIPELINING, 8BITMIME, SMTPUTF8"


async def test_a_login_by_prompts_is_told_as_such(folder: Path, authority: trustme.CA) -> None:
    server = ScriptedRelay(extensions=["AUTH LOGIN"], tls=showing(authority))
    relay, seen = await looked_at(
        folder, server, url="smtps://localhost:{port}", implicit=True, ca_file="ca.pem", **LOGIN
    )
    told = {finding.name: finding.detail for finding in section(relay, seen).findings}
    assert told["login"] == "as ada by AUTH LOGIN"


async def test_login_is_tried_once_whatever_comes_of_it(folder: Path, authority: trustme.CA) -> None:
    server = ScriptedRelay(extensions=WITH_TLS, tls=showing(authority), script={"AUTH": ["535 5.7.8 Wrong"]})
    await looked_at(folder, server, ca_file="ca.pem", **LOGIN)
    assert sum(command.startswith("AUTH") for command in server.commands) == 1


async def test_a_quit_that_hangs_changes_nothing(folder: Path) -> None:
    server = ScriptedRelay(script={"QUIT": [HANG]})
    relay, seen = await looked_at(folder, server, url="smtp://127.0.0.1:{port}?tls=none")
    assert section(relay, seen).state is State.OK


@pytest.mark.parametrize(
    ("moment", "reply", "place", "what", "fix"),
    [
        ("BANNER", "554 5.7.1 You are listed", "banner", "turns us away: 554 5.7.1 You are listed", "address let in"),
        ("BANNER", "421 4.7.0 Too many connections", "banner", "for now: 421 4.7.0 Too many", "Try again later"),
        ("BANNER", DROP, "banner", "hangs up at once", "its log says why"),
        ("BANNER", HANG, "banner", "says nothing", "Correct host and port"),
        ("BANNER", "SSH-2.0-OpenSSH_9.6", "banner", "no SMTP server", "Correct host and port"),
        ("EHLO", "550 5.7.1 Bad name", "ehlo", f"does not like our EHLO {socket.gethostname()}", "`ehlo_name`"),
        ("EHLO", "421 Busy", "ehlo", "for now: 421 Busy", "Try again later"),
        ("EHLO", DROP, "ehlo", "breaks off at EHLO", "its log says why"),
        ("STARTTLS", "454 4.7.0 Not now", "tls", "then refuses it: 454 4.7.0 Not now", "its log says why"),
        ("STARTTLS", DROP, "tls", "", "openssl s_client"),
        ("AUTH", "535 5.7.8 Wrong", "login", "refuses user ada: 535 5.7.8 Wrong", "Correct user and password"),
        ("AUTH", "534 5.7.9 App password", "login", "534 5.7.9 App password", "app passwords"),
        ("AUTH", "530 5.7.0 No", "login", "refuses user ada: 530 5.7.0 No", "Correct user and password"),
        ("AUTH", "454 4.7.0 Later", "login", "for now: 454 4.7.0 Later", "Try again later"),
        ("AUTH", DROP, "login", "hangs up on user ada", "wrong one"),
        ("AUTH", HANG, "login", "", "its log says why"),
    ],
)
async def test_where_a_conversation_breaks_off_it_is_said_why_and_what_to_do(
    folder: Path, authority: trustme.CA, moment: str, reply: str, place: str, what: str, fix: str
) -> None:
    server = ScriptedRelay(extensions=WITH_TLS, tls=showing(authority), script={moment: [reply]})
    relay, seen = await looked_at(folder, server, ca_file="ca.pem", **LOGIN)
    found = section(relay, seen)
    ill = trouble(found)
    assert (ill.state, ill.name) == (State.BROKEN, place)
    assert what in ill.detail
    assert fix in (ill.fix or "")
    assert "hunter2" not in f"{found}"
    steps = ["name", "connection", "banner", "ehlo", "tls", "login"]
    assert [finding.name for finding in found.findings] == steps[: steps.index(place) + 1]


@pytest.mark.parametrize(
    ("certificate", "options", "what", "fix"),
    [
        (
            {"not_before": datetime.now(UTC) - 30 * DAY, "not_after": datetime.now(UTC) - 3 * DAY},
            {"ca_file": "ca.pem"},
            "expired on",
            "renewed",
        ),
        (
            {"not_before": datetime.now(UTC) + DAY, "not_after": datetime.now(UTC) + 90 * DAY},
            {"ca_file": "ca.pem"},
            "valid from",
            "clock",
        ),
        ({}, {}, "does not know Acme Root", "`ca_file`"),
        ({}, {"ca_file": "stranger.pem"}, "does not vouch for its certificate, which Acme Root", "into the file"),
    ],
    ids=["expired", "not yet valid", "unknown authority", "not in ca_file"],
)
@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
async def test_a_certificate_that_is_not_believed_is_told_by_what_is_in_it(
    folder: Path,
    authority: trustme.CA,
    implicit: bool,
    certificate: dict[str, Any],
    options: dict[str, str],
    what: str,
    fix: str,
) -> None:
    server = ScriptedRelay(extensions=OFFERS if implicit else WITH_TLS, tls=showing(authority, **certificate))
    url = "smtps://localhost:{port}" if implicit else "smtp://localhost:{port}"
    relay, seen = await looked_at(folder, server, url=url, implicit=implicit, **options, **LOGIN)
    ill = trouble(section(relay, seen))
    assert (ill.state, ill.name) == (State.BROKEN, "tls")
    assert what in ill.detail
    assert fix in (ill.fix or "")
    assert not any(command.startswith("AUTH") for command in server.commands), "over what is not believed"


async def test_a_certificate_for_another_host_says_for_which(folder: Path, authority: trustme.CA) -> None:
    server = ScriptedRelay(extensions=WITH_TLS, tls=showing(authority, "mail.acme.example", "*.mail.acme.example"))
    relay, seen = await looked_at(folder, server, ca_file="ca.pem", **LOGIN)
    said = "Its certificate is for mail.acme.example, *.mail.acme.example, not for localhost."
    assert trouble(section(relay, seen)).detail == said


async def test_a_certificate_of_its_own_is_an_unknown_authority(folder: Path) -> None:
    server = ScriptedRelay(extensions=WITH_TLS, tls=showing(trustme.CA(organization_name="Itself")))
    relay, seen = await looked_at(folder, server)
    assert "does not know Itself" in trouble(section(relay, seen)).detail


@pytest.mark.parametrize(("days", "state"), [(13, State.WARNING), (15, State.OK)])
async def test_a_certificate_that_ends_within_two_weeks_is_a_warning(
    folder: Path, authority: trustme.CA, days: int, state: State
) -> None:
    server = ScriptedRelay(extensions=WITH_TLS, tls=showing(authority, not_after=datetime.now(UTC) + days * DAY))
    relay, seen = await looked_at(folder, server, ca_file="ca.pem", **LOGIN)
    found = section(relay, seen)
    assert found.state is state
    (tls,) = (finding for finding in found.findings if finding.name == "tls")
    assert ("it ends in 12 days" in tls.detail) is (state is State.WARNING)


@pytest.mark.parametrize("login", [{}, LOGIN], ids=["no login", "a login"])
async def test_no_starttls_names_the_ports_that_have_tls(folder: Path, login: dict[str, str]) -> None:
    relay, seen = await looked_at(folder, ScriptedRelay(extensions=OFFERS), **login)
    ill = trouble(section(relay, seen))
    assert ill.name == "tls"
    assert "smtp://localhost:587, else smtps://localhost:465" in (ill.fix or "")
    assert ("?tls=none" in (ill.fix or "")) is (not login), "a password never travels in clear"


async def test_tls_from_the_start_where_smtp_is_written_is_found_out(folder: Path, authority: trustme.CA) -> None:
    server = ScriptedRelay(extensions=OFFERS, tls=showing(authority))
    relay, seen = await looked_at(folder, server, implicit=True, **LOGIN)
    ill = trouble(section(relay, seen))
    assert (ill.name, (ill.fix or "")[:37]) == ("banner", "Write smtps:// in place of smtp:// in")
    assert server.commands in (
        [],
        ["EHLO"],
        [command for command in server.commands if command.startswith(("EHLO", "QUIT"))],
    )


@pytest.mark.parametrize(
    ("extensions", "what"),
    [(WITH_TLS, "it offers STARTTLS"), (OFFERS, "speaks no TLS at all")],
    ids=["starttls", "no tls"],
)
async def test_smtps_where_tls_comes_later_is_found_out(
    folder: Path, authority: trustme.CA, extensions: list[str], what: str
) -> None:
    server = ScriptedRelay(extensions=extensions, tls=showing(authority))
    relay, seen = await looked_at(folder, server, url="smtps://localhost:{port}", **LOGIN)
    ill = trouble(section(relay, seen))
    assert ill.name == "tls"
    assert what in ill.detail
    assert "smtp" in (ill.fix or "")
    assert not any(command.startswith("AUTH") for command in server.commands), "without TLS"


@pytest.mark.parametrize(
    ("offered", "what", "fix"),
    [
        (["AUTH XOAUTH2 CRAM-MD5"], "but XOAUTH2, CRAM-MD5", "password switched on"),
        ([], "offers no AUTH", "mostly 587"),
    ],
    ids=["others", "none"],
)
async def test_a_login_that_is_not_offered_is_told(
    folder: Path, authority: trustme.CA, offered: list[str], what: str, fix: str
) -> None:
    server = ScriptedRelay(extensions=["STARTTLS", *offered], tls=showing(authority))
    relay, seen = await looked_at(folder, server, ca_file="ca.pem", **LOGIN)
    ill = trouble(section(relay, seen))
    assert ill.name == "login"
    assert what in ill.detail
    assert fix in (ill.fix or "")


@contextmanager
def _handshakes(context: ssl.SSLContext) -> Iterator[int]:
    """A server that does no more than shake hands, and says by an alert what it misses. Its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    try:
                        context.wrap_socket(connection, server_side=True).close()
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2], ids=["TLS 1.3", "TLS 1.2"])
async def test_a_relay_that_does_not_take_our_certificate_says_so(
    folder: Path, authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    context = showing(authority)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = version
    with _handshakes(context) as port:
        foreign = relay_at(folder, f"smtps://localhost:{port}", ca_file="ca.pem", cert_file="foreign.pem")
        ill = trouble(section(foreign, await inspect(foreign, resolve, QUICK)))
        none = relay_at(folder, f"smtps://localhost:{port}", ca_file="ca.pem")
        unshown = trouble(section(none, await inspect(none, resolve, QUICK)))
    assert (ill.name, ill.detail[:46]) == ("tls", "It does not take our certificate, " + str(folder)[:12])
    assert unshown.name == "tls"
    if version is ssl.TLSVersion.TLSv1_3:  # an older one does not say what it misses
        assert "`cert_file`" in (unshown.fix or "")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2], ids=["TLS 1.3", "TLS 1.2"])
@pytest.mark.parametrize("shown", [{}, {"cert_file": "foreign.pem"}], ids=["none", "foreign"])
async def test_a_relay_that_hangs_up_for_want_of_a_certificate_is_told_with_that_in_mind(
    folder: Path, authority: trustme.CA, version: ssl.TLSVersion, shown: dict[str, str]
) -> None:
    """Where its alert is lost, or it sends none."""
    context = showing(authority)
    authority.configure_trust(context)
    context.verify_mode, context.maximum_version = ssl.CERT_REQUIRED, version
    server = ScriptedRelay(extensions=WITH_TLS, tls=context)
    relay, seen = await looked_at(folder, server, ca_file="ca.pem", **shown, **LOGIN)
    ill = trouble(section(relay, seen))
    assert "Error" not in ill.detail, "words, not the name of an exception"
    if not shown:
        assert "name one in the relay's `cert_file`" in (ill.fix or "")
    elif version is ssl.TLSVersion.TLSv1_3:  # an older one is cut before the handshake is over
        assert f"we have shown it {folder / 'foreign.pem'}" in ill.detail
        assert "its authority accepted there" in (ill.fix or "")


async def test_a_relay_that_asks_for_our_certificate_and_gets_it_is_well(folder: Path, authority: trustme.CA) -> None:
    context = showing(authority)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    server = ScriptedRelay(extensions=["STARTTLS"], tls=context)
    relay, seen = await looked_at(folder, server, ca_file="ca.pem", cert_file="own.pem")
    assert section(relay, seen).state is State.OK


async def test_a_port_where_nobody_listens_refuses(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        relay = relay_at(folder, f"smtp://127.0.0.1:{free.getsockname()[1]}")
        found = section(relay, await inspect(relay, resolve, QUICK))
    ill = trouble(found)
    assert places(found) == ["broken connection"]
    assert "refuses connections" in ill.detail
    assert "Start the relay" in (ill.fix or "")


@pytest.mark.parametrize(
    ("errno", "what", "fix"),
    [
        (socket.EAI_NONAME, "Name or service not known", "Correct host and port"),
        (socket.EAI_AGAIN, "Temporary failure", "name servers"),
        (None, "No name server says where mail.example is", "name servers"),
    ],
    ids=["no such name", "name server", "no answer"],
)
async def test_a_name_that_leads_nowhere_is_told(folder: Path, errno: int | None, what: str, fix: str) -> None:
    async def lookup(host: str, port: int) -> Any:
        if errno is None:
            await asyncio.sleep(3600)
        raise socket.gaierror(errno, what)

    relay = relay_at(folder, "smtp://mail.example")
    found = section(relay, await inspect(relay, lookup, replace(QUICK, connect_s=0.2)))
    ill = trouble(found)
    assert places(found) == ["broken name"]
    assert what in ill.detail
    assert fix in (ill.fix or "")


async def test_an_address_that_never_answers_is_a_firewall_and_port_25_a_habit(folder: Path) -> None:
    """A listener whose queue is full: what comes then is not answered."""
    async with AsyncExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = full.getsockname()[1]
        waiting = [stack.enter_context(socket.socket()) for _ in range(8)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        relay = relay_at(folder, f"smtp://127.0.0.1:{port}")
        seen = await inspect(relay, resolve, replace(QUICK, tcp_s=0.3))
    fixes = {at: trouble(section(replace(relay, port=at), seen)).fix or "" for at in (25, 2525)}
    assert "port 587" in fixes[25]
    assert "TCP port 2525" in fixes[2525]


async def test_a_submission_port_without_a_login_is_a_warning(folder: Path) -> None:
    relay, seen = await looked_at(folder, ScriptedRelay(extensions=OFFERS), url="smtp://127.0.0.1:{port}?tls=none")
    assert section(relay, seen).state is State.OK
    ill = trouble(section(replace(relay, port=587), seen))
    assert (ill.state, ill.name) == (State.WARNING, "login")


async def test_tls_that_is_offered_to_a_relay_elsewhere_and_not_used_is_a_warning(folder: Path) -> None:
    relay, seen = await looked_at(
        folder, ScriptedRelay(extensions=["STARTTLS"]), url="smtp://127.0.0.1:{port}?tls=none"
    )
    assert section(relay, seen).state is State.OK, "on this machine it does not matter"
    ill = trouble(section(relay, replace(seen, peer="192.0.2.1 port 25")))
    assert (ill.state, ill.name) == (State.WARNING, "tls")


async def test_a_step_that_takes_long_says_how_long(folder: Path) -> None:
    relay, seen = await looked_at(folder, ScriptedRelay(), url="smtp://127.0.0.1:{port}?tls=none")
    found = section(relay, replace(seen, timings={"connect": 1, "banner": 5210}))
    assert [finding.detail for finding in found.findings[:2]] == [
        f"127.0.0.1 port {relay.port}",
        "220 relay.test ESMTP (after 5.2 s)",
    ]


NOW = 1_800_000_000_000
REFUSED = Trouble(NOW, "credentials_refused", Phase.AUTH, Reply(535, "Wrong", "5.7.8"))


@pytest.mark.parametrize(
    ("state", "what"),
    [
        (RelayState(), []),
        (RelayState(paused_at=NOW), ["paused since 2027-01-15"]),
        (
            RelayState(opened_at=NOW, open_until=NOW + 90_000, opened_by=OpenedBy.CREDENTIALS, trouble=REFUSED),
            ["for another 90 s, because it refused user and password. Last: 535 5.7.8 Wrong"],
        ),
        (
            RelayState(opened_at=NOW - 9, open_until=NOW - 1, opened_by=OpenedBy.CONNECTION, paused_at=NOW),
            ["paused", "until the next mail finds"],
        ),
    ],
)
async def test_what_workers_know_of_it_is_told(folder: Path, state: RelayState, what: list[str]) -> None:
    relay, seen = await looked_at(folder, ScriptedRelay(), url="smtp://127.0.0.1:{port}?tls=none")
    shared = Shared({"it": KnownRelay(describe(relay, 0), state, NOW)}, NOW)
    told = [finding for finding in section(relay, seen, shared).findings if finding.name == "workers"]
    assert all(words in finding.detail for words, finding in zip(what, told, strict=True))
    assert {finding.state for finding in told} <= {State.WARNING}
