"""`python -m tests.faults.random_replies --minutes 60 --seed 1`: random replies against the whole transaction, from the
pool to the dot, on real sockets. Prints counts as JSON; exit code 1, with the seed, where a promise is broken."""

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import resource
import ssl
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Literal

import trustme
import uvloop

from mailer.addresses import Address
from tests.faults.answering import PATIENCE_S
from tests.faults.dealings import Record
from tests.faults.replies_judge import Judge, Mail
from tests.faults.unruly_relay import unruly_relay
from worker.relays.gate import Busy
from worker.relays.pool import OPENING_AT_ONCE, Pool, Try
from worker.relays.relay import Relay
from worker.relays.timeouts import Timeouts
from worker.relays.transaction import Envelope

PATIENT_S = 60.0
HASTY = Timeouts(
    free_s=PATIENT_S,
    tcp_s=1.0,
    banner_s=PATIENCE_S,
    ehlo_s=PATIENCE_S,
    tls_s=PATIENCE_S,
    auth_s=PATIENCE_S,
    connect_s=0.8,
    command_s=PATIENCE_S,
    envelope_s=0.8,
    stall_s=PATIENCE_S,
    content_s=1.0,
    verdict_s=PATIENCE_S,
    unasked_s=0.3,
    reset_s=0.3,
    idle_s=0.5,
)
LONGEST_TURN_S = (
    HASTY.connect_s + HASTY.envelope_s + HASTY.content_s + HASTY.verdict_s + HASTY.unasked_s + 2 * HASTY.reset_s
)
MARGIN_S = 10.0
"""A machine that is busy is no broken promise."""
STORMS_AT_ONCE = 4
LINES = (b".", b"..", b".hidden", b"a line of the mail", b"MAIL FROM:<eve@evil.test>", b"DATA", b"RSET", b"", b"250 ok")


@dataclass(frozen=True)
class Authority:
    """Of the relays' certificates."""

    ca_file: Path
    server: ssl.SSLContext

    @classmethod
    @contextlib.contextmanager
    def new(cls) -> Iterator["Authority"]:
        ca, server = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        ca.issue_cert("127.0.0.1").configure_cert(server)
        with tempfile.TemporaryDirectory() as folder:
            ca.cert_pem.write_to_path(Path(folder) / "ca.pem")
            yield cls(Path(folder) / "ca.pem", server)


def content_of(number: int, random: Random) -> bytes:
    """One in ten is of some 200 KB; some lines look like the end of a mail, or like commands."""
    is_big = random.random() < 0.1
    count, most = (3000, 40) if is_big else (random.randrange(30), 2)
    lines = [b"Subject: Hi", b"Message-ID: <m%d@postroom.test>" % number, b""]
    lines += [random.choice(LINES) * random.choice((1, 1, 1, most)) for _ in range(count)]
    if random.random() < 0.05:
        lines.append("Zoë".encode())
    content = b"\r\n".join(lines)
    return content if random.random() < 0.2 else content + b"\r\n"


def mail_of(number: int, server: Record) -> Mail:
    random = server.random
    to = tuple(Address(f"r{each}@m{number}.test") for each in range(random.choice((1, 1, 2, 3))))
    envelope = Envelope(Address(f"m{number}@postroom.test"), to, content_of(number, random))
    journal_s = random.choice((0, 0, 0, 0.05))
    return Mail(number, envelope, server.past_journal, journal_s, is_withheld=random.random() < 0.02)


def plain_mail(number: int, server: Record) -> Mail:
    sender, to = Address(f"m{number}@postroom.test"), (Address(f"r@m{number}.test"),)
    content = b"Message-ID: <m%d@postroom.test>\r\n\r\nHi\r\n" % number
    return Mail(number, Envelope(sender, to, content), server.past_journal)


async def post(pool: Pool, mail: Mail, random: Random, limit_s: float, *, may_stop: bool) -> None:
    began = time.monotonic()
    task = asyncio.create_task(pool.send(mail.envelope, mail.journal, critical=random.random() < 0.3))
    if may_stop and random.random() < 0.03:
        asyncio.get_running_loop().call_later(random.random(), task.cancel)
    done, _ = await asyncio.wait({task}, timeout=limit_s)
    mail.took_s = time.monotonic() - began
    if not done:
        task.cancel()
        mail.outcome = TimeoutError(f"no end after {limit_s:.3g} s")
        return
    try:
        mail.outcome = task.result()
    except BaseException as error:  # noqa: BLE001 - whatever it is, the judge wants to know
        mail.outcome = error


async def post_all(pool: Pool, mails: list[Mail], random: Random, limit_s: float, *, may_stop: bool = False) -> None:
    at_once = asyncio.Semaphore(random.choice((1, 5, 20, 40)))

    async def one(mail: Mail) -> None:
        async with at_once:
            await asyncio.sleep(random.choice((0, 0, 0, 0.1)))  # or no connection would ever be idle
            await post(pool, mail, random, limit_s, may_stop=may_stop)

    await asyncio.gather(*(one(mail) for mail in mails))


async def storm(random: Random, authority: Authority, judge: Judge) -> None:
    """Some mails through one pool, and twenty more once the relay has calmed down."""
    tls: Literal["none", "starttls", "implicit"] = random.choice(("none", "none", "starttls", "implicit"))
    username, password = ("ada", "secret") if random.random() < 0.5 else (None, None)
    hasty = Timeouts(**asdict(HASTY) | {"free_s": random.choice((PATIENT_S, PATIENT_S, 0.3))})
    limit_s = hasty.free_s + 2 * LONGEST_TURN_S + MARGIN_S
    context = None if tls == "none" else authority.server
    async with unruly_relay(random, context, implicit=tls == "implicit") as server:
        connections, ca_file = random.choice((1, 2, 3, 8)), authority.ca_file if context else None
        place = ("unruly", "127.0.0.1", server.port, tls, username, password)
        pool = Pool(Relay(*place, connections=connections, ca_file=ca_file), hasty)
        mails = [mail_of(number, server) for number in range(random.randrange(20, 80))]
        await post_all(pool, mails, random, limit_s, may_stop=True)
        await asyncio.sleep(PATIENCE_S)  # for what is still on its way
        server.calm = True
        pool._timeouts = Timeouts(free_s=PATIENT_S)
        later = [plain_mail(1000 + number, server) for number in range(20)]
        await post_all(pool, later, random, 2 * PATIENT_S)
        await pool.close()
        if server.open:
            await asyncio.wait(server.open, timeout=MARGIN_S)
        judged(judge, server, mails, later)
        nothing_stuck(judge, pool, server)
        for mail in mails:
            judge.demand(mail.took_s < limit_s, "a send is bounded", mail)
            if isinstance(mail.outcome, Busy):
                judge.demand(hasty.free_s < PATIENT_S, "busy only where there is little patience", mail)


def judged(judge: Judge, server: Record, mails: list[Mail], later: list[Mail]) -> None:
    judge.broken += server.misuse
    judge.counts.update({f"relay: {mode}": count for mode, count in server.modes.items()})
    judge.counts.update(storms=1, connections=server.connections)
    judge.liars = frozenset(dealing.mail for dealing in server.dealings if dealing.line.lied)
    for mail in (*mails, *later):
        judge.judge(mail, server.of(mail.number))
    for mail in later:
        told = mail.outcome
        is_accepted = isinstance(told, Try) and told.verdicts.accepted is not None
        judge.demand(is_accepted, "after the storm, mails are delivered", mail, *server.of(mail.number))


def nothing_stuck(judge: Judge, pool: Pool, server: Record) -> None:
    gate = pool._gate
    if any(gate._inside.values()) or any(gate._waiting.values()) or pool._opening._value != OPENING_AT_ONCE:
        judge.broken.append(f"a place is taken for ever: {gate._inside}, {gate._waiting}, {pool._opening}")
    if pool._idle or server.open:
        judge.broken.append(f"{len(pool._idle)} connections idle, {len(server.open)} open after the pool was closed")


class LateWrites(logging.Handler):
    """asyncio only logs that something is written to a connection that is lost, and only from the fifth time on."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge = judge

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith(("socket.send() raised", "SSL connection is closed")):
            self.judge.broken.append(f"written to a connection that was lost: {record.getMessage()}")


def open_sockets() -> int:
    count = 0
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(file.readlink()).startswith("socket:")
    return count


async def storms(seed: str, authority: Authority, judge: Judge) -> None:
    def tell(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        judge.broken.append(f"the event loop says: {context}")

    asyncio.get_running_loop().set_exception_handler(tell)
    before = open_sockets()
    each = (storm(Random(f"{seed} {number}"), authority, judge) for number in range(STORMS_AT_ONCE))
    await asyncio.gather(*each)
    for _ in range(500):
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if open_sockets() <= before and not tasks:
            return
        await asyncio.sleep(0.01)
    judge.broken.append(f"left open: {open_sockets() - before} sockets, tasks {tasks}")


def run(minutes: float, seed: int, judge: Judge) -> int:
    """The number of rounds: until the time is over or a promise is broken."""
    until, rounds = time.monotonic() + minutes * 60, 0
    with Authority.new() as authority:
        while time.monotonic() < until and not judge.broken:
            loop = (uvloop.new_event_loop, asyncio.new_event_loop)[rounds % 2]
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(storms(f"{seed} {rounds}", authority, judge))
            gc.collect()
            rounds += 1
            if rounds % 50 == 0:
                sys.stderr.write(f"{rounds} rounds, {judge.counts['mails']} mails\n")
    return rounds


def main() -> int:
    parser = argparse.ArgumentParser(description="Random replies against the whole transaction.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options = parser.parse_args()
    judge = Judge()
    logging.getLogger("asyncio").addHandler(LateWrites(judge))
    warnings.simplefilter("error")
    sys.unraisablehook = lambda told: judge.broken.append(f"not raised: {told.exc_value!r} in {told.object!r}")
    rounds = run(options.minutes, options.seed, judge)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    counts = {"seed": options.seed, "rounds": rounds, "peak MB": peak_mb} | dict(sorted(judge.counts.items()))
    sys.stdout.write(json.dumps(counts, indent=1) + "\n")
    if judge.broken:
        shown = "\n".join(judge.broken[:10])
        sys.stdout.write(f"Broken, with seed {options.seed} in round {rounds - 1}:\n{shown}\n")
    return 1 if judge.broken else 0


if __name__ == "__main__":
    sys.exit(main())
