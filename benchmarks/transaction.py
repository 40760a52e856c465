"""What handing over one mail costs a worker: CPU of one transaction on a connection that stays open.

In turns, so that a busy machine is busy for all: aiosmtplib's `send_message` on a connection it keeps (an EmailMessage,
as its documentation shows), its `sendmail` with the bytes that we send, and our transaction on a connection that we
keep, with PIPELINING and at a relay that does not offer it; the same with the pool around it, which opens a new
connection each 100 mails. CPU is the process time of this process, on uvloop and on asyncio's own loop; the same mail
of 10 KB each time. Then the longest time for which a mail of 20 MB holds up the loop, seen by a task that only ticks.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from email.message import EmailMessage
from functools import partial

import uvloop
from aiosmtplib import SMTP

from benchmarks.plan import POSTROOM, Plan
from benchmarks.relay import Relay, counting_relay
from benchmarks.section import Run, Runs, Section
from mailer.addresses import Address
from mailer.jobs import Reply
from worker.relays.opening import Opening
from worker.relays.pool import Pool
from worker.relays.relay import relays_from
from worker.relays.timeouts import Timeouts
from worker.relays.transaction import Envelope, Offers, Transaction
from worker.relays.wire import Wire
from worker.settings import WorkerProcessSettings

SENDER, RECIPIENT = "hello@postroom.example", "ada@example.com"
LINE = "A line of text, about as long as lines of mail are: seventy."
LINES, LARGE_LINES = 150, 335_000
REFERENCE, LARGE = "aiosmtplib send_message", f"{POSTROOM}, a mail of 20 MB"
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


@dataclass(frozen=True, slots=True)
class Transactions:
    """`cpu_ms`: of each way, per mail, the median of its turns. `sent`: to the first relay, and to the one without
    PIPELINING."""

    cpu_ms: dict[str, float]
    longest_block_ms: float
    sent: tuple[int, int]


def message() -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = SENDER, RECIPIENT, "A mail of ten kilobytes"
    mail.set_content(f"{LINE}\n" * LINES)
    return mail


async def journal(_: Mapping[str, Reply]) -> None:
    """Nothing: its cost is the queue's."""


async def longest_block_ms(url: str, mails: int) -> float:
    settings = WorkerProcessSettings.load({"POSTROOM_SMTP_URL": url})
    pool, longest = Pool(relays_from(settings)[0]), 0.0
    content = b"Subject: Large\r\n\r\n" + f"{LINE}\r\n".encode() * LARGE_LINES

    async def tick() -> None:
        nonlocal longest
        while True:
            began = time.thread_time()  # CPU: another process that takes its turn holds up nobody's loop but its own
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - began)

    ticking = asyncio.create_task(tick())
    try:
        for _ in range(mails):
            found = await pool.send(Envelope(Address(SENDER), (Address(RECIPIENT),), content), journal)
            assert found.verdicts.accepted is not None
    finally:
        ticking.cancel()
        await pool.close()
    return longest * 1000


async def senders(
    quick: Relay, slow: Relay, stack: AsyncExitStack
) -> tuple[dict[str, Callable[[], Awaitable[object]]], dict[str, Callable[[], Awaitable[object]]]]:
    """The ways to the relay that offers PIPELINING, and to the one that does not."""
    mail = message()
    content = mail.as_bytes().replace(b"\n", b"\r\n")
    envelope = Envelope(Address(SENDER), (Address(RECIPIENT),), content)
    kept = await stack.enter_async_context(SMTP(hostname="127.0.0.1", port=quick.port, start_tls=False))
    reference: dict[str, Callable[[], Awaitable[object]]] = {
        REFERENCE: lambda: kept.send_message(mail),
        "aiosmtplib sendmail, bytes": lambda: kept.sendmail(SENDER, [RECIPIENT], content),
    }
    ours = await _ours(POSTROOM, quick.url, envelope, stack)
    return reference | ours, await _ours(f"{POSTROOM}, relay without PIPELINING", slow.url, envelope, stack)


async def _ours(
    name: str, url: str, envelope: Envelope, stack: AsyncExitStack
) -> dict[str, Callable[[], Awaitable[object]]]:
    (relay,) = relays_from(WorkerProcessSettings.load({"POSTROOM_SMTP_URL": url}))
    wire, offers = await Opening(relay, None, Timeouts()).run()
    stack.callback(wire.part)
    pool = Pool(relay)
    stack.push_async_callback(pool.close)
    return {
        name: partial(_transact, wire, offers, envelope),
        f"{name}, with its pool": partial(pool.send, envelope, journal),
    }


async def _transact(wire: Wire, offers: Offers, envelope: Envelope) -> None:
    wire.noted = []
    verdicts = await Transaction(wire, offers, envelope, journal, Timeouts(), reused=True).run()
    assert verdicts.accepted is not None
    assert verdicts.clean


async def transactions(quick: Relay, slow: Relay, turns: int, in_a_turn: int, large_mails: int) -> Transactions:
    """On the running loop."""
    async with AsyncExitStack() as stack:
        to_quick, to_slow = await senders(quick, slow, stack)
        cpu_ms: dict[str, list[float]] = {name: [] for name in to_quick | to_slow}
        for turn in range(turns + 1):
            for name, send in (to_quick | to_slow).items():
                began = time.process_time()
                for _ in range(in_a_turn):
                    await send()
                if turn:  # the first warms up
                    cpu_ms[name].append((time.process_time() - began) / in_a_turn * 1000)
        block_ms = await longest_block_ms(quick.url, large_mails)
    mails = (turns + 1) * in_a_turn
    medians = {name: statistics.median(each) for name, each in cpu_ms.items()}
    return Transactions(medians, block_ms, (mails * len(to_quick) + large_mails, mails * len(to_slow)))


async def _runs(plan: Plan) -> Runs:
    for _ in range(plan.rounds):
        for loop_name, loop in LOOPS.items():
            async with counting_relay() as quick, counting_relay("-p") as slow:
                measured = transactions(quick, slow, plan.turns, plan.in_a_turn, plan.large_mails)
                found = await asyncio.to_thread(_run_on, loop, measured)
                for relay, sent in zip((quick, slow), found.sent, strict=True):
                    await relay.settle(sent)
            for name, cpu_ms in found.cpu_ms.items():
                yield Run(f"{name}, {loop_name}", {"cpu_ms": cpu_ms})
            yield Run(f"{LARGE}, {loop_name}", {"longest_block_ms": found.longest_block_ms})


def _run_on(loop: Callable[[], asyncio.AbstractEventLoop], measured: Awaitable[Transactions]) -> Transactions:
    async def awaited() -> Transactions:
        return await measured

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(awaited())


TRANSACTION = Section("transaction", "One SMTP transaction of a mail of 10 KB on a connection that stays", _runs)
