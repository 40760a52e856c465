"""What handing over one mail costs a worker: CPU of one transaction on a connection that stays open.

A sink in a process of its own takes everything at once. In turns, so that a busy machine is busy for all: aiosmtplib's
`send_message` on a connection it keeps (an EmailMessage, as its documentation shows), its `sendmail` with the bytes
that we send, and our transaction on a connection that we keep, with PIPELINING and at a relay that does not offer it;
the same with the pool around it, which opens a new connection each 100 mails. CPU is the process time of this process;
the same mail of 10 KB each time. Then the longest time for which a mail of 20 MB holds up the loop, measured by a task
that only ticks. `python -m benchmarks.transaction [--plain-asyncio]`.
"""

import asyncio
import json
import platform
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from email.message import EmailMessage
from functools import partial

import uvloop
from aiosmtplib import SMTP

from benchmarks.sink import sink_server
from mailer.addresses import Address
from mailer.jobs import Reply
from worker.relays.opening import Opening
from worker.relays.pool import Pool
from worker.relays.relay import relays_from
from worker.relays.timeouts import Timeouts
from worker.relays.transaction import Envelope, Offers, Transaction
from worker.relays.wire import Wire
from worker.settings import WorkerProcessSettings

ROUNDS, MAILS = 15, 200
SENDER, RECIPIENT = "hello@postroom.example", "ada@example.com"
LINES = 150
LARGE_LINES, LARGE_MAILS = 335_000, 5
HOST = "127.0.0.1"
REFERENCE, OURS = "aiosmtplib send_message", "postroom"


def message() -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = SENDER, RECIPIENT, "A mail of ten kilobytes"
    mail.set_content("A line of text, about as long as lines of mail are: seventy.\n" * LINES)
    return mail


async def journal(_: Mapping[str, Reply]) -> None:
    """Nothing: its cost is the queue's."""


@asynccontextmanager
async def sink_process() -> AsyncIterator[tuple[int, int]]:
    """The ports of a sink with PIPELINING and of one without. They run elsewhere, so that their CPU is not counted."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.transaction", "--sink", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline()), int(await process.stdout.readline())
    finally:
        process.terminate()
        await process.wait()


async def serve_sink() -> None:
    async with sink_server() as quick, sink_server(pipelining=False) as slow:
        print(quick.port, slow.port, sep="\n", flush=True)
        await asyncio.Event().wait()


async def longest_block_ms(port: int) -> float:
    settings = WorkerProcessSettings.load({"POSTROOM_SMTP_URL": f"smtp://{HOST}:{port}?tls=none"})
    pool, longest = Pool(relays_from(settings)[0]), 0.0
    content = (
        b"Subject: Large\r\n\r\n" + b"A line of text, about as long as lines of mail are: seventy.\r\n" * LARGE_LINES
    )

    async def tick() -> None:
        nonlocal longest
        while True:
            began = time.thread_time()  # CPU: another process that takes its turn holds up nobody's loop but its own
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - began)

    ticking = asyncio.create_task(tick())
    try:
        for _ in range(LARGE_MAILS):
            found = await pool.send(Envelope(Address(SENDER), (Address(RECIPIENT),), content), journal)
            assert found.verdicts.accepted is not None
    finally:
        ticking.cancel()
        await pool.close()
    return longest * 1000


async def senders(ports: tuple[int, int], stack: AsyncExitStack) -> dict[str, Callable[[], Awaitable[object]]]:
    mail = message()
    content = mail.as_bytes().replace(b"\n", b"\r\n")
    envelope = Envelope(Address(SENDER), (Address(RECIPIENT),), content)
    kept = await stack.enter_async_context(SMTP(hostname=HOST, port=ports[0], start_tls=False))
    ways: dict[str, Callable[[], Awaitable[object]]] = {
        REFERENCE: lambda: kept.send_message(mail),
        "aiosmtplib sendmail, bytes": lambda: kept.sendmail(SENDER, [RECIPIENT], content),
    }
    for port, name in zip(ports, (OURS, f"{OURS}, relay without PIPELINING"), strict=True):
        settings = WorkerProcessSettings.load({"POSTROOM_SMTP_URL": f"smtp://{HOST}:{port}?tls=none"})
        (relay,) = relays_from(settings)
        wire, offers = await Opening(relay, None, Timeouts()).run()
        stack.callback(wire.part)
        ways[name] = partial(transact, wire, offers, envelope)
        pool = Pool(relay)
        stack.push_async_callback(pool.close)
        ways[f"{name}, with its pool"] = partial(pool.send, envelope, journal)
    return ways


async def transact(wire: Wire, offers: Offers, envelope: Envelope) -> None:
    wire.noted = []
    verdicts = await Transaction(wire, offers, envelope, journal, Timeouts(), reused=True).run()
    assert verdicts.accepted is not None
    assert verdicts.clean


async def measure() -> None:
    async with AsyncExitStack() as stack:
        ports = await stack.enter_async_context(sink_process())
        ways = await senders(ports, stack)
        cpu_ms: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(ROUNDS + 1):
            for name, send in ways.items():
                began = time.process_time()
                for _ in range(MAILS):
                    await send()
                if turn:  # the first warms up
                    cpu_ms[name].append((time.process_time() - began) / MAILS * 1000)
        longest_ms = await longest_block_ms(ports[0])
    medians = {name: statistics.median(values) for name, values in cpu_ms.items()}
    reference = medians[REFERENCE]
    print(
        json.dumps(
            {
                "python": platform.python_version(),
                "loop": type(asyncio.get_running_loop()).__module__.split(".")[0],
                "cpu_s_per_1000_mails": {name: round(value, 3) for name, value in medians.items()},
                "share_of_send_message": {name: round(value / reference, 3) for name, value in medians.items()},
                "longest_block_ms_20_mb": round(longest_ms, 1),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    if "--sink" in sys.argv:
        asyncio.run(serve_sink())
    elif "--plain-asyncio" in sys.argv:
        asyncio.run(measure())
    else:
        uvloop.run(measure())
