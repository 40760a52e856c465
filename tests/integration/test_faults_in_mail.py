"""From MAIL to the final dot and after it, with relays to go on to: who is asked, who has the mail, how often."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mailer.jobs import Job, Phase, Reason, RecipientStatus, Status
from mailer.relays import OpenedBy, RelayState
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobView
from tests.integration.conftest import Run
from tests.integration.two_relays import Relayed, named, relayed, set_up
from tests.support.resets import resets_answered
from tests.support.smtp import DROP, HANG, ScriptedRelay, scripted_relay

JOB: dict[str, Any] = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi\n"}
TWO = {**JOB, "to": ["ada@example.com", "bob@example.com"]}
THREE = {**JOB, "to": ["ada@example.com", "bob@example.com", "cleo@example.com"]}
LINE = "A line that is as long as most of them are, and a few more words\n"
LARGE, HUGE = {**JOB, "text": LINE * 2_000}, {**JOB, "text": "\u65e5\u672c\u8a9e\n" * 450_000}
"""Of several pieces, and more than the operating system takes at once."""
SENT, FAILED, DEFERRED = RecipientStatus.SENT, RecipientStatus.FAILED, RecipientStatus.DEFERRED
MINUTE_MS, HOUR_MS, DAY_S = 60_000, 3_600_000, 86_400
WELL = RelayState()
WAYS = pytest.mark.parametrize("extensions", [["PIPELINING"], ["8BITMIME"]], ids=["pipelined", "one by one"])

NewWorld = Callable[..., Awaitable[Relayed]]


@pytest.fixture
async def new_world(make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path) -> AsyncIterator[NewWorld]:
    """A worker with these relays, named "first", "second" and "third"; `senders` by their names."""
    async with AsyncExitStack() as stack:

        async def make(*relays: ScriptedRelay, senders: dict[str, str] | None = None, **settings: str) -> Relayed:
            tables = []
            for name, relay in zip(("first", "second", "third"), relays, strict=False):
                await stack.enter_async_context(scripted_relay(relay))
                only = (senders or {}).get(name)
                tables.append(named(name, relay, **({"senders": only} if only else {})))
            return await stack.enter_async_context(relayed(make_run, redis, set_up(tmp_path, *tables), **settings))

        yield make


async def sent(world: Relayed, body: dict[str, Any] = JOB) -> JobView:
    return await world.run.once(await world.run.submit(body))


def mails(relay: ScriptedRelay) -> int:
    """How often it was asked to take one."""
    return sum(command.startswith("MAIL") for command in relay.commands)


def statuses(view: JobView) -> list[RecipientStatus]:
    return [item.status for item in view.job.recipients or ()]


def tries(view: JobView) -> list[tuple[int, str | None, str, Phase]]:
    return [(each.number, each.relay, each.outcome, each.phase) for each in view.attempts]


def wait_ms(view: JobView) -> int:
    assert view.job.next_attempt_at is not None
    return view.job.next_attempt_at - view.attempts[-1].at


def ended(job: Job) -> tuple[Status, Reason | None, int]:
    return job.status, job.reason, job.attempts


def alerts(logs: Any) -> list[tuple[str, str]]:
    return [(entry["relay"], entry["row"]) for entry in logs if entry["event"] == "relay.alert"]


# The sender


@WAYS
@pytest.mark.parametrize("trouble", ["451 4.3.0 Old", "550 5.7.0 Old", DROP, HANG, "what?", "503 5.5.1 Old", "354 go"])
async def test_a_connection_that_is_too_old_is_no_reason_to_ask_another_relay(
    new_world: NewWorld, extensions: list[str], trouble: str
) -> None:
    first, second = ScriptedRelay({"MAIL": ["250 ok", trouble, "250 ok"]}, extensions), ScriptedRelay()
    world = await new_world(first, second)
    with capture_logs() as logs:
        views = [await sent(world) for _ in range(2)]
    assert [tries(view) for view in views] == [[(1, "first", "sent", Phase.DOT)]] * 2
    assert (len(first.received), first.connections, second.connections) == (2, 2, 0)
    assert (await world.state(), alerts(logs)) == (WELL, [])


@WAYS
@pytest.mark.parametrize("ending", ["closed", "aborted"])
async def test_a_connection_that_the_relay_closed_meanwhile_costs_nothing(
    new_world: NewWorld, extensions: list[str], ending: str
) -> None:
    first, second = ScriptedRelay(extensions=extensions), ScriptedRelay()
    world = await new_world(first, second)
    await sent(world)
    for writer in list(first.writers):
        writer.close() if ending == "closed" else writer.transport.abort()
    assert tries(await sent(world)) == [(1, "first", "sent", Phase.DOT)]
    assert (len(first.received), first.connections, second.connections) == (2, 2, 0)
    assert await world.state() == WELL


@WAYS
async def test_trouble_on_the_fresh_connection_too_is_the_relays(new_world: NewWorld, extensions: list[str]) -> None:
    """Once more afresh, not again and again."""
    first = ScriptedRelay({"MAIL": ["250 ok", DROP, "451 4.3.0 Later"]}, extensions)
    second = ScriptedRelay()
    world = await new_world(first, second)
    await sent(world)
    view = await sent(world)
    assert tries(view) == [(1, "first", "failed_over", Phase.MAIL), (1, "second", "sent", Phase.DOT)]
    assert (mails(first), len(first.received), len(second.received)) == (3, 1, 1)
    assert (await world.state()).pace == 0.5


@WAYS
@pytest.mark.parametrize("moment", ["MAIL", "RCPT", "DOT"])
async def test_a_sender_that_one_relay_refuses_may_be_allowed_at_another_but_not_where_it_is_not_to_go(
    new_world: NewWorld, extensions: list[str], moment: str
) -> None:
    """Postfix says it of each recipient, Exchange and SES once they have the content."""
    refused = {moment: ["553 5.7.1 <hello@postroom.example>: Sender address rejected: not owned by user"]}
    first, second, third = ScriptedRelay(refused, extensions), ScriptedRelay(), ScriptedRelay()
    world = await new_world(first, second, third, senders={"second": "other.example"})
    with capture_logs() as logs:
        view = await sent(world)
    assert tries(view) == [
        (1, "first", "failed_over", Phase(moment.lower())),
        (1, "third", "sent", Phase.DOT),
    ]
    assert (first.received, second.connections, len(third.received)) == ([], 0, 1)
    assert (await world.state(), alerts(logs)) == (WELL, [("first", "sender_refused")])


@pytest.mark.parametrize("moment", ["MAIL", "RCPT", "DOT"])
async def test_a_sender_that_nobody_allows_fails_and_somebody_is_told(new_world: NewWorld, moment: str) -> None:
    refused = {moment: ["553 5.7.1 Sender address rejected: not owned by user"]}
    first, second = ScriptedRelay(refused), ScriptedRelay()
    world = await new_world(first, second, senders={"second": "other.example"})
    with capture_logs() as logs:
        view = await sent(world)
    assert ended(view.job) == (Status.FAILED, Reason.REFUSED, 1)
    assert (statuses(view), second.connections) == ([FAILED], 0)
    assert alerts(logs) == [("first", "sender_refused")]


async def test_a_relay_that_wants_a_password_is_not_asked_again_and_again_in_silence(new_world: NewWorld) -> None:
    """Some say so in the words of a bad sequence."""
    first, second = ScriptedRelay({"MAIL": ["503 5.5.4 Authentication required"]}), ScriptedRelay()
    world = await new_world(first, second)
    with capture_logs() as logs:
        view = await sent(world)
    assert tries(view) == [(1, "first", "failed_over", Phase.MAIL), (1, "second", "sent", Phase.DOT)]
    assert (first.connections, alerts(logs)) == (1, [("first", "relaying_denied")])


# Its size


async def test_a_mail_that_is_larger_than_a_relay_takes_is_not_offered_to_it(new_world: NewWorld) -> None:
    first, second = ScriptedRelay(extensions=["PIPELINING", "SIZE 1000"]), ScriptedRelay(extensions=["SIZE 5000000"])
    world = await new_world(first, second)
    view = await sent(world, LARGE)
    assert tries(view) == [(1, "first", "failed_over", Phase.MAIL), (1, "second", "sent", Phase.DOT)]
    assert [command.split()[0] for command in first.commands] == ["EHLO"]
    assert view.attempts[0].reply.enhanced == "5.3.4"
    assert (await sent(world)).attempts[0].relay == "first", "a small one is welcome, on the same connection"
    assert (mails(first), first.connections, len(second.received)) == (1, 1, 1)


async def test_a_mail_that_is_larger_than_every_relay_takes_fails_at_once(new_world: NewWorld) -> None:
    first = ScriptedRelay(extensions=["SIZE 1000"])
    second = ScriptedRelay({"MAIL": ["552 5.3.4 Message size exceeds fixed limit"]})
    world = await new_world(first, second)
    view = await sent(world, LARGE)
    assert ended(view.job) == (Status.FAILED, Reason.REFUSED, 1)
    assert tries(view) == [(1, "first", "failed_over", Phase.MAIL), (1, "second", "failed", Phase.MAIL)]
    assert (mails(first), mails(second), second.received) == (0, 1, [])


@pytest.mark.parametrize(
    ("reply", "elsewhere"),
    [("552 5.3.4 Message too big", True), ("552 5.7.0 Blocked: its content is a potential security issue", False)],
)
async def test_after_the_dot_552_is_about_the_size_only_where_it_says_so(
    new_world: NewWorld, reply: str, elsewhere: bool
) -> None:
    first, second = ScriptedRelay({"DOT": [reply]}), ScriptedRelay()
    world = await new_world(first, second)
    view = await sent(world)
    assert (view.job.status is Status.SENT, len(second.received)) == (elsewhere, elsewhere)
    assert first.received == []


# Recipients


@WAYS
async def test_those_who_are_too_many_for_one_mail_have_the_next(new_world: NewWorld, extensions: list[str]) -> None:
    first = ScriptedRelay({"RCPT cleo@example.com": ["452 4.5.3 Too many recipients", "250 ok"]}, extensions)
    second = ScriptedRelay()
    world = await new_world(first, second)
    job_id = await world.run.submit(THREE)
    view = await world.run.once(job_id)
    assert (view.job.status, statuses(view)) == (Status.DEFERRED, [SENT, SENT, DEFERRED])
    assert wait_ms(view) < MINUTE_MS
    view = await world.run.once(job_id)
    assert (view.job.status, view.job.partial, view.job.attempts) == (Status.SENT, False, 2)
    assert [mail.recipients for mail in first.received] == [THREE["to"][:2], THREE["to"][2:]]
    assert second.connections == 0


@pytest.mark.parametrize(
    ("bob", "least_ms", "most_ms"),
    [
        ("452 4.2.2 Mailbox full", 30 * MINUTE_MS, 40 * MINUTE_MS),
        ("450 4.2.0 Greylisted", MINUTE_MS, 2 * MINUTE_MS),
        ("450 4.1.1 Hm", 15_000, 35_000),
    ],
)
async def test_of_several_who_are_tried_again_the_one_with_the_shortest_wait_decides(
    new_world: NewWorld, bob: str, least_ms: int, most_ms: int
) -> None:
    script = {"RCPT ada@example.com": ["452 4.2.2 Mailbox full"], "RCPT bob@example.com": [bob]}
    first, second = ScriptedRelay(script), ScriptedRelay()
    world = await new_world(first, second)
    view = await sent(world, TWO)
    assert (view.job.status, statuses(view), second.connections) == (Status.DEFERRED, [DEFERRED] * 2, 0)
    assert least_ms <= wait_ms(view) <= most_ms


@pytest.mark.parametrize(
    "reply", ["451 4.3.0 Temporary lookup failure", "450 4.1.8 Sender address rejected: Domain not found"]
)
async def test_what_is_no_recipients_fault_goes_to_the_next_relay(new_world: NewWorld, reply: str) -> None:
    first, second = ScriptedRelay({"RCPT": [reply]}), ScriptedRelay()
    world = await new_world(first, second)
    view = await sent(world)
    assert tries(view) == [(1, "first", "failed_over", Phase.RCPT), (1, "second", "sent", Phase.DOT)]
    assert (view.job.stays_at, await world.state()) == (None, WELL)


@pytest.mark.parametrize("echo", ["503 5.5.1 Bad sequence", "554 5.5.1 No valid recipients", "451 4.5.0 Hm", "421 Bye"])
@pytest.mark.parametrize(
    ("script", "phase", "code"),
    [
        ({"MAIL": ["552 5.3.4 Too big"]}, Phase.MAIL, 552),
        ({"MAIL": ["451 4.3.0 Later"]}, Phase.MAIL, 451),
        ({"RCPT": ["550 5.1.1 Unknown"]}, Phase.RCPT, 550),
        ({"RCPT": ["450 4.2.0 Greylisted"]}, Phase.RCPT, 450),
    ],
    ids=["MAIL 552", "MAIL 451", "RCPT 550", "RCPT 450"],
)
async def test_what_follows_a_refusal_that_was_written_in_one_go_changes_nothing(
    new_world: NewWorld, script: dict[str, list[str]], phase: Phase, code: int, echo: str
) -> None:
    first = ScriptedRelay({**script, "OUT OF ORDER": [echo], "NOBODY": [echo]})
    world = await new_world(first)
    view = await sent(world, TWO)
    await resets_answered(world.run.deps.router)
    assert [(each.phase, each.reply.code) for each in view.attempts] == [(phase, code)]
    assert [item.reply.code for item in view.job.recipients or () if item.reply] == [code] * 2
    assert view.job.status is (Status.FAILED if code >= 500 else Status.DEFERRED)
    assert (first.dots, "RSET" in first.commands) == (0, True)


@pytest.mark.parametrize("answer", ["554 5.5.1 No valid recipients", "250 2.0.0 Ok, queued"])
async def test_a_relay_that_asks_for_content_for_nobody_gets_none_whatever_it_makes_of_that(
    new_world: NewWorld, answer: str
) -> None:
    script = {
        "RCPT ada@example.com": ["550 5.1.1 Unknown"],
        "RCPT bob@example.com": ["450 4.2.1 Not now", "250 ok"],
        "NOBODY": ["354 go on"],
        "OUT OF ORDER": [answer],
    }
    first, second = ScriptedRelay(script), ScriptedRelay()
    world = await new_world(first, second)
    job_id = await world.run.submit(TWO)
    view = await world.run.once(job_id)
    await resets_answered(world.run.deps.router)
    assert (view.job.status, statuses(view)) == (Status.DEFERRED, [FAILED, DEFERRED])
    assert (first.received, first.dots, first.read, first.commands[-1]) == ([], 1, 0, "RSET")
    view = await world.run.once(job_id)
    assert (view.job.status, view.job.partial, statuses(view)) == (Status.SENT, True, [FAILED, SENT])
    assert [mail.recipients for mail in first.received] == [["bob@example.com"]]
    assert (first.connections, second.connections) == (1, 0), "it is in step"


# The conversation


OUT_OF_STEP = pytest.mark.parametrize(
    ("moment", "answer"),
    [
        ("MAIL", "354 go on"),
        ("RCPT", "503 5.5.1 MAIL first"),
        ("RCPT", "what?"),
        ("DATA", "250 2.0.0 Ok, queued"),
        ("DATA", "503 5.5.1 RCPT first"),
        ("DATA", "334 VXNlcm5hbWU6"),
    ],
)


@WAYS
@OUT_OF_STEP
async def test_a_relay_that_is_out_of_step_once_has_the_mail_on_a_fresh_connection(
    new_world: NewWorld, extensions: list[str], moment: str, answer: str
) -> None:
    usual = "354 go on" if moment == "DATA" else "250 ok"
    first, second = ScriptedRelay({moment: [answer, usual]}, extensions), ScriptedRelay()
    world = await new_world(first, second)
    assert tries(await sent(world)) == [(1, "first", "sent", Phase.DOT)]
    assert (len(first.received), first.connections) == (1, 2)
    assert (second.connections, await world.state()) == (0, WELL)


@WAYS
@OUT_OF_STEP
async def test_a_relay_that_is_out_of_step_twice_has_the_mail_later(
    new_world: NewWorld, extensions: list[str], moment: str, answer: str
) -> None:
    first, second = ScriptedRelay({moment: [answer]}, extensions), ScriptedRelay()
    world = await new_world(first, second)
    view = await sent(world)
    assert (view.job.status, tries(view)) == (Status.DEFERRED, [(1, "first", "deferred", Phase(moment.lower()))])
    assert (first.received, first.dots, first.connections, second.connections) == ([], 0, 2, 0)
    assert (statuses(view), await world.state()) == ([RecipientStatus.PENDING], WELL)


# The content


@WAYS
@pytest.mark.parametrize("moment", ["DATA", "BODY"])
@pytest.mark.parametrize("trouble", [DROP, HANG, "451 4.3.0 Not now", "421 4.3.2 Closing"])
async def test_up_to_the_dot_another_relay_has_what_one_did_not_take_and_there_is_one_copy(
    new_world: NewWorld, extensions: list[str], moment: str, trouble: str
) -> None:
    first, second = ScriptedRelay({moment: [trouble]}, extensions), ScriptedRelay()
    world = await new_world(first, second)
    job_id = await world.run.submit(HUGE if (moment, trouble) == ("BODY", HANG) else LARGE)
    view = await world.run.once(job_id)
    assert tries(view) == [(1, "first", "failed_over", Phase.DATA), (1, "second", "sent", Phase.DOT)]
    assert ended(view.job) == (Status.SENT, None, 1)
    assert (first.received, first.dots, len(second.received)) == ([], 0, 1)
    assert (await world.state()).failures == 0
    await world.run.once(job_id)
    assert len(second.received) == 1


@pytest.mark.parametrize(("moment", "phase"), [("BODY", Phase.DATA), ("DOT", Phase.DOT)])
async def test_content_that_a_relay_will_not_have_is_not_offered_to_others(
    new_world: NewWorld, moment: str, phase: Phase
) -> None:
    first, second = ScriptedRelay({moment: ["554 5.6.0 Message content rejected"]}), ScriptedRelay()
    world = await new_world(first, second)
    view = await sent(world, LARGE)
    assert (ended(view.job), tries(view)) == ((Status.FAILED, Reason.REFUSED, 1), [(1, "first", "failed", phase)])
    assert (first.received, second.connections, statuses(view)) == ([], 0, [FAILED])


@pytest.mark.parametrize("moment", ["RCPT", "DATA", "DOT"])
async def test_a_relay_that_others_do_not_want_mail_from_is_told_of_and_gone_round(
    new_world: NewWorld, moment: str
) -> None:
    listed = "554 5.7.1 Client host blocked using zen.spamhaus.org"
    first, second = ScriptedRelay({moment: [listed]}), ScriptedRelay()
    world = await new_world(first, second)
    with capture_logs() as logs:
        view = await sent(world)
    assert tries(view) == [(1, "first", "failed_over", Phase(moment.lower())), (1, "second", "sent", Phase.DOT)]
    assert (first.received, len(second.received)) == ([], 1)
    assert alerts(logs) == [("first", "blocklisted")]


# After the dot


async def test_a_relay_whose_quota_is_used_up_is_left_alone_for_an_hour(new_world: NewWorld) -> None:
    first = ScriptedRelay({"DOT": ["454 Throttling failure: Daily message quota exceeded."]})
    second = ScriptedRelay()
    world = await new_world(first, second)
    with capture_logs() as logs:
        views = [await sent(world) for _ in range(3)]
    assert [[each.relay for each in view.attempts] for view in views] == [["first", "second"], ["second"], ["second"]]
    state = await world.state()
    assert (state.opened_by, mails(first), first.received) == (OpenedBy.QUOTA, 1, [])
    assert state.opened_at is not None
    assert (state.open_until or 0) - state.opened_at == HOUR_MS
    assert alerts(logs) == [("first", "quota_used_up")]


async def test_a_relay_that_says_slower_has_the_next_mail_all_the_same(new_world: NewWorld) -> None:
    rate = "454 4.7.0 Throttling failure: Maximum sending rate exceeded."
    first, second = ScriptedRelay({"DOT": [rate, rate, "250 ok"]}), ScriptedRelay()
    world = await new_world(first, second)
    with capture_logs() as logs:
        views = [await sent(world) for _ in range(2)]
    assert [[each.relay for each in view.attempts] for view in views] == [["first", "second"], ["first"]]
    state = await world.state()
    assert (state.opened_at, state.pace, alerts(logs)) == (None, 0.5, [])
    assert (len(first.received), len(second.received)) == (1, 1)


@pytest.mark.parametrize("lost", [DROP, HANG, "what?"])
async def test_a_second_copy_goes_to_the_relay_that_may_have_the_first_and_not_to_the_one_that_refused(
    new_world: NewWorld, lost: str
) -> None:
    first = ScriptedRelay({"DOT": ["451 4.3.0 Later", "451 4.3.0 Later", "250 ok"]})
    second, third = ScriptedRelay({"DOT": ["250 taken", lost, "250 ok"]}), ScriptedRelay()
    world = await new_world(first, second, third, unknown_policy='{"normal": "resend"}')
    job_id = await world.run.submit(JOB)
    view = await world.run.once(job_id)
    assert (view.job.status, view.job.unknown_outcomes) == (Status.DEFERRED, 1)
    assert [item.in_doubt for item in view.job.recipients or ()] == ["second"]
    assert view.job.journal is None
    assert wait_ms(view) >= MINUTE_MS
    view = await world.run.once(job_id)
    assert tries(view) == [
        (1, "first", "failed_over", Phase.DOT),
        (1, "second", "unknown", Phase.DOT),
        (2, "second", "sent", Phase.DOT),
    ]
    assert (view.job.status, view.job.attempts) == (Status.SENT, 2)
    assert (mails(first), first.received, third.connections) == (1, [], 0)
    assert [mail.content for mail in second.received] == [second.received[0].content] * 2
    assert await world.state("second") == WELL


@pytest.mark.parametrize("reset", [DROP, HANG, "what?", "500 5.5.1 What?", "421 4.4.2 Bye"])
async def test_a_reset_that_fails_keeps_the_mail_from_no_other_relay(new_world: NewWorld, reset: str) -> None:
    first, second = ScriptedRelay({"DOT": ["451 4.3.0 Later"], "RSET": [reset], "QUIT": [HANG]}), ScriptedRelay()
    world = await new_world(first, second)
    views = [await sent(world) for _ in range(2)]
    assert [tries(view)[-1] for view in views] == [(1, "second", "sent", Phase.DOT)] * 2
    assert (first.received, first.connections, len(second.received)) == ([], 2, 2)
    assert await world.state() == WELL


# Where nobody takes it


async def test_while_no_relay_may_be_asked_nothing_is_counted_and_in_the_end_it_says_why(new_world: NewWorld) -> None:
    first, second = ScriptedRelay(), ScriptedRelay()
    world = await new_world(first, second)
    for name in ("first", "second"):
        await world.store.change(
            name, lambda _, now: RelayState(opened_at=now, open_until=now + HOUR_MS, opened_by=OpenedBy.QUOTA)
        )
    await world.board.look()
    job_id = await world.run.submit(JOB)
    for _ in range(3):
        view = await world.run.once(job_id)
    assert (ended(view.job), view.attempts) == ((Status.PENDING, None, 0), ())
    assert view.job.detail == "first: open (quota); second: open (quota)"
    await world.run.age(job_id, 3 * DAY_S)
    view = await world.run.once(job_id)
    assert ended(view.job) == (Status.FAILED, Reason.NO_USABLE_RELAY, 0)
    assert (first.connections, second.connections) == (0, 0)


async def test_a_mail_that_every_relay_puts_off_is_given_up_after_its_time(new_world: NewWorld) -> None:
    first, second = ScriptedRelay({"MAIL": ["451 4.3.0 Later"]}), ScriptedRelay({"DOT": ["451 4.3.0 Not now"]})
    world = await new_world(first, second)
    job_id = await world.run.submit(JOB)
    view = await world.run.once(job_id)
    assert tries(view) == [(1, "first", "failed_over", Phase.MAIL), (1, "second", "deferred", Phase.DOT)]
    assert view.attempts[1].next_attempt_at == view.job.next_attempt_at
    await world.run.age(job_id, 3 * DAY_S)
    view = await world.run.once(job_id)
    assert (ended(view.job), statuses(view)) == ((Status.FAILED, Reason.GAVE_UP, 2), [FAILED])
    assert (first.received, second.received, view.job.journal) == ([], [], None)


async def test_a_mail_whose_author_has_no_more_time_reaches_no_relay(new_world: NewWorld) -> None:
    first, second = ScriptedRelay({"MAIL": ["451 4.3.0 Later"]}), ScriptedRelay({"MAIL": ["451 4.3.0 Later"]})
    world = await new_world(first, second)
    reset = {"template": "reset-password", "data": {"id": 42, "reset_url": "https://a.test/r"}}
    job_id = await world.run.submit(reset)
    assert (await world.run.once(job_id)).job.status is Status.DEFERRED
    asked = mails(first), mails(second)
    await world.run.age(job_id, 31 * 60)
    view = await world.run.once(job_id)
    assert (view.job.status, view.job.attempts, statuses(view)) == (Status.EXPIRED, 1, [FAILED])
    assert (mails(first), mails(second)) == asked == (1, 1)
