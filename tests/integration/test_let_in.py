"""Between a mail's choice of a relay and its MAIL: a pause counts, and so does a breaker that opens."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.integration.test_router import BOB, MakeWorld, World, mail, make_world, opened
from tests.integration.test_router_waits import AUTHOR, FAR, MakeRated, make_rated, under_way
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until
from worker.relays.attempt import Routed, Waiting
from worker.relays.board import Board

__all__ = ["make_rated", "make_world"]  # fixtures


def held(relay: ScriptedRelay, moment: str) -> tuple[asyncio.Event, Callable[[], Awaitable[None]]]:
    """Its reply at this moment waits for the event; and what waits until it does."""
    release, reached = asyncio.Event(), asyncio.Event()

    async def wait(at: str) -> None:
        if at == moment:
            reached.set()
            await release.wait()

    async def is_reached() -> None:
        async with asyncio.timeout(15):
            await reached.wait()

    relay.before_reply = wait
    return release, is_reached


async def half_open(world: World) -> None:
    await world.store.change("first", lambda _, now: opened(now, 0))
    await world.board.look()


def mails(relay: ScriptedRelay) -> int:
    return sum(command.startswith("MAIL") for command in relay.commands)


async def test_the_mail_that_finds_out_stops_before_a_relay_that_is_paused_meanwhile(make_rated: MakeRated) -> None:
    world = await make_rated(FAR, first={})
    await world.use_up()
    await half_open(world)
    async with under_way(world.router.send(mail(), AUTHOR, world.journal, critical=True)) as (sending,):
        await world.have_asked()
        await world.pause("first")
        found = await sending
    assert isinstance(found, Waiting)
    assert found.detail == "first: paused"
    assert mails(world.relays["first"]) == 0


@pytest.mark.parametrize("rate", [{}, {"rate": "20/s"}], ids=["no rate", "a rate"])
async def test_a_relay_that_is_paused_while_a_connection_opens_has_no_mail(
    make_rated: MakeRated, rate: dict[str, str]
) -> None:
    world = await make_rated(rate, first={}, second={})
    release, is_reached = held(world.relays["first"], "EHLO")
    async with under_way(world.router.send(mail(), AUTHOR, world.journal)) as (sending,):
        await is_reached()
        await world.pause("first")
        release.set()
        found = await sending
    assert isinstance(found, Routed)
    assert [tried.relay for tried in found.tries] == ["second"]
    assert mails(world.relays["first"]) == 0


async def test_of_two_mails_of_a_worker_that_ask_for_the_probe_one_has_it_and_keeps_it(make_world: MakeWorld) -> None:
    """Also where the other is stopped while it asks."""
    world = await make_world(first={})
    await half_open(world)
    one = asyncio.create_task(world.board.may_probe("first"))
    other = asyncio.create_task(world.board.may_probe("first"))
    await asyncio.sleep(0)
    other.cancel()
    assert await one
    await asyncio.wait([other])
    async with under_way(world.board.run()):

        async def looked() -> bool:
            return world.board._look_at > world.board._monotonic()

        await until(looked, what="a turn of the board")
        bert = Board(world.store, [pool.relay for pool in world.router._pools], "bert")
        await bert.look()
        assert not await bert.may_probe("first")


async def test_mail_that_waited_for_a_connection_does_not_flood_a_relay_of_which_nobody_knows(
    make_world: MakeWorld,
) -> None:
    world = await make_world(connections=1, first={})
    release, is_reached = held(world.relays["first"], "DOT")
    async with under_way(
        world.router.send(mail(), AUTHOR, world.journal), world.router.send(mail(BOB), AUTHOR, world.journal)
    ) as (one, other):
        await is_reached()
        await half_open(world)
        release.set()
        assert isinstance(await one, Routed)
        found = await other
    assert isinstance(found, Waiting)
    assert found.detail == "first: half open"
    assert mails(world.relays["first"]) == 1
