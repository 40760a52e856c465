"""RSET after a refusal: the verdict does not wait for its answer, the next mail on that connection does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from mailer.addresses import Address
from mailer.jobs import Status
from mailer.store.connection import RedisClient
from tests.integration.conftest import Run
from tests.integration.test_out_of_step import nothing
from tests.integration.two_relays import named, relayed, set_up
from tests.support.resets import resets_answered
from tests.support.smtp import DROP, HANG, ScriptedRelay, scripted_relay
from tests.support.waiting import until
from worker.relays.answers import Kind
from worker.relays.pool import Pool, Try
from worker.relays.relay import Relay
from worker.relays.timeouts import Timeouts
from worker.relays.transaction import Envelope

PATIENT = Timeouts(reset_s=3600)
JOB: dict[str, Any] = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi\n"}
WAYS = pytest.mark.parametrize("extensions", [["PIPELINING"], ["8BITMIME"]], ids=["pipelined", "one by one"])
BAD = pytest.mark.parametrize(
    "answer",
    ["451 4.3.0 Later", "550 5.1.1 No", "421 4.3.2 Bye", "354 go on", "what?", "250 ok\r\n250 ok", "250 ok\r\n5", DROP],
)


def refusing_once(**script: list[str]) -> dict[str, list[str]]:
    return {"RCPT": ["550 5.1.1 No", "250 ok"], **script}


@dataclass
class Held:
    """The answer to each RSET waits until it is let go."""

    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0

    async def __call__(self, moment: str) -> None:
        if moment == "RSET":
            self.asked += 1
            await self.let_go.wait()


@pytest.fixture
def held() -> Held:
    return Held()


@asynccontextmanager
async def a_pool(relay: ScriptedRelay, timeouts: Timeouts = PATIENT, connections: int = 10) -> AsyncIterator[Pool]:
    async with scripted_relay(relay):
        place = Relay("first", "127.0.0.1", relay.port, "none", None, None, connections=connections)
        pool = Pool(place, timeouts)
        yield pool
        await pool.close()


async def sent(pool: Pool) -> Try:
    content = b"Subject: Hi\r\n\r\nHi\r\n"
    return await pool.send(Envelope(Address("hello@postroom.example"), (Address("ada@example.com"),), content), nothing)


async def sent_together(pool: Pool, relay: ScriptedRelay, count: int) -> list[Try]:
    """No two of them on one connection."""
    there, everybody = 0, asyncio.Event()

    async def wait() -> None:
        nonlocal there
        there += 1
        if there == count:
            everybody.set()
        await everybody.wait()

    relay.before_dot = wait
    return await asyncio.gather(*(sent(pool) for _ in range(count)))


def outcome(found: Try) -> tuple[Kind, int | None]:
    return found.verdicts.decisive.kind, found.verdicts.decisive.reply.code


ACCEPTED, REFUSED = (Kind.REPLY, 250), (Kind.REPLY, 550)


def so_many(count: int, seen: Callable[[], int]) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return seen() == count

    return look


@WAYS
@pytest.mark.parametrize(
    "script",
    [{"MAIL": ["451 4.3.0 Later"]}, {"RCPT": ["550 5.7.1 Relaying denied"]}, {"DOT": ["451 4.3.0 Later"]}],
    ids=lambda script: next(iter(script)),
)
async def test_the_next_relay_has_the_mail_before_the_first_has_answered_its_reset(
    held: Held,
    extensions: list[str],
    script: dict[str, list[str]],
    make_run: Callable[..., Run],
    redis: RedisClient,
    tmp_path: Path,
) -> None:
    first, second = ScriptedRelay(script, extensions, before_reply=held), ScriptedRelay()
    async with scripted_relay(first), scripted_relay(second):
        relays = set_up(tmp_path, named("first", first), named("second", second))
        async with relayed(make_run, redis, relays, PATIENT) as world:
            view = await world.run.once(await world.run.submit(JOB))
            assert not held.let_go.is_set()
    assert view.job.status is Status.SENT
    assert [each.relay for each in view.attempts] == ["first", "second"]
    assert view.attempts[0].conversation[-1].endswith("> RSET")
    assert (first.received, len(second.received)) == ([], 1)


@WAYS
async def test_a_connection_that_was_reset_carries_the_next_mail(extensions: list[str]) -> None:
    relay = ScriptedRelay(refusing_once(), extensions)
    async with a_pool(relay) as pool:
        assert outcome(await sent(pool)) == REFUSED
        await resets_answered(pool)
        second = await sent(pool)
    assert (outcome(second), relay.connections) == (ACCEPTED, 1)
    assert "a connection that carried 1 mails before" in second.conversation[0]


@WAYS
async def test_meanwhile_the_next_mail_goes_on_another_connection(held: Held, extensions: list[str]) -> None:
    relay = ScriptedRelay(refusing_once(), extensions, before_reply=held)
    async with a_pool(relay) as pool:
        assert outcome(await sent(pool)) == REFUSED
        assert outcome(await sent(pool)) == ACCEPTED
        assert (held.let_go.is_set(), relay.connections) == (False, 2)
        held.let_go.set()
        await resets_answered(pool)
        both = await sent_together(pool, relay, 2)
    assert [outcome(found) for found in both] == [ACCEPTED] * 2
    assert relay.connections == 2, "the one that was reset is in step, however late its answer came"


@BAD
async def test_what_is_no_answer_to_a_reset_is_none_to_another_command(held: Held, answer: str) -> None:
    relay = ScriptedRelay(refusing_once(RSET=[answer]), before_reply=held)
    async with a_pool(relay) as pool:
        assert outcome(await sent(pool)) == REFUSED
        assert outcome(await sent(pool)) == ACCEPTED
        held.let_go.set()
        await resets_answered(pool)
        await asyncio.sleep(0.02)  # for the second of two answers
        both = await sent_together(pool, relay, 2)
    assert [outcome(found) for found in both] == [ACCEPTED] * 2
    assert relay.connections == 3


@pytest.mark.parametrize(
    ("answer", "connections"),
    [("554 5.5.1 Nobody", 1), ("250 ok", 1), ("354 go on", 2), ("421 4.3.2 Bye", 2), ("what?", 2), (DROP, 2)],
)
async def test_nor_is_the_answer_to_the_dot_of_a_mail_for_nobody(answer: str, connections: int) -> None:
    relay = ScriptedRelay(refusing_once(NOBODY=["354 go on"], **{"OUT OF ORDER": [answer]}))
    async with a_pool(relay) as pool:
        assert outcome(await sent(pool)) == REFUSED
        await resets_answered(pool)
        assert outcome(await sent(pool)) == ACCEPTED
    assert (relay.connections, len(relay.received)) == (connections, 1)


async def test_an_answer_that_has_only_begun_is_waited_for(held: Held) -> None:
    relay = ScriptedRelay(refusing_once(), before_reply=held)
    async with a_pool(relay) as pool:
        assert outcome(await sent(pool)) == REFUSED
        await until(so_many(1, lambda: held.asked), what="RSET at the relay")
        (writer,) = relay.writers
        writer.write(b"250-2.0.0 forg")
        await asyncio.sleep(0.02)  # on its way
        assert outcome(await sent(pool)) == ACCEPTED
        writer.write(b"otten\r\n")
        held.let_go.set()
        await resets_answered(pool)
        await sent_together(pool, relay, 2)
    assert relay.connections == 2


async def test_where_there_may_be_no_other_connection_the_next_mail_waits_for_the_answer(held: Held) -> None:
    relay = ScriptedRelay(refusing_once(RSET=["250 2.0.0 forgotten"]), before_reply=held)
    async with a_pool(relay, connections=1) as pool:
        waiting = [asyncio.create_task(sent(pool)) for _ in range(3)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await until(so_many(1, lambda: held.asked), what="RSET at the relay")
        assert [task.done() for task in waiting] == [True, False, False]
        held.let_go.set()
        tries = await asyncio.gather(*waiting)
    assert [outcome(found) for found in tries] == [REFUSED, ACCEPTED, ACCEPTED]
    assert relay.connections == 1
    assert not [line for found in tries for line in found.conversation if "forgotten" in line], "it is nobody's"


@BAD
async def test_a_mail_that_waited_for_a_bad_answer_goes_on_a_fresh_connection(answer: str) -> None:
    relay = ScriptedRelay(refusing_once(RSET=[answer]))
    async with a_pool(relay, connections=1) as pool:
        tries = await asyncio.gather(*(sent(pool) for _ in range(3)))
    assert [outcome(found) for found in tries] == [REFUSED, ACCEPTED, ACCEPTED]
    assert (relay.connections, len(relay.received)) == (2, 2)


async def test_a_mail_does_not_wait_for_ever_for_the_answer() -> None:
    relay = ScriptedRelay(refusing_once(RSET=[HANG]))
    async with a_pool(relay, replace(PATIENT, reset_s=0.1), connections=1) as pool:
        tries = await asyncio.gather(*(sent(pool) for _ in range(3)))
    assert [outcome(found) for found in tries] == [REFUSED, ACCEPTED, ACCEPTED]
    assert relay.connections == 2


async def test_a_mail_that_is_stopped_while_it_waits_leaves_no_connection_behind(held: Held) -> None:
    relay = ScriptedRelay(refusing_once(), before_reply=held)
    async with a_pool(relay, connections=1) as pool:
        await sent(pool)
        waiting = asyncio.create_task(sent(pool))
        await until(so_many(1, lambda: held.asked), what="RSET at the relay")
        waiting.cancel()
        await asyncio.wait({waiting})
        held.let_go.set()
        await until(so_many(0, lambda: len(relay.writers)), what="the end of the connection")
        assert outcome(await sent(pool)) == ACCEPTED
    assert (waiting.cancelled(), relay.connections) == (True, 2)


@WAYS
async def test_refusals_open_no_more_connections_than_there_may_be(extensions: list[str]) -> None:
    async def slow(moment: str) -> None:
        if moment == "RSET":
            await asyncio.sleep(0.01)

    relay = ScriptedRelay({"RCPT": ["550 5.1.1 No"]}, extensions, before_reply=slow)
    async with a_pool(relay, connections=3) as pool:
        tries = await asyncio.gather(*(sent(pool) for _ in range(30)))
    assert {outcome(found) for found in tries} == {REFUSED}
    assert relay.connections <= 3


async def test_a_connection_that_is_given_up_for_a_fresh_one_is_not_kept_beside_it() -> None:
    relay = ScriptedRelay({"MAIL": ["250 ok", "451 4.3.0 Old", "250 ok"]})
    async with a_pool(relay, connections=1) as pool:
        assert [outcome(await sent(pool)) for _ in range(2)] == [ACCEPTED] * 2
        await until(so_many(1, lambda: len(relay.writers)), what="the end of the old one")
    assert relay.connections == 2


async def test_a_connection_that_never_answers_is_closed_once_it_was_idle_for_too_long(held: Held) -> None:
    relay = ScriptedRelay(refusing_once(), before_reply=held)
    async with a_pool(relay, replace(PATIENT, idle_s=0.05)) as pool:
        await sent(pool)
        await until(so_many(0, lambda: len(pool._idle)), what="the end of the connection")
        held.let_go.set()
        await until(so_many(0, lambda: len(relay.writers)), what="its end at the relay")
    assert relay.commands[-2:] == ["RSET", "QUIT"]
