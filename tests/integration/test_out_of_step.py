"""Answers that come unasked, twice or for something else: none of them is taken for another command's, or mail's."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from mailer.addresses import Address
from mailer.jobs import Phase, Reply
from tests.integration.two_relays import QUICK
from tests.support.waiting import until
from worker.relays.answers import Answer, Kind, Verdicts
from worker.relays.pool import Pool
from worker.relays.relay import Relay
from worker.relays.transaction import Envelope
from worker.relays.wire import MOST_UNREAD

ADA, BOB = Address("ada@example.com"), Address("bob@example.com")
CONTENT = b"Subject: Hi\r\n\r\nHi\r\n"
OK, GO = b"250 ok\r\n", b"354 go on\r\n"
PAUSE = b"PAUSE"
"""In the midst of an answer."""
WAYS = pytest.mark.parametrize("extension", [b"PIPELINING", b"8BITMIME"], ids=["pipelined", "one by one"])


@dataclass
class Talker:
    """A relay that answers each line of a connection with the next octets of a list, whatever the line is. When they
    are used up, it takes everything. `lists`: one for each connection."""

    extension: bytes
    lists: list[list[bytes]]
    connections: list[list[bytes]] = field(default_factory=list)
    """What was said on each."""
    left: int = 0
    """Connections that the other side has closed."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.connections)
        said: list[bytes] = []
        self.connections.append(said)
        answers = list(self.lists[number]) if number < len(self.lists) else []
        writer.write(b"220 relay.test\r\n")
        await reader.readline()
        writer.write(b"250-relay.test\r\n250 " + self.extension + b"\r\n")
        usual = {b"DATA": GO, b"QUIT": b"221 bye\r\n"}
        while line := await self.line(reader):
            said.append(line.strip())
            answer = answers.pop(0) if answers else usual.get(line.strip(), OK)
            await self.say(writer, answer)
            if answer.startswith(b"354"):
                while (line := await self.line(reader)) not in {b".\r\n", b""}:
                    pass
                said.append(line.strip())
                await self.say(writer, answers.pop(0) if answers else OK)

    async def line(self, reader: asyncio.StreamReader) -> bytes:
        try:
            line = await reader.readline()
        except OSError:
            line = b""
        self.left += not line
        return line

    async def say(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        for number, part in enumerate(answer.split(PAUSE)):
            await asyncio.sleep(0.05 if number else 0)
            writer.write(part)

    @property
    def verbs(self) -> list[list[str]]:
        return [[re.split(rb"[ :]", line)[0].decode() for line in said] for said in self.connections]


@asynccontextmanager
async def talking(extension: bytes, *lists: list[bytes]) -> AsyncIterator[tuple[Talker, Pool]]:
    talker, tasks = Talker(extension, list(lists)), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talker.serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    pool = Pool(Relay("first", "127.0.0.1", server.sockets[0].getsockname()[1], "none", None, None), QUICK)
    try:
        yield talker, pool
    finally:
        await pool.close()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def nothing(_: Mapping[str, Reply]) -> None:
    """Not journaled."""


async def on_its_way() -> None:
    """What the relay has written is here."""
    await asyncio.sleep(0.05)


async def sent(pool: Pool, *to: Address, before_mail: Callable[[], Awaitable[None]] | None = None) -> Verdicts:
    envelope = Envelope(Address("hello@postroom.example"), to or (ADA,), CONTENT)
    return (await pool.send(envelope, nothing, before_mail=before_mail)).verdicts


def seen(answer: Answer) -> tuple[Phase, Kind, int | None]:
    return answer.phase, answer.kind, answer.reply.code


ACCEPTED = (Phase.DOT, Kind.REPLY, 250)


@WAYS
async def test_an_acceptance_is_one_whatever_follows_it(extension: bytes) -> None:
    """In the same piece: or a mail that was taken would be sent again."""
    async with talking(extension, [OK, OK, GO, b"250 queued\r\nwhat was that?\r\n"]) as (talker, pool):
        assert seen((await sent(pool)).decisive) == ACCEPTED
        assert seen((await sent(pool)).decisive) == ACCEPTED
    assert len(talker.connections) == 2, "the line is out of step by then"


@WAYS
@pytest.mark.parametrize("more", [b"250 once more\r\n", b"550 5.1.1 No\r\n", b"421 4.3.2 Bye\r\n", b"2", b"354-"])
async def test_what_is_said_after_an_acceptance_is_no_answer_to_the_next_mail(extension: bytes, more: bytes) -> None:
    async with talking(extension, [OK, OK, GO, b"250 queued\r\n" + more]) as (talker, pool):
        assert seen((await sent(pool)).decisive) == ACCEPTED
        await on_its_way()
        assert seen((await sent(pool)).decisive) == ACCEPTED
    assert [len([verb for verb in said if verb == "MAIL"]) for said in talker.verbs] == [1, 1]


@WAYS
@pytest.mark.parametrize("unasked", [b"250 hm\r\n", b"550 5.1.1 No\r\n", b"354 go on\r\n", b"4", b"what?\r\n"])
async def test_what_is_said_before_the_first_mail_is_no_answer_to_it(extension: bytes, unasked: bytes) -> None:
    """Not even where the mail waited for its turn."""

    class Early(Talker):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not self.connections:
                asyncio.get_running_loop().call_later(0.02, writer.write, unasked)
            await super().serve(reader, writer)

    async with talking(extension) as (talker, pool):
        talker.__class__ = Early
        verdicts = await sent(pool, before_mail=on_its_way)
    assert seen(verdicts.decisive) == ACCEPTED
    assert [said for said in talker.verbs if "MAIL" in said] == talker.verbs[-1:]


@pytest.mark.parametrize("more", [b"250 hm\r\n", b"550 5.1.1 No\r\n", b"451 4.3.0 Later\r\n"])
@pytest.mark.parametrize("place", [0, 1, 2], ids=["MAIL", "RCPT", "another RCPT"])
async def test_where_commands_go_one_by_one_an_answer_too_many_is_noticed_before_the_next(
    more: bytes, place: int
) -> None:
    answers = [OK, OK, OK]
    answers[place] += more
    async with talking(b"8BITMIME", answers) as (talker, pool):
        verdicts = await sent(pool, ADA, BOB)
    assert {seen(answer) for answer in verdicts.answers.values()} == {ACCEPTED}
    assert talker.verbs[0] == ["MAIL", "RCPT", "RCPT"][: place + 1]
    assert len(talker.connections) == 2


@WAYS
async def test_a_421_that_is_said_unasked_is_heard_as_one(extension: bytes) -> None:
    closing = OK + b"421 4.3.2 Closing\r\n"
    async with talking(extension, [closing], [closing]) as (talker, pool):
        verdicts = await sent(pool)
    assert seen(verdicts.decisive) == (Phase.RCPT, Kind.REPLY, 421)
    assert len(talker.connections) == 1


async def test_where_one_answer_belongs_to_another_command_the_others_may_as_well() -> None:
    """One too many at MAIL: what seems to be said of Bob was said of Ada."""
    shifted = [OK + OK, b"550 5.1.1 No such Ada\r\n", OK, GO]
    async with talking(b"PIPELINING", shifted, shifted) as (talker, pool):
        verdicts = await sent(pool, ADA, BOB)
    assert {seen(answer)[1] for answer in verdicts.answers.values()} == {Kind.OUT_OF_STEP}
    assert len(talker.connections) == 2, "once more afresh, then not now"


async def test_a_refusal_before_garbage_is_that_recipients_own() -> None:
    answers = [OK, b"550 5.1.1 No such Ada\r\n", b"what?\r\n"]
    async with talking(b"8BITMIME", answers) as (_, pool):
        verdicts = await sent(pool, ADA, BOB)
    assert seen(verdicts.answers[ADA.email]) == (Phase.RCPT, Kind.REPLY, 550)
    assert seen(verdicts.answers[BOB.email]) == (Phase.RCPT, Kind.OUT_OF_STEP, None)


@WAYS
@pytest.mark.parametrize("code", [b"350", b"334", b"250", b"200", b"503"])
async def test_only_354_asks_for_the_content(extension: bytes, code: bytes) -> None:
    answers = [OK, OK, code + b" hm\r\n"]
    async with talking(extension, answers, answers) as (talker, pool):
        decisive = (await sent(pool)).decisive
    assert seen(decisive) == (Phase.DATA, Kind.OUT_OF_STEP, int(code))
    assert [said for said in talker.verbs if "." in said] == []
    assert len(talker.connections) == 2


@pytest.mark.parametrize("data", [GO, OK, b"554 5.5.1 No\r\n"], ids=["354", "250", "554"])
async def test_what_a_relay_makes_of_recipients_after_it_refused_the_sender_does_not_count(data: bytes) -> None:
    async with talking(b"PIPELINING", [b"550 5.7.1 Not you\r\n", OK, data]) as (talker, pool):
        decisive = (await sent(pool)).decisive
    assert seen(decisive) == (Phase.MAIL, Kind.REPLY, 550)
    assert talker.verbs == [["MAIL", "RCPT", "DATA"]], "no dot: it might take an empty mail"


@WAYS
@pytest.mark.parametrize("answer", [b"550 no\r\n", b"354 go\r\n", b"what?\r\n", OK + b"250 more\r\n", b"250-"])
async def test_a_reset_that_does_not_work_ends_the_connection_and_changes_nothing(
    extension: bytes, answer: bytes
) -> None:
    refused = [OK, b"550 5.1.1 No\r\n", *([b"554 5.5.1 Nobody\r\n"] if extension == b"PIPELINING" else []), answer]
    async with talking(extension, refused) as (talker, pool):
        assert seen((await sent(pool)).decisive) == (Phase.RCPT, Kind.REPLY, 550)
        await on_its_way()
        assert seen((await sent(pool)).decisive) == ACCEPTED
    assert "RSET" in talker.verbs[0]
    assert len(talker.connections) == 2


@WAYS
async def test_a_refusal_with_something_after_it_ends_the_connection(extension: bytes) -> None:
    """What follows it would be taken for the answer to the reset."""
    nobody = [b"554 5.5.1 Nobody\r\n" + OK] if extension == b"PIPELINING" else []
    refused = [OK, b"550 5.1.1 No\r\n" + (b"" if nobody else OK), *nobody]
    async with talking(extension, refused) as (talker, pool):
        assert seen((await sent(pool)).decisive) == (Phase.RCPT, Kind.REPLY, 550)
        assert seen((await sent(pool)).decisive) == ACCEPTED
    assert "RSET" not in talker.verbs[0]
    assert len(talker.connections) == 2


async def test_content_that_is_asked_for_and_something_else_said_at_once_is_not_ended() -> None:
    """Nobody was taken: but what would come next is no answer to a lone dot."""
    async with talking(b"PIPELINING", [OK, b"550 5.1.1 No\r\n", GO + OK]) as (talker, pool):
        assert seen((await sent(pool)).decisive) == (Phase.RCPT, Kind.REPLY, 550)
        assert seen((await sent(pool)).decisive) == ACCEPTED
    assert [verb for verb in talker.verbs[0] if verb not in {"MAIL", "RCPT", "DATA", ""}] == []
    assert len(talker.connections) == 2


@pytest.mark.parametrize("flood", [b"250 more\r\n" * (3 * MOST_UNREAD), b"what?\r\n"], ids=["answers", "garbage"])
async def test_a_relay_that_talks_without_end_is_left(flood: bytes) -> None:
    """Also where nobody listens at the moment: it fills no memory."""
    async with talking(b"PIPELINING", [OK, OK, GO, OK + PAUSE + flood]) as (talker, pool):
        assert seen((await sent(pool)).decisive) == ACCEPTED

        async def is_left() -> bool:
            return talker.left == 1

        await until(is_left, what="the end of the connection")
        assert seen((await sent(pool)).decisive) == ACCEPTED
    assert len(talker.connections) == 2
