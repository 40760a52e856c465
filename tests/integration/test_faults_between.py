"""The fault matrix between mails and between relays: connections used again, several recipients, lost answers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailer.jobs import JournalMark, Reason, RecipientStatus, Status
from mailer.relays import paused
from mailer.store import keys, records
from mailer.store.connection import RedisClient
from tests.integration.conftest import Run
from tests.integration.two_relays import QUICK, named, relayed, set_up
from tests.support.resets import resets_answered
from tests.support.smtp import DROP, HANG, ScriptedRelay, scripted_relay
from tests.support.source import Application
from worker.relays.wire import CHUNK, Wire

JOB: dict[str, Any] = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi\n"}
THREE = {**JOB, "to": ["ada@example.com", "bob@example.com", "cleo@example.com"]}
ONE_BY_ONE = ["8BITMIME"]


@pytest.mark.parametrize("extensions", [["PIPELINING"], ONE_BY_ONE], ids=["pipelined", "one by one"])
@pytest.mark.parametrize("trouble", ["451 4.3.0 Too old", "550 5.7.0 Enough of you", DROP, "what?", "503 5.5.1 Order"])
async def test_trouble_at_mail_on_a_used_connection_costs_nothing(
    trouble: str, extensions: list[str], make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path
) -> None:
    """The same mail goes at once on a fresh one, and nothing is counted."""
    relay = ScriptedRelay({"MAIL": ["250 ok", trouble, "250 ok"]}, extensions)
    async with scripted_relay(relay), relayed(make_run, redis, set_up(tmp_path, named("first", relay))) as world:
        views = [await world.run.once(await world.run.submit(JOB)) for _ in range(2)]
        state = await world.state()
    assert [(view.job.status, view.job.attempts, len(view.attempts)) for view in views] == [(Status.SENT, 1, 1)] * 2
    assert (len(relay.received), relay.connections, state.trouble, state.pace) == (2, 2, None, 1.0)


async def test_a_relay_that_says_421_between_two_mails_is_heard(
    make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path
) -> None:
    relay = ScriptedRelay({"QUIT": [HANG]})
    async with scripted_relay(relay), relayed(make_run, redis, set_up(tmp_path, named("first", relay))) as world:
        await world.run.once(await world.run.submit(JOB))
        await relay.say_unasked("421 4.4.2 Idle for too long")
        view = await world.run.once(await world.run.submit(JOB))
    assert (view.job.status, view.job.attempts, relay.connections, len(relay.received)) == (Status.SENT, 1, 2, 2)


@pytest.mark.parametrize("extensions", [["PIPELINING"], ONE_BY_ONE], ids=["pipelined", "one by one"])
async def test_only_the_recipient_who_may_be_had_later_is_tried_again(
    extensions: list[str], make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path
) -> None:
    """One accepted, one 550, one 450."""
    script = {
        "RCPT bob@example.com": ["550 5.1.1 Unknown"],
        "RCPT cleo@example.com": ["450 4.2.1 Not now", "450 4.2.1 Not now", "250 ok"],
    }
    relay = ScriptedRelay(script, extensions)
    moments = []
    async with scripted_relay(relay), relayed(make_run, redis, set_up(tmp_path, named("first", relay))) as world:
        job_id = await world.run.submit(THREE)
        for _ in range(3):
            view = await world.run.once(job_id)
            moments.append((view.job.status, *(item.status for item in view.job.recipients or ())))
    sent, failed, deferred = RecipientStatus.SENT, RecipientStatus.FAILED, RecipientStatus.DEFERRED
    assert moments == [
        (Status.DEFERRED, sent, failed, deferred),
        (Status.DEFERRED, sent, failed, deferred),
        (Status.SENT, sent, failed, sent),
    ]
    assert (view.job.partial, view.job.attempts) == (True, 3)
    assert [mail.recipients for mail in relay.received] == [["ada@example.com"], ["cleo@example.com"]]


async def test_content_that_is_asked_for_though_nobody_was_taken_is_not_given(
    make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path
) -> None:
    relay = ScriptedRelay({"RCPT": ["550 5.1.1 Unknown", "250 ok"], "NOBODY": ["354 go on"]})
    async with scripted_relay(relay), relayed(make_run, redis, set_up(tmp_path, named("first", relay))) as world:
        first = await world.run.once(await world.run.submit(JOB))
        await resets_answered(world.run.deps.router)
        second = await world.run.once(await world.run.submit(JOB))
    assert [first.job.status, second.job.status] == [Status.FAILED, Status.SENT]
    assert (len(relay.received), relay.connections) == (1, 1), "the connection is in step"


@pytest.mark.parametrize("hung", ["RSET", "QUIT"])
async def test_a_reset_or_goodbye_that_hangs_changes_nothing(
    hung: str, make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path
) -> None:
    relay = ScriptedRelay({hung: [HANG], "RCPT": ["550 5.1.1 Unknown", "250 ok"]})
    async with scripted_relay(relay), relayed(make_run, redis, set_up(tmp_path, named("first", relay))) as world:
        views = [await world.run.once(await world.run.submit(JOB)) for _ in range(2)]
    assert [view.job.status for view in views] == [Status.FAILED, Status.SENT]
    assert len(relay.received) == 1


@pytest.mark.parametrize("answer", [DROP, HANG, "what?", "354 go on"])
@pytest.mark.parametrize("policy", ["resend", "hold", "accept"])
async def test_an_answer_that_was_lost_after_the_dot_asks_no_other_relay(
    answer: str, policy: str, make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path
) -> None:
    """A second copy goes to the relay that may have the first, though it is not the preferred one."""
    first, second = (
        ScriptedRelay({"MAIL": ["451 4.3.0 Later"]}),
        ScriptedRelay({"DOT": ["250 taken", answer, "250 ok"]}),
    )
    async with scripted_relay(first), scripted_relay(second), scripted_relay() as third:
        relays = set_up(tmp_path, named("first", first), named("second", second), named("third", third))
        async with relayed(make_run, redis, relays, unknown_policy=f'{{"normal": "{policy}"}}') as world:
            job_id = await world.run.submit(JOB)
            view = await world.run.once(job_id)
            in_doubt = [item.in_doubt for item in view.job.recipients or ()]
            asked = len([line for line in first.commands if line.startswith("MAIL")])
            later = await world.run.once(job_id)
    statuses = {
        "resend": (Status.DEFERRED, Status.SENT), "hold": (Status.UNKNOWN,) * 2, "accept": (Status.SENT,) * 2,
    }  # fmt: skip
    assert (view.job.status, later.job.status) == statuses[policy]
    assert third.connections == 0
    if policy == "resend":
        assert in_doubt == ["second"]
        assert [line for line in first.commands if line.startswith("MAIL")] == [
            "MAIL FROM:<hello@postroom.example>"
        ] * asked
        assert [mail.content for mail in second.received] == [second.received[0].content] * 2, "byte for byte the same"


async def test_the_journal_names_the_relay_whose_answer_is_awaited(
    make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path
) -> None:
    """After the dot the first refuses: nothing is in doubt until the second has a dot, and then it is the second's."""
    first, second = ScriptedRelay({"DOT": ["451 4.3.0 Later"]}), ScriptedRelay()
    marks: list[JournalMark | None] = []

    async def note() -> None:
        raw = await redis.hgetall(keys.job(job_id))
        marks.append(records.decode_record(job_id, raw).journal)

    async def note_before_mail(moment: str) -> None:
        if moment == "MAIL":
            await note()

    first.before_dot = second.before_dot = note
    second.before_reply = note_before_mail
    async with scripted_relay(first), scripted_relay(second):
        relays = set_up(tmp_path, named("first", first), named("second", second))
        async with relayed(make_run, redis, relays) as world:
            job_id = await world.run.submit(JOB)
            view = await world.run.once(job_id)
    assert [mark and mark.relay for mark in marks] == ["first", None, "second"]
    assert (view.job.status, view.job.attempts, view.job.unknown_outcomes) == (Status.SENT, 1, 0)
    assert (first.received, len(second.received)) == ([], 1)


async def test_a_source_is_not_asked_for_mail_that_no_relay_may_have_now(
    make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path, app_source: Application
) -> None:
    async with scripted_relay() as first, scripted_relay() as second:
        relays = set_up(tmp_path, named("first", first), named("second", second, senders="other.example"))
        async with relayed(make_run, redis, relays) as world:
            await world.store.change("first", paused)
            await world.board.look()
            job_id = await world.run.submit({"event": "user.signed_up", "data": {"id": 42}})
            view = await world.run.once(job_id)
    assert (view.job.status, view.job.attempts, view.job.detail) == (Status.PENDING, 0, "first: paused")
    assert (app_source.requests, second.connections) == ([], 0)


async def test_a_relay_gets_only_mail_of_its_senders(
    make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path
) -> None:
    async with scripted_relay() as first, scripted_relay() as second:
        relays = set_up(tmp_path, named("first", first), named("second", second))
        relays = (replace(relays[0], senders=("acme.example",)), relays[1])
        async with relayed(make_run, redis, relays) as world:
            views = [
                await world.run.once(await world.run.submit({**JOB, "from": sender}))
                for sender in ("ada@acme.example", "ada@other.example")
            ]
        async with relayed(make_run, redis, relays[:1]) as world:
            waiting = await world.run.once(await world.run.submit({**JOB, "from": "ada@other.example"}))
    assert [view.attempts[0].relay for view in views] == ["first", "second"]
    assert (waiting.job.status, waiting.job.attempts) == (Status.PENDING, 0)
    assert waiting.job.detail == "No relay is set up to send for ada@other.example."


@pytest.mark.parametrize("other", [True, False], ids=["another can", "nobody can"])
async def test_an_address_that_needs_smtputf8_goes_to_a_relay_that_has_it(
    other: bool, make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path
) -> None:
    first, second = ScriptedRelay(), ScriptedRelay(extensions=["SMTPUTF8", "8BITMIME", "SIZE"])
    async with scripted_relay(first), scripted_relay(second):
        tables = [named("first", first), named("second", second)]
        async with relayed(make_run, redis, set_up(tmp_path, *(tables if other else tables[:1]))) as world:
            view = await world.run.once(await world.run.submit({**JOB, "to": ["zoë@example.com"]}))
    assert first.received == []
    if other:
        assert view.job.status is Status.SENT
        (mail,) = second.received
        assert mail.options == f"SIZE={len(mail.content)} BODY=8BITMIME SMTPUTF8"
    else:
        (recipient,) = view.job.recipients or ()
        assert (view.job.status, view.job.reason) == (Status.FAILED, Reason.REFUSED)
        assert recipient.reply is not None
        assert recipient.reply.enhanced == "5.6.7"


@pytest.mark.parametrize(
    ("extensions", "options"),
    [
        (["PIPELINING"], ""),
        (["SIZE"], "SIZE={size}"),
        (["SIZE 0"], "SIZE={size}"),
        (["SIZE 100000", "8BITMIME", "SMTPUTF8"], "SIZE={size}"),
    ],
    ids=str,
)
async def test_only_what_is_offered_and_needed_is_said_at_mail(
    extensions: list[str], options: str, make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path
) -> None:
    relay = ScriptedRelay(extensions=extensions)
    async with scripted_relay(relay), relayed(make_run, redis, set_up(tmp_path, named("first", relay))) as world:
        await world.run.once(await world.run.submit(JOB))
    (mail,) = relay.received
    assert mail.options == options.format(size=len(mail.content))


async def test_a_large_mail_is_written_in_pieces(
    make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[int] = []

    class Noted(Wire):
        def put(self, content: bytes) -> None:
            pieces.append(len(content))
            super().put(content)

    monkeypatch.setattr("worker.relays.opening.Wire", Noted)
    relay = ScriptedRelay()
    text = "A line that is as long as most of them are, and a few more words\n" * 30_000
    async with (
        scripted_relay(relay),
        relayed(make_run, redis, set_up(tmp_path, named("first", relay)), replace(QUICK, verdict_s=5)) as world,
    ):
        view = await world.run.once(await world.run.submit({**JOB, "text": text}))
    assert view.job.status is Status.SENT
    assert sum(pieces) == len(relay.received[0].content) > 1_900_000
    assert max(pieces) <= CHUNK + 100


async def test_whom_another_relay_may_take_is_asked_for_again_though_the_answer_was_lost_for_the_others(
    make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path
) -> None:
    script = {
        "RCPT bob@example.com": ["554 5.7.1 blocked using zen.spamhaus.org"],
        "DOT": ["250 taken", DROP, "250 ok"],
    }
    first = ScriptedRelay(script)
    async with scripted_relay(first), scripted_relay() as second:
        relays = set_up(tmp_path, named("first", first), named("second", second))
        async with relayed(make_run, redis, relays) as world:
            job_id = await world.run.submit({**JOB, "to": ["ada@example.com", "bob@example.com"]})
            view = await world.run.once(job_id)
    bob = (view.job.recipients or ())[1]
    assert (view.job.status, bob.status) == (Status.DEFERRED, RecipientStatus.DEFERRED)
    assert second.connections == 0, "the first may have the mail for ada"
