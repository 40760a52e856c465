"""The chaos harness: a small run keeps every promise, and its judge sees each one that is broken."""

import asyncio
import os
import re
import sys
from dataclasses import replace
from random import Random

import pytest

from mailer.addresses import Address
from mailer.jobs import Job, Reason, Recipient, RecipientStatus, Status, Stream
from mailer.relays import RelayDescription, paused
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.relays import RelayStore
from tests.chaos.judge import Evidence, Report, Wait, judge
from tests.chaos.plan import Fault, Settings, schedule
from tests.chaos.sink import Copy
from tests.support.keyspace import KINDS, leaks
from tests.support.processes import ROOT

ZEROS = (
    "lost",
    "duplicates, undeclared",
    "copies that differ",
    "copies at two relays",
    "poison",
    "deaths that were not ours",
    "leaked keys",
)
SMALL = {"JOBS": "150", "KILLS": "10", "SEED": "7", "LEASE": "2", "EVERY": "1.2", "RESEND": "0"}
"""Without mails that are sent again: they would have to be waited for, a minute."""


@pytest.mark.timeout(180)
async def test_nothing_is_lost_and_nothing_is_sent_twice_while_everything_is_killed() -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos"),
        cwd=ROOT,
        env=os.environ | SMALL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(150):
            output, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.terminate()
            await child.wait()
    report = output.decode()
    assert child.returncode == 0, report
    assert re.search(r"^accepted +150$", report, re.MULTILINE), report
    for name in ZEROS:
        assert re.search(rf"^{name} +0$", report, re.MULTILINE), report
    assert re.search(r"^mails by relay +\d+ first, \d+ second$", report, re.MULTILINE), report
    assert re.search(r"^fail-overs +[1-9]", report, re.MULTILINE), report


def job(job_id: str, status: Status = Status.SENT, unknown_outcomes: int = 0, **fields: object) -> Job:
    outcomes = {Status.SENT: RecipientStatus.SENT, Status.CANCELLED: RecipientStatus.CANCELLED}
    outcome = outcomes.get(status, RecipientStatus.FAILED)
    recipients = (Recipient(Address("ada@example.com", None), status=outcome),)
    made = Job(job_id, status, Stream.NORMAL, 0, 0, recipients=recipients, unknown_outcomes=unknown_outcomes)
    return replace(made, **fields)


def evidence(*jobs: Job, copies: dict[str, int], **fields: object) -> Evidence:
    """`copies`: how many of each job the sink took."""
    taken = [Copy(job_id, "ada@example.com", "digest") for job_id, count in copies.items() for _ in range(count)]
    return replace(
        Evidence(
            accepted={item.id: ("ada@example.com",) for item in jobs},
            jobs={item.id: item for item in jobs},
            records=len(jobs),
            copies=taken,
            lease_s=5.0,
        ),
        **fields,
    )


def broken(report: Report) -> set[str]:
    return {line.name for line in report.lines if line.broken}


def test_what_is_declared_breaks_no_promise() -> None:
    jobs = (
        job("once"),
        job("twice", unknown_outcomes=1),
        job("assumed", assumed=True, unknown_outcomes=1),
        job("held", Status.UNKNOWN, unknown_outcomes=1),
        job("stopped", Status.CANCELLED),
    )
    report = judge(
        evidence(
            *jobs,
            copies={"once": 1, "twice": 2, "held": 1},
            waits=[Wait("once", 6.9), Wait("late", 6.9, behind=True), Wait("twice", 9.0, suspect=True)],
        )
    )
    assert report.is_kept, report.text()
    assert {line.name: line.value for line in report.lines}["duplicates, declared"] == "1"


@pytest.mark.parametrize(
    ("found", "promise"),
    [
        (evidence(job("a"), copies={"a": 2}), "duplicates, undeclared"),
        (evidence(job("a", unknown_outcomes=1), copies={"a": 3}), "duplicates, undeclared"),
        (evidence(job("a"), copies={}), "lost"),
        (evidence(job("a", Status.DEFERRED), copies={}), "lost"),
        (evidence(job("a"), copies={"a": 1}, jobs={"a": None}, records=0), "lost"),
        (evidence(job("a", Status.FAILED, reason=Reason.POISON), copies={}), "poison"),
        (evidence(job("a", Status.FAILED, reason=Reason.INTERNAL), copies={}), "failed otherwise"),
        (evidence(job("a", Status.UNKNOWN), copies={"a": 1}), "not sent by its record, but sent"),
        (evidence(job("a", Status.CANCELLED), copies={"a": 1}), "not sent by its record, but sent"),
        (evidence(job("a"), copies={"a": 1, "b": 1}), "mail nobody asked for"),
        (evidence(job("a"), copies={"a": 1}, records=2), "records nobody was told of"),
        (evidence(job("a"), copies={"a": 1}, waits=[Wait("a", 7.1)]), "recovery"),
        (evidence(job("a"), copies={"a": 1}, waits=[Wait("a", 7.1, behind=True)]), "recovery"),
        (evidence(job("a"), copies={"a": 1}, deaths=["worker-1 ended with 1"]), "deaths that were not ours"),
        (evidence(job("a"), copies={"a": 1}, leaks=["postroom:job:a has no TTL"]), "leaked keys"),
        (evidence(job("a"), copies={"a": 1}, surprises=["500"]), "answers of the API that surprise"),
    ],
)
def test_a_broken_promise_is_named(found: Evidence, promise: str) -> None:
    report = judge(found)
    assert broken(report) == {promise}
    assert "BROKEN" in report.text()


def test_copies_must_be_the_same() -> None:
    found = evidence(job("a", unknown_outcomes=1), copies={"a": 1})
    other = Copy("a", "ada@example.com", "another")
    assert broken(judge(replace(found, copies=[*found.copies, other]))) == {"copies that differ"}


def test_a_mail_is_given_to_one_relay() -> None:
    """Though its answer may be lost there, no other one is asked."""
    found = evidence(job("a", unknown_outcomes=1), copies={"a": 1})
    elsewhere = replace(found.copies[0], relay="another relay")
    assert broken(judge(replace(found, copies=[*found.copies, elsewhere]))) == {"copies at two relays"}


async def test_a_leaked_key_is_seen(redis: RedisClient) -> None:
    await redis.set(keys.EPOCH, "1")
    await redis.hset(keys.job("at-rest"), "status", "sent")
    await redis.pexpire(keys.job("at-rest"), 60_000)
    await redis.zadd(keys.jobs("sent"), {"at-rest": 1})
    relays = RelayStore(redis)
    await relays.change("paused", paused)
    assert (await relays.slot("paused", 1_000_000, 0)).is_reserved
    await relays.tell([RelayDescription("paused", 0, "relay.example", 25, "none", 1)])
    assert await leaks(redis) == []
    await redis.set(keys.payload("forgotten"), "{}")
    await redis.set(keys.arq_in_progress("running"), "a worker", px=60_000)
    await redis.zadd("arq:queue", {"waiting": 1})
    await redis.set("postroom:invented", "1", px=60_000)
    await redis.set(keys.job("of-another-type"), "1", px=60_000)
    await redis.set(keys.relay("not-paused"), "{}")
    await redis.zadd(keys.jobs("failed"), {"at-rest": 1, "gone": 1})
    assert await leaks(redis) == [
        "arq:in-progress:running belongs to an unfinished job",
        "arq:queue is a queue that is not empty",
        "at-rest is sent, and in the indexes of sent, failed",
        "gone is gone, and in the indexes of failed",
        "postroom:invented is in no row of mailer/store/keys.py",
        "postroom:job:of-another-type is a string",
        "postroom:payload:forgotten has no TTL",
        "postroom:relay:not-paused has no TTL",
    ]


def test_the_table_of_keys_is_read_whole() -> None:
    rows = [row for row in (keys.__doc__ or "").splitlines() if row.startswith(("| postroom:", "| arq:"))]
    named = [name for row in rows if "| channel" not in row for name in row.split("|")[1].split(",")]
    assert len(KINDS) == len(named)


def test_a_seed_names_one_schedule() -> None:
    settings = Settings(jobs=100, kills=20)
    assert schedule(settings, Random(1)) == schedule(settings, Random(1)) != schedule(settings, Random(2))


def test_every_fault_has_its_turn_where_there_are_enough() -> None:
    plan = schedule(Settings(jobs=10, kills=len(Fault)), Random(1))
    assert {moment.fault for moment in plan.moments} == set(Fault)
