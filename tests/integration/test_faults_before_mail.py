"""Before a relay talks of mail, with another one behind it: name, line, greeting, TLS and login.

Whatever happens there, the other one has the mail in the same attempt, once; the mail never fails of it; and nothing of
the password is kept or said in clear.
"""

import asyncio
import base64
import datetime
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from structlog.testing import capture_logs

from mailer.jobs import Phase, RecipientStatus, Status
from mailer.relays import BreakerState, OpenedBy, RelayState, breaker_state
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobView
from tests.integration.conftest import Run
from tests.integration.two_relays import Relayed, named, relayed, set_up
from tests.support.doors import nobody_answers, talker
from tests.support.processes import free_port
from tests.support.smtp import DROP, HANG, ScriptedRelay, scripted_relay
from worker.relays.relay import describe
from worker.relays.timeouts import Timeouts

JOB: dict[str, Any] = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi\n"}
USER, PASSWORD = "postroom", "correct horse battery staple"
SECRETS = (
    PASSWORD,
    base64.b64encode(PASSWORD.encode()).decode(),
    base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode(),
)
AUTH = "AUTH CRAM-MD5 PLAIN LOGIN"
BEFORE_MAIL = {"EHLO", "STARTTLS", "AUTH", "QUIT"}
SHORT_S = 0.25
Script = dict[str, list[str]]


@dataclass(frozen=True)
class Row:
    """One relay in trouble. `way`: how it is reached. `told`: the row that all workers know of. `opened_by`: at once,
    with an alert; else it is counted. `hangs`: the timeout that ends it. `shows`: the host of its certificate, or what
    is wrong with it."""

    name: str
    way: str
    phase: Phase
    told: str
    script: Script = field(default_factory=dict)
    opened_by: OpenedBy | None = None
    pace: float = 1.0
    logins: int = 0
    hangs: str | None = None
    extensions: tuple[str, ...] = (AUTH,)
    shows: str = "localhost"

    @property
    def timeouts(self) -> Timeouts:
        return replace(Timeouts(), **({self.hangs: SHORT_S} if self.hangs else {}))


REFUSED, CERTIFICATE, CREDENTIALS = OpenedBy.REFUSED, OpenedBy.CERTIFICATE, OpenedBy.CREDENTIALS
BUSY, OVER_TLS = "busy_at_the_door", ["250-relay.test\r\n250 STARTTLS"]
WITH_TLS = ("STARTTLS", AUTH)

LINE = (
    Row("no such name", "no name", Phase.CONNECT, "name_does_not_exist", opened_by=REFUSED),
    Row("nobody listens", "nobody", Phase.CONNECT, "no_connection"),
    Row("no answer", "silence", Phase.CONNECT, "no_connection", hangs="tcp_s"),
    Row("greeting reset", "plain", Phase.BANNER, "no_connection", {"BANNER": [DROP]}),
    Row("no greeting", "plain", Phase.BANNER, "no_connection", {"BANNER": [HANG]}, hangs="banner_s"),
    Row("never ready", "plain", Phase.BANNER, "no_connection", {"BANNER": [HANG]}, hangs="connect_s"),
    Row("greeting 421", "plain", Phase.BANNER, BUSY, {"BANNER": ["421 4.3.2 Busy"]}, pace=0.5),
    Row("greeting 554", "plain", Phase.BANNER, "turned_away_at_the_door", {"BANNER": ["554 5.7.1 No"]}, REFUSED),
    Row("EHLO reset", "plain", Phase.EHLO, "no_connection", {"EHLO": [DROP]}),
    Row("EHLO hangs", "plain", Phase.EHLO, "no_connection", {"EHLO": [HANG]}, hangs="ehlo_s"),
    Row("EHLO 421", "plain", Phase.EHLO, BUSY, {"EHLO": ["421 4.3.2 Busy"]}, pace=0.5),
    Row("EHLO 451", "plain", Phase.EHLO, "not_now_at_the_door", {"EHLO": ["451 4.3.0 Not now"]}),
    Row("EHLO 550", "plain", Phase.EHLO, "turned_away_at_the_door", {"EHLO": ["550 5.7.1 No"]}, REFUSED),
)
TLS = (
    Row("none offered", "starttls", Phase.TLS, "tls_not_as_required", {}, CERTIFICATE),
    Row("454", "starttls", Phase.TLS, "no_handshake", {"STARTTLS": ["454 4.7.0 Later"]}, extensions=WITH_TLS),
    Row("421", "starttls", Phase.TLS, "no_handshake", {"STARTTLS": ["421 4.3.2 Bye"]}, extensions=WITH_TLS),
    Row(
        "502",
        "starttls",
        Phase.TLS,
        "starttls_refused",
        {"STARTTLS": ["502 5.5.1 No"]},
        CERTIFICATE,
        extensions=WITH_TLS,
    ),
    Row(
        "501",
        "starttls",
        Phase.TLS,
        "starttls_refused",
        {"STARTTLS": ["501 5.5.4 No"]},
        CERTIFICATE,
        extensions=WITH_TLS,
    ),
    Row("cut", "starttls", Phase.TLS, "no_handshake", {"STARTTLS": [DROP]}, extensions=WITH_TLS),
    Row("hangs", "starttls", Phase.TLS, "no_handshake", {"STARTTLS": [HANG]}, hangs="tls_s", extensions=WITH_TLS),
    Row("handshake cut", "handshake cut", Phase.TLS, "no_handshake"),
    Row("handshake hangs", "handshake hangs", Phase.TLS, "no_handshake", hangs="tls_s"),
    Row("EHLO after it cut", "starttls", Phase.EHLO, "no_connection", {"EHLO": [*OVER_TLS, DROP]}),
    Row("EHLO after it hangs", "starttls", Phase.EHLO, "no_connection", {"EHLO": [*OVER_TLS, HANG]}, hangs="ehlo_s"),
    Row("EHLO after it 421", "starttls", Phase.EHLO, BUSY, {"EHLO": [*OVER_TLS, "421 4.3.2 Busy"]}, pace=0.5),
    Row("implicit, no TLS", "implicit, none", Phase.TLS, "no_handshake"),
    Row("implicit, hangs", "implicit, none", Phase.BANNER, "no_connection", {"BANNER": [HANG]}, hangs="banner_s"),
    Row("implicit, cut", "implicit, none", Phase.BANNER, "no_connection", {"BANNER": [DROP]}),
    *(
        Row(f"{way}, {wrong}", way, Phase.TLS, "tls_not_as_required", {}, CERTIFICATE, extensions=WITH_TLS, shows=wrong)
        for way in ("starttls", "implicit")
        for wrong in ("another authority", "other.example", "expired", "not yet valid")
    ),
)
LOGIN = (
    *(
        Row(f"{code} {way}", way, Phase.AUTH, "credentials_refused", {"AUTH": [f"{code} 5.7.8 No"]}, CREDENTIALS,
            extensions=WITH_TLS)
        for code in (535, 534, 530, 504)
        for way in ("starttls", "implicit")
    ),
    *(
        Row(f"{code}", "implicit", Phase.AUTH, "not_now_at_auth", {"AUTH": [f"{code} 4.7.0 Later"]}, pace=0.5)
        for code in (454, 421, 432)
    ),
    Row("451 quota", "implicit", Phase.AUTH, "quota_used_up",
        {"AUTH": ["451 Authentication failed: Maximum credits exceeded"]}, OpenedBy.QUOTA),
    Row("cut", "implicit", Phase.AUTH, "dropped_at_auth", {"AUTH": [DROP]}, logins=1),
    Row("hangs", "implicit", Phase.AUTH, "no_answer_to_auth", {"AUTH": [HANG]}, hangs="auth_s"),
    Row("garbage", "implicit", Phase.AUTH, "no_answer_to_auth", {"AUTH": ["what?"]}),
    Row("XOAUTH2 only", "implicit", Phase.AUTH, "credentials_refused", {}, CREDENTIALS, extensions=("AUTH XOAUTH2",)),
    Row("none offered", "implicit", Phase.AUTH, "credentials_refused", {}, CREDENTIALS, extensions=()),
    Row("offered only in clear", "starttls", Phase.AUTH, "credentials_refused",
        {"EHLO": [f"250-relay.test\r\n250-{AUTH}\r\n250 STARTTLS", "250 relay.test"]}, CREDENTIALS),
    Row("LOGIN 535", "implicit", Phase.AUTH, "credentials_refused", {"AUTH": ["535 5.7.8 No"]}, CREDENTIALS,
        extensions=("AUTH LOGIN",)),
    *(
        Row(f"LOGIN 535 at {moment[5:]}", "implicit", Phase.AUTH, "credentials_refused", {moment: ["535 5.7.8 No"]},
            CREDENTIALS, extensions=("AUTH LOGIN",))
        for moment in ("AUTH LOGIN", "AUTH USER")
    ),
    Row("LOGIN cut", "implicit", Phase.AUTH, "dropped_at_auth", {"AUTH": [DROP]}, logins=1, extensions=("AUTH LOGIN",)),
    *(
        Row(f"{moment} hangs", "implicit", Phase.AUTH, "no_answer_to_auth", {moment: [HANG]}, hangs="auth_s",
            extensions=("AUTH LOGIN",))
        for moment in ("AUTH LOGIN", "AUTH USER")
    ),
    *(
        Row(f"repeats {secret[:4]}", "implicit", Phase.AUTH, "credentials_refused",
            {"AUTH": [f"535 5.7.8 Not {secret}!"]}, CREDENTIALS)
        for secret in SECRETS
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def showing(ca: trustme.CA, what: str) -> ssl.SSLContext:
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    match what:
        case "another authority":
            shown = trustme.CA().issue_cert("localhost")
        case "expired":
            shown = ca.issue_cert("localhost", not_before=now - 30 * day, not_after=now - day)
        case "not yet valid":
            shown = ca.issue_cert("localhost", not_before=now + day, not_after=now + 30 * day)
        case host:
            shown = ca.issue_cert(host)
    shown.configure_cert(context)
    return context


async def offers_tls_and_cuts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await offers_tls(reader, writer)
    writer.transport.abort()


async def offers_tls_and_hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await offers_tls(reader, writer)
    await reader.read()


async def offers_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the client begins with its handshake."""
    for said in ("220 relay.test", "250-relay.test\r\n250 STARTTLS", "220 go on"):
        writer.write(said.encode() + b"\r\n")
        await reader.readline() if said != "220 go on" else await reader.read(1)


@asynccontextmanager
async def in_trouble(
    row: Row, authority: trustme.CA, folder: Path
) -> AsyncIterator[tuple[ScriptedRelay, dict[str, str]]]:
    """The relay of the row, and its table. Where nobody is there, or nobody who speaks SMTP to the end, the relay has
    neither connections nor commands."""
    relay = ScriptedRelay({moment: list(said) for moment, said in row.script.items()}, list(row.extensions))
    table = {"name": "first", "url": "smtp://localhost:{port}"}
    async with AsyncExitStack() as stack:
        match row.way:
            case "no name":
                relay.port, table = 587, {**table, "url": "smtp://xn--a.example:{port}?tls=none"}
            case "nobody":
                relay.port, table = free_port(), {**table, "url": "smtp://127.0.0.1:{port}?tls=none"}
            case "silence":
                relay.port = stack.enter_context(nobody_answers())
                table |= {"url": "smtp://127.0.0.1:{port}?tls=none"}
            case "plain":
                await stack.enter_async_context(scripted_relay(relay))
                table |= {"url": "smtp://127.0.0.1:{port}?tls=none"}
            case "handshake cut":
                relay.port = await stack.enter_async_context(talker(offers_tls_and_cuts))
            case "handshake hangs":
                relay.port = await stack.enter_async_context(talker(offers_tls_and_hangs))
            case "implicit, none":
                await stack.enter_async_context(scripted_relay(relay))
                table |= {"url": "smtps://localhost:{port}"}
            case way:
                relay.tls = showing(authority, row.shows)
                await stack.enter_async_context(scripted_relay(relay, implicit_tls=way == "implicit"))
                table |= {"url": "smtps://localhost:{port}"} if way == "implicit" else {}
        table["url"] = table["url"].format(port=relay.port)
        if "tls=none" not in table["url"]:
            authority.cert_pem.write_to_path(folder / "ca.pem")
            table |= {"ca_file": "ca.pem", "username": USER, "password": PASSWORD}
        yield relay, table


async def everything(redis: RedisClient) -> str:
    """All that the queue server keeps, as one text."""
    kept: list[object] = []
    async for key in redis.scan_iter():
        match await redis.type(key):
            case b"string":
                kept.append((key, await redis.get(key)))
            case b"hash":
                kept.append((key, await redis.hgetall(key)))
            case b"list":
                kept.append((key, await redis.lrange(key, 0, -1)))
            case b"zset":
                kept.append((key, await redis.zrange(key, 0, -1, withscores=True)))
            case b"set":
                kept.append((key, await redis.smembers(key)))
            case b"stream":
                kept.append((key, await redis.xrange(key)))
            case other:
                raise AssertionError(f"{key!r} is a {other!r}: look into that too")
    return str(kept)


async def overview(world: Relayed, *names: str) -> tuple[list[RelayState], list[BreakerState]]:
    """As GET /relays has it."""
    known, now = await world.store.overview()
    assert [each.description.name for each in known] == list(names)
    return [each.state for each in known], [breaker_state(each.state, now) for each in known]


def tries(view: JobView) -> list[tuple[int, str | None, str, Phase]]:
    return [(each.number, each.relay, each.outcome, each.phase) for each in view.attempts]


def alerts(logs: Any) -> list[tuple[str, str]]:
    return [(entry["relay"], entry["row"]) for entry in logs if entry["event"] == "relay.alert"]


def verbs(relay: ScriptedRelay) -> set[str]:
    return {command.split(" ")[0].upper() for command in relay.commands}


@pytest.mark.parametrize("row", [*LINE, *TLS, *LOGIN], ids=lambda row: f"{row.phase}, {row.name}")
async def test_the_other_relay_has_the_mail_in_the_same_attempt_and_once(
    row: Row, make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path, authority: trustme.CA, caplog: Any
) -> None:
    """One that is open is not asked for the next mail; one whose failure counts is."""
    caplog.set_level(logging.DEBUG)
    async with in_trouble(row, authority, tmp_path) as (first, table), scripted_relay() as second:
        relays = set_up(tmp_path, table, named("second", second))
        async with relayed(make_run, redis, relays, row.timeouts) as world:
            await world.store.tell([describe(relay, order) for order, relay in enumerate(relays)])
            with capture_logs() as logs:
                jobs = [await world.run.submit(JOB) for _ in range(2)]
                views = [await world.run.once(job_id) for job_id in jobs]
                again = [await world.run.once(job_id) for job_id in jobs]
            (state, other), (breaker, _) = await overview(world, "first", "second")
            kept = [await everything(redis), str(views), str(logs), caplog.text]
    failed_over, sent = (1, "first", "failed_over", row.phase), (1, "second", "sent", Phase.DOT)
    assert tries(views[0]) == [failed_over, sent]
    assert tries(views[1]) == ([sent] if row.opened_by else [failed_over, sent])
    assert [(view.job.status, view.job.attempts) for view in again] == [(Status.SENT, 1)] * 2
    assert (len(first.received), len(second.received), second.dots) == (0, 2, 2)
    assert (state.opened_by, state.pace, state.trouble and state.trouble.row) == (row.opened_by, row.pace, row.told)
    assert state.trouble is not None
    assert state.trouble.phase is row.phase
    assert (state.failures, state.logins) == ((0, 0) if row.opened_by else (2, 2 * row.logins))
    assert breaker is (BreakerState.OPEN if row.opened_by else BreakerState.CLOSED)
    assert alerts(logs) == ([("first", row.told)] if row.opened_by else [])
    assert other == RelayState()
    assert row.told in kept[0], "what was looked through is what was kept"
    assert not [secret for secret in SECRETS if any(secret in each for each in kept)]


@pytest.mark.parametrize("row", [*LINE, *TLS, *LOGIN], ids=lambda row: f"{row.phase}, {row.name}")
async def test_where_there_is_no_other_the_mail_waits_and_nothing_is_said_in_clear(
    row: Row, make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path, authority: trustme.CA
) -> None:
    """It is not failed, by whatever code, and nothing is decided for its recipients. A login is tried once."""
    async with (
        in_trouble(row, authority, tmp_path) as (first, table),
        relayed(make_run, redis, set_up(tmp_path, table), row.timeouts) as world,
    ):
        view = await world.run.once(await world.run.submit(JOB))
    assert (view.job.status, view.job.reason, tries(view)) == (
        Status.DEFERRED,
        None,
        [(1, "first", "deferred", row.phase)],
    )
    assert [item.status for item in view.job.recipients or ()] == [RecipientStatus.PENDING]
    assert view.job.next_attempt_at is not None
    assert 15_000 <= view.job.next_attempt_at - view.attempts[0].at <= 40_000, "by its backoff"
    if row.phase is Phase.AUTH:
        assert verbs(first).isdisjoint({"MAIL", "RCPT", "DATA"})
        assert sum(command.startswith("AUTH") for command in first.commands) <= 1, "one mechanism, one try"
    else:
        assert verbs(first) <= {"EHLO", "STARTTLS"}
    assert first.connections <= 1


async def test_a_name_server_that_cannot_say_is_no_alert_and_the_other_relay_has_the_mail(
    make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = socket.getaddrinfo

    def asked(host: str, *rest: Any, **more: Any) -> Any:
        if host == "relay.example":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return asks(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    async with scripted_relay() as second:
        relays = set_up(tmp_path, {"name": "first", "url": "smtp://relay.example"}, named("second", second))
        async with relayed(make_run, redis, relays) as world:
            with capture_logs() as logs:
                view = await world.run.once(await world.run.submit(JOB))
            state = await world.state()
    assert tries(view) == [(1, "first", "failed_over", Phase.CONNECT), (1, "second", "sent", Phase.DOT)]
    assert (state.failures, state.opened_by, state.trouble and state.trouble.row) == (1, None, "no_connection")
    assert alerts(logs) == []
