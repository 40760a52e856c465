"""From relay to relay in one attempt: who is asked, what is written down before a dot, and what all of it comes to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mailer.addresses import Address
from mailer.jobs import Phase, RecipientStatus, Reply
from mailer.relays import OpenedBy, RelayState, paused
from mailer.store.connection import RedisClient
from mailer.store.relays import RelayStore
from tests.integration.two_relays import QUICK, named, set_up
from tests.support.processes import free_port
from tests.support.smtp import DROP, HANG, ScriptedRelay, scripted_relay
from tests.support.waiting import until
from worker.relays.attempt import Place, Result, Routed, Waiting
from worker.relays.board import Board
from worker.relays.gate import Busy
from worker.relays.pool import OPENING_AT_ONCE, Pool
from worker.relays.replies import Wait
from worker.relays.router import FULL_S, Router
from worker.relays.timeouts import Timeouts
from worker.relays.transaction import Envelope

ADA, BOB = Address("ada@example.com"), Address("bob@example.com")
AUTHOR = Address("hello@postroom.example")
SENT, FAILED, DEFERRED = RecipientStatus.SENT, RecipientStatus.FAILED, RecipientStatus.DEFERRED
PENDING = RecipientStatus.PENDING
DOWN = None
"""In place of a script: nobody listens there."""
Script = dict[str, list[str]] | None

FULL: Script = {"MAIL": ["552 5.3.4 Too big"]}
PATIENT = replace(QUICK, verdict_s=30.0, stall_s=30.0)
NOT_NOW: Script = {"MAIL": ["451 4.3.0 Later"]}
NOT_FOR_US: Script = {"MAIL": ["550 5.7.1 Not your address"]}
NO_RELAY: Script = {"RCPT": ["554 5.7.1 Relay access denied"]}
UNKNOWN: Script = {"RCPT": ["550 5.1.1 No such user"]}


def mail(*to: Address) -> Envelope:
    return Envelope(AUTHOR, to or (ADA,), b"Subject: Hi\r\n\r\n" + b"Hi\r\n" * 100)


@dataclass
class Written:
    """The journal: what was written down, and what was taken back."""

    events: list[str] = field(default_factory=list)
    results: list[Mapping[str, Result]] = field(default_factory=list)
    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def write(self, relay: str, results: Mapping[str, Result]) -> None:
        self.events.append(relay)
        self.results.append(dict(results))
        if self.meanwhile is not None:
            await self.meanwhile()

    async def refused(self) -> None:
        self.events.append("not taken")


@dataclass
class World:
    router: Router
    board: Board
    store: RelayStore
    relays: dict[str, ScriptedRelay]
    journal: Written = field(default_factory=Written)

    async def routed(self, *to: Address, **options: Any) -> Routed:
        found = await self.router.send(mail(*to), AUTHOR, self.journal, **options)
        assert isinstance(found, Routed)
        return found

    async def state(self, name: str = "first") -> RelayState:
        return (await self.store.states([name]))[0][name]

    async def pause(self, name: str) -> None:
        await self.store.change(name, paused)
        await self.board.look()


@pytest.fixture
async def make_world(redis: RedisClient, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[World]]]:
    """Relays by the names of the options, in their order."""
    async with AsyncExitStack() as stack:

        async def make(timeouts: Timeouts = QUICK, connections: int = 30, **scripts: Script) -> World:
            servers = {
                name: ScriptedRelay(port=free_port())
                if script is DOWN
                else await stack.enter_async_context(scripted_relay(ScriptedRelay(dict(script))))
                for name, script in scripts.items()
            }
            tables = [named(name, server, connections=str(connections)) for name, server in servers.items()]
            relays = set_up(tmp_path, *tables)
            store = RelayStore(redis)
            board = Board(store, relays, "a worker")
            await board.look()
            router = Router([Pool(relay, timeouts) for relay in relays], board)
            stack.push_async_callback(router.close)
            return World(router, board, store, servers)

        yield make


MakeWorld = Callable[..., Awaitable[World]]


def bound_to(relay: str, *to: Address) -> Place:
    return Place((relay,), {address.email: relay for address in to}, all_bound=True)


def opened(now: int, left_ms: int) -> RelayState:
    return RelayState(opened_at=now, open_until=now + left_ms, openings=1, opened_by=OpenedBy.CONNECTION)


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        (FULL, NOT_FOR_US, FAILED),
        (NOT_FOR_US, FULL, FAILED),
        (DOWN, FULL, DEFERRED),
        (DOWN, NOT_FOR_US, DEFERRED),
        (NOT_NOW, FULL, DEFERRED),
        (NO_RELAY, FULL, DEFERRED),
        (FULL, NOT_NOW, DEFERRED),
        (FULL, DOWN, None),
        (DOWN, DOWN, None),
        (DOWN, UNKNOWN, FAILED),
        (NOT_NOW, UNKNOWN, FAILED),
        (FULL, UNKNOWN, FAILED),
        (UNKNOWN, {}, FAILED),
        (FULL, {}, SENT),
        (DOWN, {}, SENT),
    ],
    ids=str,
)
async def test_a_mail_fails_only_where_no_relay_may_ever_take_it(
    make_world: MakeWorld, first: Script, second: Script, status: RecipientStatus | None
) -> None:
    """What one relay will not have, another that is in trouble now may have later. Who is no user is none anywhere."""
    world = await make_world(first=first, second=second)
    assert (await world.routed()).results[ADA.email].status == status


async def test_a_relay_that_could_not_be_asked_may_take_what_another_one_does_not(make_world: MakeWorld) -> None:
    world = await make_world(first={}, second=FULL)
    await world.pause("first")
    routed = await world.routed()
    assert (routed.results[ADA.email].status, [tried.relay for tried in routed.tries]) == (DEFERRED, ["second"])


async def test_those_whom_a_relay_does_not_know_do_not_go_to_the_next_one_with_the_others(
    make_world: MakeWorld,
) -> None:
    script = {"RCPT ada@example.com": ["550 5.1.1 Unknown"], "RCPT bob@example.com": ["554 5.7.1 Relay access denied"]}
    world = await make_world(first=script, second={})
    results = (await world.routed(ADA, BOB)).results
    assert (results[ADA.email].status, results[BOB.email].status) == (FAILED, SENT)
    assert [each.recipients for each in world.relays["second"].received] == [[BOB.email]]
    assert world.journal.events == ["second"]
    (known,) = world.journal.results
    assert (known[ADA.email].status, known[BOB.email].status) == (FAILED, PENDING), "a crash forgets nobody"


@pytest.mark.parametrize("second", [NOT_NOW, {"RCPT": ["450 4.2.0 Greylisted, come back"]}], ids=str)
async def test_whom_a_relay_greylists_comes_back_to_it_wherever_the_others_went(
    make_world: MakeWorld, second: Script
) -> None:
    script = {
        "RCPT ada@example.com": ["450 4.2.0 Greylisted, come back"],
        "RCPT bob@example.com": ["554 5.7.1 Relay access denied"],
    }
    world = await make_world(first=script, second=second)
    routed = await world.routed(ADA, BOB)
    assert (routed.greylisted_at, routed.results[ADA.email].wait) == ("first", Wait.GREYLIST)
    assert [tried.relay for tried in routed.tries] == ["first", "second"]


@pytest.mark.parametrize(
    ("first", "events"),
    [
        ({"DOT": ["451 4.3.0 Later"]}, ["first", "not taken", "second"]),
        ({"DOT": ["421 4.3.2 Closing"]}, ["first", "not taken", "second"]),
        ({"MAIL": ["451 4.3.0 Later"]}, ["second"]),
        ({"DATA": [DROP]}, ["second"]),
        ({"DOT": ["250 taken", DROP]}, ["first"]),
        ({"DOT": ["554 5.6.0 No"]}, ["first"]),
        ({}, ["first"]),
    ],
    ids=str,
)
async def test_before_each_dot_and_only_there_it_is_written_down_who_may_have_the_mail(
    make_world: MakeWorld, first: Script, events: list[str]
) -> None:
    world = await make_world(first=first, second={})
    await world.routed()
    assert world.journal.events == events


@pytest.mark.parametrize("lost", [False, True], ids=["it answers", "its answer is lost"])
async def test_once_a_relay_may_have_the_mail_for_anybody_no_other_is_asked_for_the_others(
    make_world: MakeWorld, lost: bool
) -> None:
    """What is one mail to its recipients comes from one place; the others are tried again later."""
    script = {"RCPT bob@example.com": ["554 5.7.1 Relay access denied"]} | ({"DOT": ["250 ok", DROP]} if lost else {})
    world = await make_world(first=script, second={})
    routed = await world.routed(ADA, BOB)
    assert (routed.in_doubt, routed.results[BOB.email].status) == (lost, DEFERRED)
    assert (len(world.relays["first"].received), world.relays["second"].connections) == (1, 0)
    assert world.journal.events == ["first"]


async def test_what_was_taken_back_once_is_not_taken_back_again(make_world: MakeWorld) -> None:
    world = await make_world(first={"DOT": ["451 4.3.0 Later"]}, second=NOT_NOW, third={})
    await world.routed()
    assert world.journal.events == ["first", "not taken", "third"]


async def test_a_relay_that_refuses_while_that_is_written_down_has_not_got_the_mail(make_world: MakeWorld) -> None:
    world = await make_world(first={"BODY": ["451 4.3.0 Not now"]}, second={})
    first = world.relays["first"]
    first.body_after = 350

    async def refused() -> bool:
        return "BODY" not in first.script

    async def relay_has_refused() -> None:
        await until(refused, what="the refusal")
        await asyncio.sleep(0.02)  # on its way
        world.journal.meanwhile = None

    world.journal.meanwhile = relay_has_refused
    routed = await world.routed()
    assert (routed.results[ADA.email].status, first.dots) == (SENT, 0)
    assert world.journal.events == ["first", "not taken", "second"]


async def test_a_mail_stays_with_the_relay_it_is_bound_to(make_world: MakeWorld) -> None:
    world = await make_world(first={}, second=NOT_NOW, third={})
    place = bound_to("second", ADA)
    routed = await world.routed(place=place)
    assert [tried.relay for tried in routed.tries] == ["second"]
    await world.pause("second")
    waiting = await world.router.send(mail(), AUTHOR, world.journal, place=place)
    assert world.router.obstacle(place) == waiting
    assert isinstance(waiting, Waiting)
    assert waiting.detail == "second: paused"
    routed = await world.routed(place=bound_to("one that is set up no more", ADA))
    assert [tried.relay for tried in routed.tries] == ["first"]


async def test_those_who_are_bound_to_no_relay_have_the_mail_from_any(make_world: MakeWorld) -> None:
    world = await make_world(first={}, second={})
    place = replace(bound_to("second", ADA), all_bound=False)
    routed = await world.routed(ADA, BOB, place=place)
    assert [tried.relay for tried in routed.tries] == ["second"], "all at once, where that is possible"
    assert {email: result.status for email, result in routed.results.items()} == {ADA.email: SENT, BOB.email: SENT}
    await world.pause("second")
    routed = await world.routed(ADA, BOB, place=place)
    assert [tried.relay for tried in routed.tries] == ["first"]
    assert set(routed.results) == {BOB.email}
    assert [mail.recipients for mail in world.relays["first"].received] == [[BOB.email]]


async def test_what_its_relay_refuses_one_who_is_bound_to_it_others_may_have_from_the_next(
    make_world: MakeWorld,
) -> None:
    world = await make_world(first={"RCPT": ["554 5.7.1 blocked using Spamhaus"] * 2}, second={})
    routed = await world.routed(ADA, BOB, place=replace(bound_to("first", ADA), all_bound=False))
    assert {email: result.status for email, result in routed.results.items()} == {ADA.email: FAILED, BOB.email: SENT}
    assert [mail.recipients for mail in world.relays["second"].received] == [[BOB.email]]


async def test_a_mail_that_no_relay_may_have_now_waits_for_the_first_that_may(make_world: MakeWorld) -> None:
    world = await make_world(first=DOWN, second=DOWN)
    for name, left_ms in (("first", 40_000), ("second", 20_000)):
        await world.store.change(name, lambda _, now, left_ms=left_ms: opened(now, left_ms))
    await world.board.look()
    waiting = await world.router.send(mail(), AUTHOR, world.journal)
    assert isinstance(waiting, Waiting)
    assert 10 < waiting.wait_s <= 20
    assert waiting.detail == "first: open (connection); second: open (connection)"
    assert world.journal.events == []


async def test_where_all_connections_are_in_use_the_mail_waits_and_no_other_relay_is_flooded(
    make_world: MakeWorld,
) -> None:
    quick = Timeouts(free_s=0.1, verdict_s=30)
    world = await make_world(quick, 1, first={"DOT": ["250 taken", HANG]}, second={})
    at_dot = asyncio.Event()

    async def there() -> None:
        at_dot.set()

    world.relays["first"].before_dot = there
    hanging = asyncio.create_task(world.routed())
    await at_dot.wait()
    waiting = await world.router.send(mail(), AUTHOR, world.journal)
    hanging.cancel()
    await asyncio.wait({hanging})
    assert waiting == Waiting("first: all of its connections are in use", 0.1)
    assert world.relays["second"].connections == 0


async def test_a_relay_that_leaves_with_a_421_has_said_so_to_everybody(make_world: MakeWorld) -> None:
    script = {"RCPT ada@example.com": ["421 4.3.2 Closing"], "RCPT bob@example.com": [DROP]}
    world = await make_world(first=script)
    results = (await world.routed(ADA, BOB)).results
    assert [(each.status, each.reply and each.reply.code) for each in results.values()] == [(DEFERRED, 421)] * 2


@pytest.mark.parametrize("moment", ["BANNER", "EHLO"])
async def test_a_connection_that_fails_for_many_mails_is_one_that_failed(make_world: MakeWorld, moment: str) -> None:
    """The breaker counts connections: a burst of mail must not open it by itself."""
    world = await make_world(first={moment: [DROP]})
    all_routed = await asyncio.gather(*(world.routed() for _ in range(8)))
    assert {routed.tries[-1].phase.value.upper() for routed in all_routed} == {moment}
    assert {routed.results[ADA.email].status for routed in all_routed} == {None}
    state, connections = await world.state(), world.relays["first"].connections
    assert (state.failures, state.opened_at) == (connections, None)
    assert connections <= OPENING_AT_ONCE, "those who wait for a connection have its failure"


@pytest.mark.parametrize(
    ("url", "row", "opened_by"),
    [
        ("smtp://xn--a.example:587?tls=none", "name_does_not_exist", OpenedBy.REFUSED),
        ("smtp://127.0.0.1:{port}?tls=none", "no_connection", None),
    ],
    ids=["no name", "nobody listens"],
)
async def test_a_relay_that_is_not_there_is_told_of_and_the_next_one_has_the_mail(
    redis: RedisClient, relay: ScriptedRelay, tmp_path: Path, url: str, row: str, opened_by: OpenedBy | None
) -> None:
    relays = set_up(tmp_path, {"name": "first", "url": url.format(port=free_port())}, named("second", relay))
    store, journal = RelayStore(redis), Written()
    board = Board(store, relays, "a worker")
    await board.look()
    router = Router([Pool(each, QUICK) for each in relays], board)
    with capture_logs() as logs:
        routed = await router.send(mail(), AUTHOR, journal)
    await router.close()
    assert isinstance(routed, Routed)
    assert [(tried.relay, tried.phase) for tried in routed.tries] == [("first", Phase.CONNECT), ("second", Phase.DOT)]
    assert (routed.results[ADA.email].status, journal.events, len(relay.received)) == (SENT, ["second"], 1)
    state = (await store.states(["first"]))[0]["first"]
    assert (state.opened_by, state.trouble and state.trouble.row) == (opened_by, row)
    assert state.failures == (0 if opened_by else 1)
    assert [entry["row"] for entry in logs if entry["event"] == "relay.alert"] == ([row] if opened_by else [])


async def test_a_relay_that_hangs_before_it_knows_whom_a_mail_is_for_is_soon_asked_no_more(
    make_world: MakeWorld,
) -> None:
    """Else every mail would wait for it first, and the relay behind it could never be used to the full."""
    world = await make_world(first={"MAIL": [HANG]}, second={}, connections=4)
    for _ in range(5):
        assert (await world.routed()).results[ADA.email].status is SENT
    assert sum(command.startswith("MAIL") for command in world.relays["first"].commands) == 3
    assert len(world.relays["second"].received) == 5
    state = await world.state()
    assert (state.opened_by, state.trouble and state.trouble.row) == (OpenedBy.CONNECTION, "no_answer_to_mail")


async def test_a_relay_that_hangs_over_a_recipient_or_a_content_is_asked_for_the_next_mail(
    make_world: MakeWorld,
) -> None:
    world = await make_world(first={"RCPT": [HANG] * 2 + ["250 ok"], "DATA": [HANG] * 3 + ["354 go"]}, second={})
    for _ in range(6):
        assert (await world.routed()).results[ADA.email].status is SENT
    assert (len(world.relays["first"].received), (await world.state()).failures) == (1, 0)


async def test_what_a_relay_says_of_several_recipients_is_told_once(make_world: MakeWorld) -> None:
    world = await make_world(first=NO_RELAY)
    with capture_logs() as logs:
        await world.routed(ADA, BOB)
    assert [entry["row"] for entry in logs if entry["event"] == "relay.alert"] == ["relaying_denied"]


# A mail's turn at a relay's rate


@asynccontextmanager
async def a_pool(relay: ScriptedRelay, folder: Path) -> AsyncIterator[Pool]:
    pool = Pool(*set_up(folder, named("first", relay)), QUICK)
    yield pool
    await pool.close()


async def nothing(_: Mapping[str, Reply]) -> None:
    """Not journaled."""


async def test_a_connection_that_a_mail_had_no_turn_for_is_the_next_ones(relay: ScriptedRelay, tmp_path: Path) -> None:
    async def no_turn() -> None:
        raise Busy("its rate is used up", 5)

    async with a_pool(relay, tmp_path) as pool:
        for _ in range(3):
            with pytest.raises(Busy):
                await pool.send(mail(), nothing, before_mail=no_turn)
        assert {command.split()[0] for command in relay.commands} == {"EHLO"}
        found = await pool.send(mail(), nothing)
    assert found.verdicts.accepted is not None
    assert relay.connections == 1


async def test_a_connection_that_a_mail_was_stopped_with_before_its_turn_is_the_next_ones(
    relay: ScriptedRelay, tmp_path: Path
) -> None:
    waits = asyncio.Event()

    async def turn() -> None:
        waits.set()
        await asyncio.sleep(3600)

    async with a_pool(relay, tmp_path) as pool:
        waiting = asyncio.create_task(pool.send(mail(), nothing, before_mail=turn))
        await waits.wait()
        waiting.cancel()
        await asyncio.wait({waiting})
        assert (await pool.send(mail(), nothing)).verdicts.accepted is not None
    assert relay.connections == 1


@pytest.mark.parametrize("used", [False, True], ids=["a fresh connection", "a used one"])
async def test_a_relay_that_does_not_wait_for_a_mails_turn_costs_nothing(
    relay: ScriptedRelay, tmp_path: Path, used: bool
) -> None:
    async def turn() -> None:
        await relay.say_unasked("421 4.4.2 Idle for too long")
        await until(gone, what="the end of the connection")
        await asyncio.sleep(0.02)  # on its way

    async def gone() -> bool:
        return not relay.writers

    relay.script["QUIT"] = [DROP]
    async with a_pool(relay, tmp_path) as pool:
        if used:
            await pool.send(mail(), nothing)
        found = await pool.send(mail(), nothing, before_mail=turn)
    assert found.verdicts.accepted is not None
    assert (len(relay.received), relay.connections) == (1 + used, 2)


async def test_a_mail_that_waits_for_a_connection_takes_one_that_became_free(
    relay: ScriptedRelay, tmp_path: Path
) -> None:
    """Two are opened at a time: the others need not be."""
    go_on, greeted = asyncio.Event(), 0

    async def only_the_first(moment: str) -> None:
        nonlocal greeted
        if moment == "BANNER":
            greeted += 1
            if greeted > 1:
                await go_on.wait()

    relay.before_reply = only_the_first
    async with a_pool(relay, tmp_path) as pool:
        sending = [asyncio.create_task(pool.send(mail(), nothing)) for _ in range(OPENING_AT_ONCE + 2)]
        await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
        go_on.set()
        tries = await asyncio.gather(*sending)
    assert all(found.verdicts.accepted for found in tries)
    assert (len(relay.received), relay.connections) == (OPENING_AT_ONCE + 2, OPENING_AT_ONCE + 1)


# A relay that wants fewer connections than its settings allow


TOO_MANY = "421 4.7.0 Too many connections from you"


def one_connection() -> Script:
    return {"BANNER": ["220 ready", TOO_MANY]}


@asynccontextmanager
async def one_under_way(world: World) -> AsyncIterator[asyncio.Event]:
    """A mail on the one connection, past its content, until the event."""
    is_here, may_go = asyncio.Event(), asyncio.Event()

    async def meanwhile() -> None:
        is_here.set()
        await may_go.wait()

    first = asyncio.create_task(world.router.send(mail(), AUTHOR, Written(meanwhile=meanwhile)))
    await is_here.wait()
    yield may_go
    may_go.set()
    found = await first
    assert isinstance(found, Routed)
    assert found.results[ADA.email].status is SENT


async def test_a_mail_that_finds_no_room_beside_others_waits_and_makes_no_attempt(make_world: MakeWorld) -> None:
    world = await make_world(PATIENT, first=one_connection())
    async with one_under_way(world):
        found = await world.router.send(mail(BOB), AUTHOR, world.journal)
        assert found == Waiting("first: it wants no more connections", FULL_S)
        assert ((await world.state()).pace, (await world.state()).failures) == (0.5, 1)
    assert (await world.routed(BOB)).results[BOB.email].status is SENT


async def test_it_goes_to_the_next_relay_where_there_is_one(make_world: MakeWorld) -> None:
    world = await make_world(PATIENT, first=one_connection(), second={})
    async with one_under_way(world):
        routed = await world.routed(BOB)
    assert ([tried.relay for tried in routed.tries], routed.results[BOB.email].status) == (["second"], SENT)


async def test_where_no_connection_is_there_at_all_the_relay_is_busy_and_the_attempt_counts(
    make_world: MakeWorld,
) -> None:
    world = await make_world(first={"BANNER": [TOO_MANY]})
    routed = await world.routed()
    assert ([tried.row for tried in routed.tries], routed.uncounted) == (["busy_at_the_door"], False)
