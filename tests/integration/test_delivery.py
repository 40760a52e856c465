"""A job's life at the worker: real queue server, real SMTP conversation, real source."""

import asyncio
import email
import email.policy
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from mailer import queue
from mailer.catalogue import TemplateLibrary
from mailer.http import GuardedClient
from mailer.jobs import Phase, Reason, RecipientStatus, Status
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobView
from tests.integration.conftest import Run
from tests.support.resets import resets_answered
from tests.support.smtp import DROP, HANG, ScriptedRelay, scripted_relay
from tests.support.source import Application
from tests.support.waiting import until
from worker import tasks
from worker.delivery import deliver
from worker.fetch import Fetcher
from worker.relays.board import Unshared
from worker.relays.breaker import Barred, Standing
from worker.relays.pool import Pool
from worker.relays.relay import relays_from
from worker.relays.router import Router
from worker.relays.timeouts import Timeouts

Send = Callable[[dict[str, Any]], Awaitable[JobView]]
EVENT = {"event": "user.signed_up", "data": {"id": 42}}
TO_TWO = {"to": ["ada@example.com", "bob@example.com"], "subject": "Hello", "text": "Hi\n"}
TO_ONE = {**TO_TWO, "to": ["ada@example.com"]}


def parsed(content: bytes) -> email.message.EmailMessage:
    return email.message_from_bytes(content, policy=email.policy.default)


def recipient_statuses(view: JobView) -> list[str]:
    assert view.job.recipients is not None
    return [item.status for item in view.job.recipients]


async def test_an_event_becomes_a_finished_mail(send: Send, relay: ScriptedRelay) -> None:
    view = await send(EVENT)
    assert view.job.status is Status.SENT
    (mail,) = relay.received
    message = parsed(mail.content)
    assert mail.recipients == ["ada@example.com"]
    assert "Ada" in message["Subject"]
    assert message["To"] == "Ada Lovelace <ada@example.com>"
    assert message["Message-ID"] == f"<{view.job.id}@postroom.example>"
    assert {part.get_content_type() for part in message.walk()} >= {"text/plain", "text/html"}


async def test_the_mail_carries_what_the_source_says_when_it_is_sent(
    run: Run, relay: ScriptedRelay, app_source: Application
) -> None:
    job_id = await run.submit(EVENT)
    app_source.answers["/users/42"] |= {"name": "Ada King", "email": "ada.king@example.com"}
    await run.once(job_id)
    (mail,) = relay.received
    assert mail.recipients == ["ada.king@example.com"]
    assert "Ada King" in parsed(mail.content)["To"]


async def test_data_that_came_with_the_job_is_not_fetched(send: Send, app_source: Application) -> None:
    user = {**app_source.answers["/users/42"], "email": "own@example.com"}
    view = await send({"template": "welcome", "data": {"id": 42, "user": user}})
    assert view.job.status is Status.SENT
    assert app_source.requests == []


async def test_inline_content_is_sent_as_it_is(send: Send, relay: ScriptedRelay) -> None:
    await send({"to": ["ada@example.com"], "subject": "{{ 7 * 7 }}", "html": "<p>{{ secrets }}</p>"})
    message = parsed(relay.received[0].content)
    assert message["Subject"] == "{{ 7 * 7 }}"
    assert "{{ secrets }}" in message.get_content()


async def test_bcc_gets_the_mail_and_stands_nowhere_in_it(send: Send, relay: ScriptedRelay) -> None:
    await send({**TO_ONE, "bcc": ["boss@example.com"], "cc": ["carol@example.com"]})
    (mail,) = relay.received
    assert sorted(mail.recipients) == ["ada@example.com", "boss@example.com", "carol@example.com"]
    assert b"boss" not in mail.content
    assert parsed(mail.content)["Cc"] == "carol@example.com"


async def test_a_refused_recipient_fails_after_one_attempt_with_the_relays_words(
    send: Send, relay: ScriptedRelay
) -> None:
    relay.script["RCPT"] = ["550 5.1.1 No such user here"]
    view = await send(TO_ONE)
    assert (view.job.status, view.job.reason, view.job.attempts) == (Status.FAILED, Reason.REFUSED, 1)
    (attempt,) = view.attempts
    assert (attempt.phase, attempt.reply.code, attempt.reply.enhanced) == (Phase.RCPT, 550, "5.1.1")
    assert attempt.reply.text == "No such user here"


async def test_only_the_deferred_recipient_is_tried_again(run: Run, relay: ScriptedRelay) -> None:
    relay.script["RCPT bob@example.com"] = ["450 4.2.0 Busy", "250 ok"]
    job_id = await run.submit(TO_TWO)
    view = await run.once(job_id)
    assert view.job.status is Status.DEFERRED
    assert recipient_statuses(view) == [RecipientStatus.SENT, RecipientStatus.DEFERRED]
    view = await run.once(job_id)
    assert (view.job.status, view.job.partial) == (Status.SENT, False)
    assert [mail.recipients for mail in relay.received] == [["ada@example.com"], ["bob@example.com"]]


async def test_a_job_that_reached_only_some_is_sent_in_part(send: Send, relay: ScriptedRelay) -> None:
    relay.script["RCPT bob@example.com"] = ["550 5.1.1 Unknown"]
    view = await send(TO_TWO)
    assert (view.job.status, view.job.partial, view.job.attempts) == (Status.SENT, True, 1)
    assert recipient_statuses(view) == [RecipientStatus.SENT, RecipientStatus.FAILED]


@pytest.mark.parametrize(
    ("moment", "reply", "phase", "code"),
    [
        ("BANNER", "421 4.3.2 Closing", Phase.BANNER, 421),
        ("BANNER", "554 5.3.2 Go away", Phase.BANNER, 554),
        ("BANNER", DROP, Phase.BANNER, None),
        ("EHLO", "421 4.3.2 Closing", Phase.EHLO, 421),
        ("EHLO", DROP, Phase.EHLO, None),
        ("MAIL", "451 4.7.1 Later", Phase.MAIL, 451),
        ("MAIL", DROP, Phase.MAIL, None),
        ("RCPT", "450 4.2.0 Busy", Phase.RCPT, 450),
        ("RCPT", DROP, Phase.RCPT, None),
        ("DATA", "451 4.3.0 Not now", Phase.DATA, 451),
        ("DATA", DROP, Phase.DATA, None),
        ("DOT", "452 4.3.1 Disk full", Phase.DOT, 452),
    ],
)
async def test_what_may_pass_is_deferred(
    send: Send, relay: ScriptedRelay, moment: str, reply: str, phase: Phase, code: int | None
) -> None:
    relay.script[moment] = [reply]
    view = await send(TO_ONE)
    assert view.job.status is Status.DEFERRED
    (attempt,) = view.attempts
    assert (attempt.phase, attempt.reply.code) == (phase, code)
    assert attempt.next_attempt_at == view.job.next_attempt_at
    assert attempt.next_attempt_at is not None
    assert 15_000 <= attempt.next_attempt_at - attempt.at <= 40_000
    assert recipient_statuses(view)[0] in {RecipientStatus.DEFERRED, RecipientStatus.PENDING}


@pytest.mark.parametrize(
    ("moment", "phase"),
    [
        ("BANNER", Phase.BANNER),
        ("EHLO", Phase.EHLO),
        ("MAIL", Phase.MAIL),
        ("RCPT", Phase.RCPT),
        ("DATA", Phase.DATA),
    ],
)
async def test_a_relay_that_says_nothing_is_not_waited_for_without_end(
    make_run: Callable[..., Run], relay: ScriptedRelay, moment: str, phase: Phase
) -> None:
    relay.script[moment] = [HANG]
    run = make_run(timeouts=Timeouts(banner_s=0.2, ehlo_s=0.2, command_s=0.2))
    view = await run.once(await run.submit(TO_ONE))
    assert view.job.status is Status.DEFERRED
    assert (view.attempts[0].phase, view.attempts[0].reply.code) == (phase, None)


async def test_a_relay_that_takes_a_mail_before_its_content_is_not_believed(send: Send, relay: ScriptedRelay) -> None:
    relay.script["DATA"] = ["250 2.0.0 Ok, queued"]
    view = await send(TO_ONE)
    assert (view.job.status, view.attempts[0].phase) == (Status.DEFERRED, Phase.DATA)
    assert relay.received == []


async def test_lines_that_begin_with_a_dot_arrive_as_they_are(send: Send, relay: ScriptedRelay) -> None:
    text = ".hidden\n..twice\n.\nthe end."
    await send({**TO_ONE, "text": text})
    assert parsed(relay.received[0].content).get_content().split() == text.split()


async def test_a_relay_with_many_slow_replies_is_left_before_the_content(
    make_run: Callable[..., Run], relay: ScriptedRelay
) -> None:
    async def think(moment: str) -> None:
        await asyncio.sleep(0.1 if moment == "RCPT" else 0)

    relay.before_reply = think
    run = make_run(timeouts=Timeouts(command_s=5, envelope_s=0.3))
    view = await run.once(await run.submit({**TO_ONE, "to": [f"{name}@example.com" for name in range(9)]}))
    assert (view.job.status, view.attempts[0].phase, relay.dots) == (Status.DEFERRED, Phase.RCPT, 0)
    assert "No answer within" in view.attempts[0].reply.text


async def test_the_verdict_is_waited_for_longer_than_all_before_it(
    make_run: Callable[..., Run], relay: ScriptedRelay
) -> None:
    relay.before_dot = lambda: asyncio.sleep(0.6)  # the relay thinks for longer than everything before may take
    run = make_run(timeouts=Timeouts(command_s=0.4, envelope_s=0.4, content_s=0.4))
    assert (await run.once(await run.submit(TO_ONE))).job.status is Status.SENT


async def test_a_reset_that_hangs_changes_nothing(make_run: Callable[..., Run], relay: ScriptedRelay) -> None:
    relay.script |= {"RCPT": ["550 5.1.1 No", "250 ok"], "RSET": [HANG]}
    run = make_run(timeouts=Timeouts(reset_s=0.2))
    view = await run.once(await run.submit(TO_ONE))
    assert (view.job.status, view.job.reason) == (Status.FAILED, Reason.REFUSED)
    assert (await run.once(await run.submit(TO_ONE))).job.status is Status.SENT


async def test_mails_that_wait_for_a_hanging_relay_are_deferred_together(
    make_run: Callable[..., Run], relay: ScriptedRelay
) -> None:
    relay.script["BANNER"] = [HANG]
    run = make_run(smtp_url=f"{relay.url}&connections=20", timeouts=Timeouts(connect_s=0.6))
    jobs = [await run.submit(TO_ONE) for _ in range(8)]
    views = await asyncio.gather(*(run.once(job_id) for job_id in jobs))
    assert {view.job.status for view in views} == {Status.DEFERRED}
    assert {view.attempts[0].phase for view in views} == {Phase.BANNER}
    assert relay.connections < len(jobs), "those who wait for a connection do not find out one after another"


@pytest.mark.parametrize(
    ("moment", "reply", "phase"),
    [
        ("MAIL", "553 5.7.1 Sender not allowed", Phase.MAIL),
        ("DATA", "554 5.5.1 No", Phase.DATA),
        ("DOT", "554 5.7.1 Spam", Phase.DOT),
    ],
)
async def test_what_is_final_is_not_tried_again(
    send: Send, relay: ScriptedRelay, moment: str, reply: str, phase: Phase
) -> None:
    relay.script[moment] = [reply]
    view = await send(TO_ONE)
    assert (view.job.status, view.job.reason, view.attempts[0].phase) == (Status.FAILED, Reason.REFUSED, phase)
    assert view.job.detail == reply[10:]


async def test_a_relay_that_is_down_defers(make_run: Callable[..., Run]) -> None:
    run = make_run(smtp_url="smtp://127.0.0.1:1?tls=none&name=gone")
    view = await run.once(await run.submit(TO_ONE))
    assert view.job.status is Status.DEFERRED
    assert (view.attempts[0].phase, view.attempts[0].relay) == (Phase.CONNECT, "gone")


class Barring(Unshared):
    """No relay may be asked for an hour."""

    def standing(self, name: str) -> Standing:
        return Barred("open (quota)", 3600)


@pytest.mark.parametrize(
    "body", [TO_ONE, {"template": "reset-password", "data": {"id": 42, "reset_url": "https://a.test/r"}}]
)
async def test_a_job_that_waits_for_a_relay_is_looked_at_again_after_a_minute_and_loses_no_attempt(
    run: Run, relay: ScriptedRelay, app_source: Application, body: dict[str, Any]
) -> None:
    """Be it that its author has set a time. Somebody may have mended the relay."""
    run.deps = replace(run.deps, router=Router([Pool(relays_from(run.deps.settings)[0])], Barring()))
    view = await run.once(await run.submit(body))
    assert (view.job.status, view.job.attempts, view.attempts) == (Status.PENDING, 0, ())
    assert "open (quota)" in (view.job.detail or "")
    assert (relay.connections, app_source.requests) == (0, [])
    assert 50 < await due_in_s(run, view.job.id) <= 61


async def test_a_job_whose_time_ends_while_it_waits_for_a_relay_ends_then(run: Run) -> None:
    run.deps = replace(run.deps, router=Router([Pool(relays_from(run.deps.settings)[0])], Barring()))
    reset, notice = [
        await run.submit(body)
        for body in ({"template": "reset-password", "data": {"id": 42, "reset_url": "https://a.test/r"}}, TO_ONE)
    ]
    for job_id, seconds in ((reset, 30 * 60 - 20), (notice, 3 * 86400 - 20)):
        await run.age(job_id, seconds)
        await run.once(job_id)
        assert await due_in_s(run, job_id) <= 21
        await run.age(job_id, 30)
    view = await run.once(reset)
    assert (view.job.status, view.attempts) == (Status.EXPIRED, ())
    view = await run.once(notice)
    assert (view.job.status, view.job.reason) == (Status.FAILED, Reason.NO_USABLE_RELAY)


@pytest.mark.parametrize("trouble", [DROP, "421 4.4.2 Bad timing", "500 What?"])
async def test_trouble_at_quit_after_the_250_never_mails_again(
    make_run: Callable[..., Run], relay: ScriptedRelay, trouble: str
) -> None:
    relay.script["QUIT"] = [trouble]
    run = make_run()
    view = await run.once(await run.submit(TO_ONE))
    await run.deps.router.close()
    assert view.job.status is Status.SENT
    await run.once(view.job.id)
    assert len(relay.received) == 1


async def test_connections_are_used_again(run: Run, relay: ScriptedRelay) -> None:
    for _ in range(3):
        await run.once(await run.submit(TO_ONE))
    assert (len(relay.received), relay.connections) == (3, 1)


async def test_a_connection_that_nobody_needs_is_closed_with_quit(
    make_run: Callable[..., Run], relay: ScriptedRelay
) -> None:
    run = make_run(timeouts=Timeouts(idle_s=0.1))
    for _ in range(2):
        await asyncio.gather(*[run.once(await run.submit(TO_ONE)) for _ in range(2)])

    async def all_said_quit() -> bool:
        return relay.commands.count("QUIT") == relay.connections

    await until(all_said_quit, what="a QUIT on each connection")


async def test_a_connection_is_used_again_after_a_refusal(run: Run, relay: ScriptedRelay) -> None:
    relay.script["RCPT"] = ["550 5.1.1 No", "250 ok"]
    await run.once(await run.submit(TO_ONE))
    await resets_answered(run.deps.router)
    view = await run.once(await run.submit(TO_ONE))
    assert view.job.status is Status.SENT
    assert relay.connections == 1
    assert "RSET" in relay.commands


@pytest.mark.parametrize("stale", [DROP, "421 4.4.2 Idle for too long"])
async def test_a_stale_connection_costs_no_attempt(run: Run, relay: ScriptedRelay, stale: str) -> None:
    relay.script["MAIL"] = ["250 ok", stale, "250 ok"]
    await run.once(await run.submit(TO_ONE))
    view = await run.once(await run.submit(TO_ONE))
    assert (view.job.status, view.job.attempts) == (Status.SENT, 1)
    assert (len(relay.received), relay.connections) == (2, 2)


async def test_mail_is_tried_until_the_stream_gives_up(run: Run, relay: ScriptedRelay) -> None:
    relay.script["MAIL"] = ["451 4.3.0 Later"]
    job_id = await run.submit(TO_ONE)
    assert (await run.once(job_id)).job.status is Status.DEFERRED
    await run.age(job_id, 2 * 86400)
    assert (await run.once(job_id)).job.status is Status.DEFERRED
    await run.age(job_id, 86400)
    view = await run.once(job_id)
    assert (view.job.status, view.job.reason, view.job.attempts) == (Status.FAILED, Reason.GAVE_UP, 3)
    assert "Later" in (view.job.detail or "")
    assert recipient_statuses(view) == [RecipientStatus.FAILED]


async def test_a_reset_mail_is_never_sent_late(run: Run, relay: ScriptedRelay) -> None:
    job_id = await run.submit({"template": "reset-password", "data": {"id": 42, "reset_url": "https://a.test/r"}})
    await run.age(job_id, 31 * 60)
    view = await run.once(job_id)
    assert (view.job.status, view.attempts) == (Status.EXPIRED, ())
    assert relay.received == []


async def test_a_reset_mail_whose_next_attempt_would_be_late_expires_now(run: Run, relay: ScriptedRelay) -> None:
    relay.script["MAIL"] = ["451 4.3.0 Later"]
    job_id = await run.submit({"template": "reset-password", "data": {"id": 42, "reset_url": "https://a.test/r"}})
    await run.age(job_id, 30 * 60 - 0.9)
    view = await run.once(job_id)
    assert (view.job.status, view.job.attempts) == (Status.EXPIRED, 1)


async def test_a_job_that_is_not_due_yet_waits(run: Run, relay: ScriptedRelay) -> None:
    relay.script["MAIL"] = ["451 4.3.0 Later", "250 ok"]
    view = await run.once(await run.submit(TO_ONE))
    claim = await run.leases.claim("another worker", 1, wanted=10, running=0)
    assert (claim.jobs, claim.next_due) == ((), view.job.next_attempt_at)


@pytest.mark.parametrize(
    ("answer", "code"), [((500, "oops"), 500), ((429, "slow"), 429), ((401, "who?"), 401), ((302, ""), 302)]
)
async def test_a_source_in_trouble_defers(
    send: Send, app_source: Application, relay: ScriptedRelay, answer: tuple[int, str], code: int
) -> None:
    app_source.answers["/users/42"] = answer
    view = await send(EVENT)
    assert view.job.status is Status.DEFERRED
    assert (view.attempts[0].phase, view.attempts[0].reply.code) == (Phase.FETCH, code)
    assert relay.connections == 0
    assert app_source.paths == ["/users/42"]  # no redirect is followed


async def test_a_source_that_the_operator_forgot_defers_and_is_named(
    run: Run, app_source: Application, relay: ScriptedRelay
) -> None:
    async with GuardedClient() as client:
        run.deps = replace(run.deps, fetcher=Fetcher(client, {}, {}))
        view = await run.once(await run.submit(EVENT))
    assert view.job.status is Status.DEFERRED
    assert view.attempts[0].reply.text == "POSTROOM_SOURCE_APP is not set for the worker"


async def test_a_source_that_answers_no_json_defers(send: Send, app_source: Application) -> None:
    app_source.answers["/users/42"] = (200, "<html>")
    assert (await send(EVENT)).job.status is Status.DEFERRED


async def test_a_missing_user_is_looked_for_again_for_a_minute(run: Run, app_source: Application) -> None:
    job_id = await run.submit({**EVENT, "data": {"id": 7}})
    view = await run.once(job_id)
    assert view.job.status is Status.DEFERRED
    assert view.job.next_attempt_at is not None
    assert view.job.next_attempt_at - view.attempts[0].at <= 10_500
    await run.age(job_id, 61)
    view = await run.once(job_id)
    assert (view.job.status, view.job.reason) == (Status.FAILED, Reason.MISSING_DATA)


async def test_a_user_who_is_gone_is_not_looked_for_again(send: Send, app_source: Application) -> None:
    app_source.answers["/users/42"] = (410, "gone")
    view = await send(EVENT)
    assert (view.job.status, view.job.reason, view.job.attempts) == (Status.FAILED, Reason.MISSING_DATA, 1)


async def test_an_address_from_a_source_that_is_none_is_final(send: Send, app_source: Application) -> None:
    app_source.answers["/users/42"] |= {"email": "ada@example.com, eve@example.com"}
    view = await send(EVENT)
    assert (view.job.status, view.job.reason) == (Status.FAILED, Reason.INVALID_RECIPIENT)


async def test_a_name_from_a_source_makes_no_second_recipient(
    send: Send, app_source: Application, relay: ScriptedRelay
) -> None:
    app_source.answers["/users/42"] |= {"name": "x@evil.example, Ada"}
    await send(EVENT)
    (mail,) = relay.received
    assert mail.recipients == ["ada@example.com"]
    assert [item.addr_spec for item in parsed(mail.content)["To"].addresses] == ["ada@example.com"]


async def test_a_line_break_from_a_source_makes_no_header(
    send: Send, app_source: Application, relay: ScriptedRelay
) -> None:
    app_source.answers["/users/42"] |= {"name": "Ada\r\nBcc: eve@evil.example"}
    view = await send(EVENT)
    assert view.job.status is Status.FAILED
    assert relay.received == []


async def test_an_encoded_word_in_a_subject_makes_no_bcc(send: Send, relay: ScriptedRelay) -> None:
    subject = "=?utf-8?q?Hi=0D=0ABcc=3A_eve=40evil.example?="
    await send({**TO_ONE, "subject": subject})
    (mail,) = relay.received
    message = parsed(mail.content)
    assert mail.recipients == ["ada@example.com"]
    assert message["Bcc"] is None
    assert message["Subject"] == subject


async def test_an_id_reaches_no_other_path(run: Run, app_source: Application, tmp_path: Path) -> None:
    view = await run.once(await run.submit({"event": "user.signed_up", "data": {"id": 42}}))
    assert view.job.status is Status.SENT
    app_source.requests.clear()
    folder = tmp_path / "greeting"
    folder.mkdir()
    (folder / "template.toml").write_text(
        'to = { email = "{{ user.email }}" }\n[fields]\nid = { type = "string" }\n'
        '[fetch.user]\nurl = "{{ sources.app }}/users/{{ id }}"\n'
    )
    (folder / "subject.txt").write_text("Hi")
    (folder / "body.txt").write_text("Hi")
    run.deps = replace(run.deps, templates=TemplateLibrary(tmp_path))
    await run.once(await run.submit({"template": "greeting", "data": {"id": "../admin?x="}}))
    assert app_source.paths == ["/users/..%2Fadmin%3Fx%3D"]
    app_source.requests.clear()
    view = await run.once(await run.submit({"template": "greeting", "data": {"id": ".."}}))
    assert (view.job.status, app_source.paths) == (Status.FAILED, [])


async def test_a_template_that_fails_on_its_data_is_final(send: Send, app_source: Application) -> None:
    app_source.answers["/users/42"] = {"email": "ada@example.com"}
    view = await send(EVENT)
    assert (view.job.status, view.job.reason) == (Status.FAILED, Reason.RENDERING)
    assert "name" in (view.job.detail or "")


async def test_nothing_is_left_without_an_end_or_an_owner(run: Run, redis: RedisClient) -> None:
    await run.once(await run.submit(EVENT))
    owned = (keys.JOBS.encode(), keys.WORKERS.encode())  # their members leave
    assert all([await redis.ttl(key) > 0 for key in await redis.keys("*") if not key.startswith(owned)])


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> trustme.CA:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return ca


def server_context(ca: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return context


async def test_with_starttls_and_auth(make_run: Callable[..., Run], authority: trustme.CA) -> None:
    relay = ScriptedRelay(extensions=["STARTTLS", "AUTH PLAIN LOGIN"], tls=server_context(authority, "localhost"))
    async with scripted_relay(relay):
        run = make_run(smtp_url=f"smtp://ada:s%40cret@localhost:{relay.port}")
        view = await run.once(await run.submit(TO_ONE))
        await run.deps.router.close()
    assert view.job.status is Status.SENT, view.attempts
    assert [command.split()[0] for command in relay.commands[:4]] == ["EHLO", "STARTTLS", "EHLO", "AUTH"]
    assert relay.commands[3] == "AUTH PLAIN AGFkYQBzQGNyZXQ="


async def test_with_tls_from_the_start_and_auth_login(make_run: Callable[..., Run], authority: trustme.CA) -> None:
    relay = ScriptedRelay(extensions=["AUTH LOGIN"], tls=server_context(authority, "localhost"))
    async with scripted_relay(relay, implicit_tls=True):
        run = make_run(smtp_url=f"smtps://ada:s%40cret@localhost:{relay.port}")
        view = await run.once(await run.submit(TO_ONE))
        await run.deps.router.close()
    assert view.job.status is Status.SENT, view.attempts
    assert relay.commands[1:4] == ["AUTH LOGIN", "YWRh", "c0BjcmV0"]


async def test_a_host_that_cannot_be_a_name_waits_for_its_mend(make_run: Callable[..., Run]) -> None:
    run = make_run(smtp_url="smtp://xn--a.example:587?tls=none")
    view = await run.once(await run.submit(TO_ONE))
    assert (view.job.status, view.attempts[0].phase) == (Status.DEFERRED, Phase.CONNECT)


async def test_a_sender_that_is_refused_on_a_used_connection_is_asked_for_once_more_on_a_fresh_one(
    run: Run, relay: ScriptedRelay
) -> None:
    relay.script["MAIL"] = ["250 ok", "553 5.7.1 Sender not allowed"]
    await run.once(await run.submit(TO_ONE))
    view = await run.once(await run.submit(TO_ONE))
    assert (view.job.status, view.job.attempts, len(view.attempts)) == (Status.FAILED, 1, 1)
    assert (sum(command.startswith("MAIL") for command in relay.commands), relay.connections) == (3, 2)


async def test_a_sender_that_is_refused_on_a_fresh_connection_is_not_asked_for_twice(
    run: Run, relay: ScriptedRelay
) -> None:
    relay.script["MAIL"] = ["553 5.7.1 Sender not allowed"]
    view = await run.once(await run.submit(TO_ONE))
    assert (view.job.status, relay.connections) == (Status.FAILED, 1)
    assert sum(command.startswith("MAIL") for command in relay.commands) == 1


async def test_a_job_runs_in_one_place_at_a_time(run: Run, relay: ScriptedRelay) -> None:
    job_id = await run.submit(TO_ONE)
    lease = await run.claim(job_id)
    assert lease is not None
    assert (await run.view(job_id)).status == "sending"
    assert (await run.once(job_id)).job.status is Status.PENDING
    await deliver(lease, run.deps)
    assert ((await run.view(job_id)).job.status, len(relay.received)) == (Status.SENT, 1)


async def due_in_s(run: Run, job_id: str) -> float:
    scores = [await run.redis.zscore(name, job_id) for name in queue.QUEUES.values()]
    (score,) = [score for score in scores if score is not None]
    seconds, _ = await run.redis.time()
    return float(score) / 1000 - seconds


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [("status", "paused", "a word of a newer version"), ("due_at", "soon", "a record that cannot be read")],
)
async def test_a_job_that_nobody_here_understands_is_put_back(run: Run, name: str, value: str, why: str) -> None:
    job_id = await run.submit(TO_ONE)
    await run.redis.hset(keys.job(job_id), name, value)
    lease = await run.claim(job_id)
    assert lease is not None
    before = await run.redis.hgetall(keys.job(job_id))
    await tasks.deliver({"lease": lease, "deps": run.deps}, job_id)
    after = await run.redis.hgetall(keys.job(job_id))
    assert before.items() - after.items() == {(b"run", lease.held.run.encode())}, why
    assert 50 < await due_in_s(run, job_id) <= 61
    assert not await run.redis.exists(keys.arq_in_progress(job_id))


async def test_content_that_cannot_be_read_ends_the_job_with_a_reason_and_is_kept(run: Run, redis: RedisClient) -> None:
    job_id = await run.submit(TO_ONE)
    await redis.set(keys.payload(job_id), "not JSON")
    view = await run.once(job_id)
    assert (view.job.status, view.job.reason) == (Status.FAILED, Reason.INTERNAL)
    assert await redis.get(keys.payload(job_id)) == b"not JSON"


async def test_content_that_is_gone_ends_the_job_with_a_reason(run: Run, redis: RedisClient) -> None:
    job_id = await run.submit(TO_ONE)
    await redis.delete(keys.payload(job_id))
    view = await run.once(job_id)
    assert (view.job.status, view.job.reason) == (Status.FAILED, Reason.INTERNAL)


async def test_an_entry_without_a_record_is_dropped(run: Run, redis: RedisClient) -> None:
    job_id = await run.submit(TO_ONE)
    await redis.delete(keys.job(job_id))
    lease = await run.claim(job_id)
    assert lease is not None
    await deliver(lease, run.deps)
    assert await redis.zcard(queue.QUEUE) == 0
    assert not await redis.exists(keys.arq_job(job_id), keys.arq_in_progress(job_id), keys.job(job_id))


@pytest.mark.parametrize(
    ("relay", "what"),
    [
        (ScriptedRelay(extensions=["AUTH PLAIN"]), "a relay without STARTTLS"),
        (
            ScriptedRelay(extensions=["STARTTLS", "AUTH PLAIN"], script={"STARTTLS": ["454 4.7.0 No"]}),
            "STARTTLS refused",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_password_never_travels_in_clear(make_run: Callable[..., Run], relay: ScriptedRelay, what: str) -> None:
    async with scripted_relay(relay):
        run = make_run(smtp_url=f"smtp://ada:secret@localhost:{relay.port}")
        view = await run.once(await run.submit(TO_ONE))
    assert view.job.status is Status.DEFERRED
    assert not any(command.startswith("AUTH") for command in relay.commands)


async def test_a_certificate_for_another_name_is_not_taken(make_run: Callable[..., Run], authority: trustme.CA) -> None:
    relay = ScriptedRelay(extensions=["STARTTLS"], tls=server_context(authority, "other.example"))
    async with scripted_relay(relay):
        run = make_run(smtp_url=f"smtp://localhost:{relay.port}")
        view = await run.once(await run.submit(TO_ONE))
    assert (view.job.status, relay.received) == (Status.DEFERRED, [])
    assert "certificate" in view.attempts[0].reply.text.lower()


async def test_a_wrong_password_is_tried_once_and_the_mail_waits(
    make_run: Callable[..., Run], authority: trustme.CA
) -> None:
    relay = ScriptedRelay(
        extensions=["STARTTLS", "AUTH PLAIN LOGIN CRAM-MD5"],
        tls=server_context(authority, "localhost"),
        script={"AUTH": ["535 5.7.8 Wrong"]},
    )
    async with scripted_relay(relay):
        run = make_run(smtp_url=f"smtp://ada:secret@localhost:{relay.port}")
        view = await run.once(await run.submit(TO_ONE))
    assert (view.job.status, view.attempts[0].reply.code) == (Status.DEFERRED, 535)
    assert sum(command.startswith("AUTH") for command in relay.commands) == 1
