"""While a mail waits: for its turn at a relay's rate, for the probe, on a connection that the relay talks on; and how
what became of it is told without telling whom it is for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from mailer.jobs import RecipientStatus
from mailer.relays import paused, spacing_us
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.relays import RelayStore, Transition
from tests.integration.test_relays import seen
from tests.integration.test_router import ADA, AUTHOR, Script, World, a_pool, mail, nothing, opened
from tests.integration.two_relays import QUICK, named, set_up
from tests.support.smtp import ScriptedRelay, scripted_relay
from tests.support.waiting import until
from worker.relays import router as routers
from worker.relays.attempt import Routed, Waiting
from worker.relays.board import Board, TooBusy
from worker.relays.parsing import MAX_OCTETS
from worker.relays.pool import Pool
from worker.relays.relay import Relay
from worker.relays.router import LOOK_AGAIN_S, NOBODY_LOOK_AGAIN_S, OTHERS_PATIENCE_S, TELL_EVERY_S, Router
from worker.relays.timeouts import SLOT_PATIENCE_S
from worker.relays.wire import MOST_UNREAD, MOST_UNREAD_CHARS

SENT = RecipientStatus.SENT
FAR = {"rate": "2/m"}
"""The next slot is half a minute away: too far for other mail, near enough for critical mail."""
FAR_US = spacing_us(2 / 60)
NORMAL_AND_CRITICAL = pytest.mark.parametrize("critical", [False, True], ids=["other mail", "critical mail"])


class WatchedBoard(Board):
    """Keeps what mails that ask for a slot are told."""

    def __init__(self, store: RelayStore, relays: tuple[Relay, ...]) -> None:
        super().__init__(store, relays, "a worker")
        self.told: list[float | TooBusy] = []

    async def slot(self, relay: Relay, patience_s: float) -> float | TooBusy:
        found = await super().slot(relay, patience_s)
        self.told.append(found)
        return found


@dataclass
class RatedWorld(World):
    board: WatchedBoard

    async def use_up(self) -> int:
        """The first relay's slot that is free now; the time of the next one (us)."""
        assert await Board.slot(self.board, self.router._pools[0].relay, 0.0) == 0.0
        return await self.next_free()

    async def next_free(self) -> int:
        return int(await self.store._redis.get(keys.slot("first")) or 0)

    async def have_asked(self, mails: int = 1) -> None:
        await seen(lambda: len(self.board.told) >= mails, f"{mails} mails that ask for a slot")


MakeRated = Callable[..., Awaitable[RatedWorld]]


@pytest.fixture
async def make_rated(redis: RedisClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakeRated]:
    """Relays by the names of the options, in their order; `more`: of the first."""
    monkeypatch.setattr(routers, "LOOK_EACH_S", 0.02)  # 1 s, shortened
    async with AsyncExitStack() as stack:

        async def make(more: dict[str, str], **scripts: Script) -> RatedWorld:
            servers = {
                name: await stack.enter_async_context(scripted_relay(ScriptedRelay(dict(script or {}))))
                for name, script in scripts.items()
            }
            tables = [named(name, server, **({} if at else more)) for at, (name, server) in enumerate(servers.items())]
            relays, store = set_up(tmp_path, *tables), RelayStore(redis)
            board = WatchedBoard(store, relays)
            await board.look()
            router = Router([Pool(relay, QUICK) for relay in relays], board)
            stack.push_async_callback(router.close)
            return RatedWorld(router, board, store, servers)

        yield make


@asynccontextmanager
async def under_way(*coroutines: Coroutine[Any, Any, Any]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    tasks = [asyncio.create_task(each) for each in coroutines]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


# For its turn at a relay's rate, and for the probe


BARRED: dict[str, Transition] = {"paused": paused, "open (connection)": lambda _, now: opened(now, 40_000)}
WHY = pytest.mark.parametrize("why", BARRED)


async def barred_while_it_waits(world: RatedWorld, why: str, critical: bool) -> Routed | Waiting:
    """What becomes of a mail: critical mail has its slot by then, other mail has none yet."""
    await world.use_up()
    async with under_way(world.router.send(mail(), AUTHOR, world.journal, critical=critical)) as (sending,):
        await world.have_asked()
        await world.store.change("first", BARRED[why])
        await world.board.look()
        found: Routed | Waiting = await sending
    assert [type(told) for told in world.board.told] == [float if critical else TooBusy]
    assert "MAIL FROM" not in str(world.relays["first"].commands)
    return found


@WHY
@NORMAL_AND_CRITICAL
async def test_a_mail_whose_relay_is_barred_while_it_waits_for_its_slot_goes_to_the_next_relay(
    make_rated: MakeRated, critical: bool, why: str
) -> None:
    world = await make_rated(FAR, first={}, second={})
    routed = await barred_while_it_waits(world, why, critical)
    assert isinstance(routed, Routed)
    assert ([tried.relay for tried in routed.tries], routed.results[ADA.email].status) == (["second"], SENT)
    assert world.journal.events == ["second"]


@WHY
@NORMAL_AND_CRITICAL
async def test_a_mail_whose_only_relay_is_barred_while_it_waits_for_its_slot_was_not_attempted(
    make_rated: MakeRated, critical: bool, why: str
) -> None:
    world = await make_rated(FAR, first={})
    waiting = await barred_while_it_waits(world, why, critical)
    assert isinstance(waiting, Waiting)
    assert waiting.detail == f"first: {why}"
    assert waiting.wait_s == LOOK_AGAIN_S if why == "paused" else 0 < waiting.wait_s <= 40
    assert world.journal.events == []


async def test_critical_mail_has_the_next_slot_however_much_other_mail_waits(make_rated: MakeRated) -> None:
    world = await make_rated(FAR, first={}, second={})
    next_free = await world.use_up()
    async with under_way(*(world.routed() for _ in range(5))) as others:
        await world.have_asked(5)
        assert {type(told) for told in world.board.told} == {TooBusy}
        assert await world.next_free() == next_free, "they have reserved nothing"
        async with under_way(world.routed(critical=True)) as (critical,):
            await world.have_asked(6)
            told = world.board.told[5]
            assert isinstance(told, float)
            assert OTHERS_PATIENCE_S < told <= FAR_US / 1e6 < SLOT_PATIENCE_S
            assert await world.next_free() == next_free + FAR_US, "right behind the one that was taken"
            assert not any(task.done() for task in (*others, critical))
    assert "MAIL FROM" not in str(world.relays["first"].commands)
    assert world.relays["second"].connections == 0, "a rate that is used up sends nobody elsewhere"


async def test_other_mail_reserves_a_slot_that_is_near(make_rated: MakeRated) -> None:
    world = await make_rated({"rate": "60/m"}, first={})
    _, before = await world.store.states([])
    await world.use_up()
    assert (await world.routed()).results[ADA.email].status == SENT
    assert [type(told) for told in world.board.told] == [float]
    assert (await world.store.states([]))[1] - before >= 1000, "not before its turn"


async def test_a_mail_whose_turn_is_too_far_away_waits_in_the_queue(make_rated: MakeRated) -> None:
    """No other relay is flooded with what this one is spared. Critical mail waits for what is too far for others."""
    world = await make_rated({"rate": "45/h"}, first={}, second={})
    next_free = await world.use_up()
    async with under_way(world.routed(critical=True)) as (critical,):
        await world.have_asked()
        waiting = await world.router.send(mail(), AUTHOR, world.journal)
        assert not critical.done()
    assert isinstance(waiting, Waiting)
    assert waiting.detail == "first: its rate is used up"
    assert SLOT_PATIENCE_S < waiting.wait_s <= spacing_us(45 / 3600) / 1e6
    assert await world.next_free() == next_free
    assert (world.journal.events, world.relays["second"].connections) == ([], 0)


async def test_a_mail_that_is_stopped_while_it_asks_for_the_probe_leaves_it_to_another(
    redis: RedisClient, relay: ScriptedRelay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue server has given it the probe, and the answer is under way."""
    relays, store = set_up(tmp_path, named("first", relay)), RelayStore(redis)
    await store.change("first", lambda _, now: opened(now, 0))
    anna, bert = Board(store, relays, "anna"), Board(RelayStore(redis), relays, "bert")
    swap, given, arrives = store._swap, asyncio.Event(), asyncio.Event()

    async def late(*args: Any) -> Any:
        answer = await swap(*args)
        given.set()
        await arrives.wait()
        return answer

    monkeypatch.setattr(store, "_swap", late)
    async with under_way(anna.may_probe("first")) as (asking,):
        await given.wait()
        assert not await bert.may_probe("first")
        asking.cancel()
        await asyncio.wait({asking})
        assert asking.cancelled()
        arrives.set()

    async with under_way(anna.run()):
        await until(lambda: bert.may_probe("first"), what="the probe of another")
    assert (await store.states(["first"]))[0]["first"].probe == "bert"


# What is told, and what is not

REPEATED = {  # by row: what a relay says, where
    "blocklisted": ("MAIL", "554 5.7.1 ", "{ada}: Sender address rejected; blocked using zen.example"),
    "relaying_denied": ("RCPT", "554 5.7.1 ", "{ada} for {hello} Relay access denied"),
    "quota_used_up": ("MAIL", "550 5.4.5 ", "Daily quota of {hello} exceeded, {ada}"),
    "throttled": ("MAIL", "451 4.7.1 ", "{ada}: Too many messages of {hello}"),
    "turned_away_at_the_door": ("BANNER", "554 5.7.1 ", "Go away, {hello} and {ada}"),
}


@pytest.mark.parametrize("row", REPEATED)
async def test_addresses_that_a_relay_repeats_are_in_no_alert_and_not_in_what_workers_share(
    make_rated: MakeRated, redis: RedisClient, row: str
) -> None:
    moment, code, text = REPEATED[row]
    world = await make_rated({}, first={moment: [code + text.format(ada="<ada@example.com>", hello=AUTHOR.email)]})
    with capture_logs() as logs:
        routed = await world.routed()
    said = text.format(ada="<>", hello="<>")
    assert [tried.row for tried in routed.tries] == [row]
    alerts = [entry["detail"] for entry in logs if entry["event"] == "relay.alert"]
    assert alerts == ([] if row == "throttled" else [said])
    trouble = (await world.state()).trouble
    assert (trouble and trouble.reply.text) == (None if row in {"blocklisted", "relaying_denied"} else said)
    assert "@" not in str(logs)
    assert b"@" not in (await redis.get(keys.relay("first")) or b"")


async def test_a_sender_that_no_relay_is_for_is_told_of_once_a_minute_and_by_its_domain(
    make_rated: MakeRated, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(routers, "time", clock)
    world = await make_rated({"senders": "acme.example"}, first={})
    waits = Waiting(f"No relay is set up to send for {AUTHOR.email}.", NOBODY_LOOK_AGAIN_S)
    told = []
    for passes_s in (0.0, TELL_EVERY_S - 1, 1.0):
        clock.now += passes_s
        with capture_logs() as logs:
            for _ in range(3):
                assert world.router.obstacle(author=AUTHOR) == waits
                assert await world.router.send(mail(), AUTHOR, world.journal) == waits
        told.append(logs)
    once = [{"event": "relay.none_for_sender", "log_level": "error", "domain": "postroom.example"}]
    assert told == [once, [], once]
    assert (world.journal.events, world.relays["first"].connections) == ([], 0)


# On a connection that the relay talks on


@pytest.mark.parametrize("waits", [False, True], ids=["idle", "while a mail waits for its turn"])
async def test_a_relay_that_says_a_lot_in_few_words_unasked_is_left_and_fills_no_memory(
    relay: ScriptedRelay, tmp_path: Path, waits: bool
) -> None:
    """None of its replies is too long, and they are not too many: together they are."""
    said = b"250 " + b"x" * (MAX_OCTETS - 100) + b"\r\n"
    most, times = 4 * MOST_UNREAD_CHARS, MOST_UNREAD // 2
    assert times * len(said) > 5 * most

    async def talks() -> None:
        (writer,) = relay.writers
        writer.write(said * times)
        await seen(lambda: not relay.writers, "the end of the connection")

    async with a_pool(relay, tmp_path) as pool:
        assert (await pool.send(mail(), nothing)).verdicts.accepted is not None
        wire = pool._idle[0].wire
        if not waits:
            await talks()
        found = await pool.send(mail(), nothing, before_mail=talks if waits else None)
    assert found.verdicts.accepted is not None
    assert (len(relay.received), relay.connections) == (2, 2)
    assert not wire.is_open
    kept = sum(len(reply.text) for reply in wire._replies) + sum(len(note) for _, _, note in wire.noted)
    assert MOST_UNREAD_CHARS < kept < most
