"""One mail on a connection: up to the final dot nothing has happened; what comes after it is an answer or a doubt."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import pytest

from mailer.addresses import Address
from mailer.errors import QueueUnavailable
from mailer.jobs import Phase, Reply
from mailer.store.runs import JournalVerdict
from tests.support.smtp import DROP, HANG, ScriptedRelay
from tests.support.waiting import until
from worker.journal import Withheld
from worker.relays.answers import Answer, Kind, Verdicts
from worker.relays.pool import Pool
from worker.relays.relay import relays_from
from worker.relays.timeouts import Timeouts
from worker.relays.transaction import Envelope
from worker.settings import WorkerProcessSettings

ADA, BOB = Address("ada@example.com"), Address("bob@example.com")
LINE = b"a line of the mail, as long as most of them are\r\n"
SMALL = b"Subject: Hi\r\n\r\n" + LINE
BIG = b"Subject: Hi\r\n\r\n" + LINE * 200_000
"""Ten megabytes: more than the operating system takes at once."""


@dataclass
class Journal:
    """Keeps with what it was called, and how many final dots the relay had seen by then."""

    relay: ScriptedRelay
    raises: Exception | None = None
    meanwhile: Callable[[], Awaitable[None]] | None = None
    calls: list[Mapping[str, Reply]] = field(default_factory=list)
    dots_before: list[int] = field(default_factory=list)

    async def __call__(self, replies: Mapping[str, Reply]) -> None:
        self.calls.append(dict(replies))
        if self.meanwhile is not None:
            await self.meanwhile()
        self.dots_before.append(self.relay.dots)
        if self.raises is not None:
            raise self.raises


@pytest.fixture(autouse=True, params=["pipelined", "one by one"])
def _one_go_or_many(relay: ScriptedRelay, request: pytest.FixtureRequest) -> None:
    relay.extensions = ["PIPELINING"] if request.param == "pipelined" else ["8BITMIME"]


@pytest.fixture
def journal(relay: ScriptedRelay) -> Journal:
    return Journal(relay)


@pytest.fixture
async def pool(relay: ScriptedRelay):
    settings = WorkerProcessSettings.load({"POSTROOM_SMTP_URL": relay.url})
    pool = Pool(relays_from(settings)[0], Timeouts(verdict_s=0.3, content_s=5))
    yield pool
    await pool.close()


def mail(content: bytes = SMALL, *to: Address) -> Envelope:
    return Envelope(Address("hello@postroom.example"), to or (ADA,), content)


async def sent(pool: Pool, journal: Journal, envelope: Envelope | None = None) -> Verdicts:
    return (await pool.send(envelope or mail(), journal)).verdicts


async def lost(pool: Pool, journal: Journal, content: bytes = SMALL) -> Answer:
    """The answer of a conversation that broke off."""
    answer = (await sent(pool, journal, mail(content))).decisive
    assert answer.kind is not Kind.REPLY
    return answer


async def test_the_journal_is_asked_after_the_content_and_before_the_dot(
    pool: Pool, relay: ScriptedRelay, journal: Journal
) -> None:
    async def content_is_there() -> None:
        await until(all_read, what="the content at the relay")

    async def all_read() -> bool:
        return relay.read == len(BIG)

    journal.meanwhile = content_is_there
    verdicts = await sent(pool, journal, mail(BIG))
    assert (verdicts.decisive.phase, verdicts.decisive.reply.code, verdicts.clean) == (Phase.DOT, 250, True)
    assert (len(journal.calls), journal.dots_before) == (1, [0])
    assert relay.received[0].content == BIG


async def test_the_journal_hears_what_the_relay_said_of_each_recipient(
    pool: Pool, relay: ScriptedRelay, journal: Journal
) -> None:
    relay.script["RCPT bob@example.com"] = ["450 4.2.0 Busy"]
    await sent(pool, journal, mail(SMALL, ADA, BOB))
    ((ada, bob),) = [call.values() for call in journal.calls]
    assert (ada.code, bob.code, bob.enhanced) == (250, 450, "4.2.0")


@pytest.mark.parametrize(
    "script",
    [
        {"MAIL": ["451 4.3.0 Later"]},
        {"RCPT": ["550 5.1.1 No"]},
        {"DATA": ["451 4.3.0 Later"]},
        {"DATA": ["554 5.5.1 No"]},
    ],
    ids=lambda script: " ".join(f"{moment} {reply}" for moment, (reply,) in script.items()),
)
async def test_a_mail_that_is_refused_before_its_content_is_not_journaled(
    pool: Pool, relay: ScriptedRelay, journal: Journal, script: dict[str, list[str]]
) -> None:
    relay.script |= script
    await sent(pool, journal)
    assert journal.calls == []


@pytest.mark.parametrize("moment", ["MAIL", "RCPT", "DATA", "BODY"])
async def test_a_line_that_is_cut_before_the_dot_is_no_doubt(
    pool: Pool, relay: ScriptedRelay, journal: Journal, moment: str
) -> None:
    relay.script[moment] = [DROP]
    error = await lost(pool, journal, BIG)
    assert error.phase.value.upper() == moment.replace("BODY", "DATA")
    assert (relay.received, journal.calls, relay.dots) == ([], [], 0)


@pytest.mark.parametrize("raises", [Withheld(JournalVerdict.LOST), QueueUnavailable("away")])
async def test_a_mail_that_is_withheld_reaches_nobody_and_its_connection_is_not_used_again(
    pool: Pool, relay: ScriptedRelay, journal: Journal, raises: Exception
) -> None:
    journal.raises = raises
    with pytest.raises(type(raises)):
        await sent(pool, journal)
    journal.raises = None
    await sent(pool, journal)
    assert (len(relay.received), relay.dots, relay.connections) == (1, 1, 2)


async def test_a_run_that_is_stopped_in_its_journal_reaches_nobody(
    pool: Pool, relay: ScriptedRelay, journal: Journal
) -> None:
    asked = asyncio.Event()

    async def wait() -> None:
        asked.set()
        await asyncio.sleep(60)

    journal.meanwhile = wait
    sending = asyncio.create_task(sent(pool, journal))
    await asked.wait()
    sending.cancel()
    await asyncio.wait({sending})
    journal.meanwhile = None
    await sent(pool, journal)
    assert (len(relay.received), relay.dots, relay.connections) == (1, 1, 2)


@pytest.mark.parametrize("leaves", [False, True], ids=["and listens on", "and hangs up"])
async def test_an_early_refusal_in_the_midst_of_a_large_mail_is_definitive(
    pool: Pool, relay: ScriptedRelay, journal: Journal, *, leaves: bool
) -> None:
    relay.script["BODY"] = ["552 5.3.4 Too big"]
    if leaves:
        relay.script["LEAVE"] = [DROP]
    verdicts = await sent(pool, journal, mail(BIG))
    assert (verdicts.decisive.phase, verdicts.decisive.reply.code, verdicts.decisive.reply.enhanced) == (
        Phase.DATA,
        552,
        "5.3.4",
    )
    assert (journal.calls, relay.dots, relay.received) == ([], 0, [])
    await sent(pool, journal)
    assert relay.connections == 2, "that connection is out of step"


async def test_an_early_refusal_is_heard_though_the_line_breaks_while_the_rest_is_written(
    pool: Pool, relay: ScriptedRelay, journal: Journal
) -> None:
    for place in range(8):
        relay.body_after = place * 100_000
        relay.script |= {"BODY": ["552 5.3.4 Too big"], "LEAVE": [DROP]}
        assert (await sent(pool, journal, mail(BIG))).decisive.reply.code == 552
    assert journal.calls == []


async def test_an_early_refusal_that_may_pass_is_one_too(pool: Pool, relay: ScriptedRelay, journal: Journal) -> None:
    relay.script["BODY"] = ["452 4.3.1 Disk full"]
    verdicts = await sent(pool, journal, mail(BIG))
    assert (verdicts.decisive.reply.code, journal.calls) == (452, [])


@pytest.mark.parametrize("reply", ["250 2.0.0 queued", "354 go on", "nonsense"])
async def test_an_early_answer_that_makes_no_sense_is_not_believed_and_the_mail_goes_on_another_connection(
    pool: Pool, relay: ScriptedRelay, journal: Journal, reply: str
) -> None:
    relay.script["BODY"] = [reply]
    verdicts = await sent(pool, journal, mail(BIG))
    assert (verdicts.decisive.reply.code, relay.connections, relay.dots) == (250, 2, 1)
    assert len(relay.received) == 1


@pytest.mark.parametrize(("reply", "code"), [("552 5.3.4 Too big after all", 552), ("421 4.4.2 Shutting down", 421)])
async def test_a_refusal_that_comes_during_the_journal_is_heard_and_no_dot_is_written(
    pool: Pool, relay: ScriptedRelay, journal: Journal, reply: str, code: int
) -> None:
    relay.body_after, relay.script["BODY"] = len(BIG) - len(LINE), [reply]

    async def relay_has_refused() -> None:
        await until(said, what="the relay's refusal")
        await asyncio.sleep(0.02)  # on its way

    async def said() -> bool:
        return "BODY" not in relay.script

    journal.meanwhile = relay_has_refused
    verdicts = await sent(pool, journal, mail(BIG))
    assert (verdicts.decisive.phase, verdicts.decisive.reply.code, relay.dots) == (Phase.DATA, code, 0)


async def test_a_line_that_is_cut_during_the_journal_is_no_doubt(
    pool: Pool, relay: ScriptedRelay, journal: Journal
) -> None:
    relay.body_after, relay.script["BODY"] = len(SMALL) - len(LINE), [DROP]
    journal.meanwhile = lambda: asyncio.sleep(0.05)
    assert (await lost(pool, journal)).phase is Phase.DATA
    assert (len(journal.calls), relay.dots) == (1, 0)


@pytest.mark.parametrize("reply", [DROP, HANG, "350 what", "354 go on", "nonsense", "199 hm", "600 hm", "25"])
async def test_no_answer_to_the_dot_or_none_that_is_one_is_a_doubt(
    pool: Pool, relay: ScriptedRelay, journal: Journal, reply: str
) -> None:
    relay.script["DOT"] = ["250 taken, but", reply, "250 ok"]
    error = await lost(pool, journal)
    assert (error.phase, len(journal.calls), relay.dots) == (Phase.DOT, 1, 1)
    await sent(pool, journal)
    assert relay.connections == 2, "whatever it may say later belongs to no other mail"


@pytest.mark.parametrize(
    "reply", ["451 4.3.0 Later", "421 4.3.2 Closing", "552 5.2.2 Full", "554 5.7.1 Spam", "250 2.0.0 ok", "250"]
)
async def test_an_answer_to_the_dot_is_an_answer(
    pool: Pool, relay: ScriptedRelay, journal: Journal, reply: str
) -> None:
    relay.script["DOT"] = [reply]
    verdicts = await sent(pool, journal)
    assert (verdicts.decisive.phase, verdicts.decisive.reply.code) == (Phase.DOT, int(reply[:3]))


async def test_an_answer_in_several_lines_is_one(pool: Pool, relay: ScriptedRelay, journal: Journal) -> None:
    relay.script["DOT"] = ["250-2.0.0 queued\r\n250-2.0.0 as\r\n250 2.0.0 4fXyz"]
    verdicts = await sent(pool, journal)
    assert (verdicts.decisive.reply.code, verdicts.decisive.reply.text) == (250, "queued as 4fXyz")
    assert (await sent(pool, journal)).clean


async def test_the_dot_is_not_waited_for_as_long_as_the_journal(
    pool: Pool, relay: ScriptedRelay, journal: Journal
) -> None:
    """The bound of the relay's verdict begins with the dot."""
    journal.meanwhile = lambda: asyncio.sleep(0.4)
    assert (await sent(pool, journal)).decisive.reply.code == 250


async def test_a_relay_that_stops_reading_is_not_waited_for_without_end(relay: ScriptedRelay, journal: Journal) -> None:
    settings = WorkerProcessSettings.load({"POSTROOM_SMTP_URL": relay.url})
    pool = Pool(relays_from(settings)[0], Timeouts(content_s=0.2))
    relay.script["BODY"] = [HANG]
    error = await lost(pool, journal, BIG)
    assert (error.phase, journal.calls) == (Phase.DATA, [])
    assert "did not take the content" in error.reply.text
    await pool.close()


async def test_a_large_mail_does_not_hold_up_the_others(pool: Pool, relay: ScriptedRelay, journal: Journal) -> None:
    """What waits for the relay to read does not hold the loop."""
    longest = 0.0

    async def ticks() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(0.001)
            longest = max(longest, loop.time() - began)

    ticking = asyncio.create_task(ticks())
    await sent(pool, journal, mail(BIG))
    ticking.cancel()
    assert longest < 0.5
