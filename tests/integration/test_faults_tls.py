"""The fault matrix at TLS and AUTH: nothing is said in clear, one mechanism is tried once, and the mail waits."""

import asyncio
import base64
import datetime
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
import trustme
from structlog.testing import capture_logs

from mailer.jobs import Phase, Status
from mailer.relays import OpenedBy, RelayState
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.relays import RelayStore
from tests.integration.conftest import Run
from tests.integration.two_relays import QUICK, named, relayed, set_up
from tests.support.smtp import DROP, HANG, ScriptedRelay, scripted_relay
from tests.support.waiting import until
from worker.relays.board import Board
from worker.relays.breaker import Barred, Probe, standing
from worker.relays.relay import Relay

JOB = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi\n"}
USER, PASSWORD = "postroom", "correct horse battery staple"
SECRETS = (
    PASSWORD,
    base64.b64encode(PASSWORD.encode()).decode(),
    base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode(),
)
AUTH = "AUTH CRAM-MD5 PLAIN LOGIN"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serving(ca: trustme.CA, host: str = "localhost", **options: object) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(host, **options).configure_cert(context)  # type: ignore[arg-type]  # trustme spells each option out
    return context


def expired() -> dict[str, datetime.datetime]:
    now = datetime.datetime.now(datetime.UTC)
    return {"not_before": now - datetime.timedelta(days=30), "not_after": now - datetime.timedelta(days=1)}


def table(folder: Path, ca: trustme.CA, relay: ScriptedRelay, scheme: str, password: str = PASSWORD) -> dict[str, str]:
    ca.cert_pem.write_to_path(folder / "ca.pem")
    url = f"{scheme}://localhost:{relay.port}"
    return {"name": "first", "url": url, "ca_file": "ca.pem", "username": USER, "password": password}


@dataclass(frozen=True)
class Row:
    name: str
    phase: Phase
    told: str
    script: dict[str, list[str]] = field(default_factory=dict)
    opened_by: OpenedBy | None = None
    alert: bool = False
    pace: float = 1.0
    extensions: tuple[str, ...] = (AUTH,)


CREDENTIALS = OpenedBy.CREDENTIALS
AUTH_ROWS = (
    Row("535", Phase.AUTH, "credentials_refused", {"AUTH": ["535 5.7.8 No"]}, CREDENTIALS, alert=True),
    Row("534", Phase.AUTH, "credentials_refused", {"AUTH": ["534 5.7.9 Weak"]}, CREDENTIALS, alert=True),
    Row("530", Phase.AUTH, "credentials_refused", {"AUTH": ["530 5.7.0 No"]}, CREDENTIALS, alert=True),
    Row("none offered", Phase.AUTH, "credentials_refused", {}, CREDENTIALS, alert=True, extensions=("AUTH XOAUTH2",)),
    Row("454", Phase.AUTH, "not_now_at_auth", {"AUTH": ["454 4.7.0 Later"]}, pace=0.5),
    Row("421", Phase.AUTH, "not_now_at_auth", {"AUTH": ["421 4.3.2 Bye"]}, pace=0.5),
    Row("432", Phase.AUTH, "not_now_at_auth", {"AUTH": ["432 4.7.12 Change it"]}, pace=0.5),
    Row("drop", Phase.AUTH, "dropped_at_auth", {"AUTH": [DROP]}),
    Row("hang", Phase.AUTH, "no_answer_to_auth", {"AUTH": [HANG]}),
)


async def check(
    row: Row, relay: ScriptedRelay, relays: tuple[Relay, ...], make_run: Callable[..., Run], redis: RedisClient
) -> RelayState:
    """The mail waits, and nothing of the password is anywhere."""
    async with relayed(make_run, redis, relays) as world:
        with capture_logs() as logs:
            job_id = await world.run.submit(JOB)
            view = await world.run.once(job_id)
        state = await world.state()
    (attempt,) = view.attempts
    assert (view.job.status, attempt.phase) == (Status.DEFERRED, row.phase)
    assert (state.opened_by, state.pace, state.trouble and state.trouble.row) == (row.opened_by, row.pace, row.told)
    assert [entry["row"] for entry in logs if entry["event"] == "relay.alert"] == ([row.told] if row.alert else [])
    assert relay.received == []
    kept = [await redis.hgetall(keys.job(job_id)), await redis.lrange(keys.attempts(job_id), 0, -1), state, logs]
    assert not [secret for secret in SECRETS if secret in str(kept)]
    return state


@pytest.mark.parametrize("row", AUTH_ROWS, ids=lambda row: row.name)
async def test_a_login_that_fails_is_tried_once_and_the_mail_waits(
    row: Row, make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path, authority: trustme.CA
) -> None:
    relay = ScriptedRelay(dict(row.script), list(row.extensions), serving(authority))
    async with scripted_relay(relay, implicit_tls=True):
        await check(row, relay, set_up(tmp_path, table(tmp_path, authority, relay, "smtps")), make_run, redis)
    said = [command for command in relay.commands if command.startswith("AUTH")]
    assert len(said) == (0 if row.name == "none offered" else 1), "one mechanism, one try"


TLS_ROWS = (
    (Row("not offered", Phase.TLS, "tls_not_as_required", {}, OpenedBy.CERTIFICATE, True, extensions=(AUTH,)), "smtp"),
    (Row("STARTTLS 454", Phase.TLS, "no_handshake", {"STARTTLS": ["454 4.7.0 Not now"]}), "smtp"),
    (
        Row("STARTTLS 502", Phase.TLS, "starttls_refused", {"STARTTLS": ["502 5.5.1 No"]}, OpenedBy.CERTIFICATE, True),
        "smtp",
    ),
    (Row("STARTTLS drop", Phase.TLS, "no_handshake", {"STARTTLS": [DROP]}), "smtp"),
    (Row("STARTTLS hangs", Phase.TLS, "no_handshake", {"STARTTLS": [HANG]}), "smtp"),
)


@pytest.mark.parametrize(("row", "scheme"), TLS_ROWS, ids=lambda value: getattr(value, "name", value))
async def test_without_tls_nothing_is_said_in_clear(
    row: Row, scheme: str, make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path, authority: trustme.CA
) -> None:
    offers = list(row.extensions) if row.name == "not offered" else ["STARTTLS", AUTH]
    relay = ScriptedRelay(dict(row.script), offers, serving(authority))
    async with scripted_relay(relay):
        await check(row, relay, set_up(tmp_path, table(tmp_path, authority, relay, scheme)), make_run, redis)
    assert {command.split()[0] for command in relay.commands} <= {"EHLO", "STARTTLS"}


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize("wrong", ["authority", "host", "expired"])
async def test_a_certificate_that_is_not_valid_is_not_believed(
    wrong: str, scheme: str, make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path, authority: trustme.CA
) -> None:
    shown = {
        "authority": lambda: serving(trustme.CA()),
        "host": lambda: serving(authority, "other.example"),
        "expired": lambda: serving(authority, **expired()),
    }
    relay = ScriptedRelay({}, ["STARTTLS", AUTH], shown[wrong]())
    row = Row(wrong, Phase.TLS, "tls_not_as_required", {}, OpenedBy.CERTIFICATE, alert=True)
    async with scripted_relay(relay, implicit_tls=scheme == "smtps"):
        state = await check(row, relay, set_up(tmp_path, table(tmp_path, authority, relay, scheme)), make_run, redis)
    assert {command.split()[0] for command in relay.commands} <= {"EHLO", "STARTTLS"}
    assert state.trouble is not None
    assert "certificate is not valid" in state.trouble.reply.text


async def test_lines_that_are_cut_during_auth_count_as_a_refused_password_after_three(
    make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path, authority: trustme.CA
) -> None:
    relay = ScriptedRelay({"AUTH": [DROP]}, [AUTH], serving(authority))
    async with scripted_relay(relay, implicit_tls=True):
        relays = set_up(tmp_path, table(tmp_path, authority, relay, "smtps"))
        async with relayed(make_run, redis, relays) as world:
            opened = []
            for _ in range(3):
                await world.run.once(await world.run.submit(JOB))
                opened.append((await world.state()).opened_by)
    assert opened == [None, None, OpenedBy.CREDENTIALS]


async def test_a_refused_password_bars_those_who_have_it_and_a_new_one_is_tried_at_once(
    make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path, authority: trustme.CA
) -> None:
    relay = ScriptedRelay({"AUTH": ["535 5.7.8 No", "235 2.7.0 Yes"]}, [AUTH], serving(authority))
    async with scripted_relay(relay, implicit_tls=True):
        old = set_up(tmp_path, table(tmp_path, authority, relay, "smtps"))
        async with relayed(make_run, redis, old) as world:
            job_id = await world.run.submit(JOB)
            await world.run.once(job_id)
            waiting = await world.run.once(job_id)
            states, now = await world.store.states(["first"])
            found = standing(states["first"], old[0].credentials_mark(), now)
        assert isinstance(found, Barred)
        assert 290 < (found.wait_s or 0) <= 300
        assert (waiting.job.attempts, waiting.job.detail) == (1, "first: open (credentials)")
        new = set_up(tmp_path, table(tmp_path, authority, relay, "smtps", password="another one"))
        assert standing(states["first"], new[0].credentials_mark(), now) == Probe()
        async with relayed(make_run, redis, new) as world:
            assert (await world.run.once(job_id)).job.status is Status.SENT


async def test_a_relay_that_offers_only_login_is_logged_in_to(
    make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path, authority: trustme.CA
) -> None:
    relay = ScriptedRelay({}, ["AUTH LOGIN"], serving(authority))
    async with (
        scripted_relay(relay, implicit_tls=True),
        relayed(make_run, redis, set_up(tmp_path, table(tmp_path, authority, relay, "smtps"))) as world,
    ):
        view = await world.run.once(await world.run.submit(JOB))
    assert view.job.status is Status.SENT
    assert [command for command in relay.commands if command.startswith("AUTH")] != []
    assert not [secret for secret in SECRETS if secret in orjson.dumps(view.attempts).decode()]


async def test_another_relay_has_the_mail_while_the_password_is_wrong(
    make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path, authority: trustme.CA
) -> None:
    relay = ScriptedRelay({"AUTH": ["535 5.7.8 No"]}, [AUTH], serving(authority))
    async with scripted_relay(relay, implicit_tls=True), scripted_relay() as second:
        relays = set_up(tmp_path, table(tmp_path, authority, relay, "smtps"), named("second", second))
        async with relayed(make_run, redis, relays, QUICK) as world:
            views = [await world.run.once(await world.run.submit(JOB)) for _ in range(3)]
    assert [view.job.status for view in views] == [Status.SENT] * 3
    assert [len(view.attempts) for view in views] == [2, 1, 1], "the first is not asked again"
    assert (relay.connections, len(second.received)) == (1, 3)


async def test_one_worker_finds_out_and_the_others_wait(redis: RedisClient, tmp_path: Path) -> None:
    async with scripted_relay() as relay:
        relays, store = set_up(tmp_path, named("first", relay)), RelayStore(redis)
        half_open = RelayState(opened_at=1, open_until=1, openings=1, opened_by=OpenedBy.CONNECTION)
        await store.change("first", lambda *_: half_open)
        anna, bert = Board(store, relays, "anna"), Board(store, relays, "bert")
        for board in (anna, bert):
            await board.look()
            assert board.standing("first") == Probe()
        assert await anna.may_probe("first")
        assert not await bert.may_probe("first")


async def test_a_probe_that_came_to_nothing_is_given_to_another_mail(redis: RedisClient, tmp_path: Path) -> None:
    async with scripted_relay() as relay:
        relays, store = set_up(tmp_path, named("first", relay)), RelayStore(redis)
        half_open = RelayState(opened_at=1, open_until=1, openings=1, opened_by=OpenedBy.CONNECTION)
        await store.change("first", lambda *_: half_open)
        board = Board(store, relays, "anna")
        await board.look()
        assert await board.may_probe("first")
        running = asyncio.create_task(board.run())
        board.undecided("first")

        async def is_free() -> bool:
            return (await store.states(["first"]))[0]["first"].probe is None

        await until(is_free, what="the probe given back")
        running.cancel()
        await asyncio.wait({running})
