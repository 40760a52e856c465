"""The deciding test: cut wire, kill -9 and SIGTERM while mails stand at each phase of the SMTP transaction.

Exactly once before the journal; after it what the policy says. PHASE_MAILS=56 makes it a thousand mails. BODY is in the
midst of a large content, where the relay reads no further.
"""

import asyncio
import os
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mailer.addresses import Address
from mailer.jobs import NewJob, Payload, Recipient
from mailer.store.connection import RedisClient
from mailer.store.jobs import EnqueueRequest, JobStore
from tests.support.jobs import come_due, copies
from tests.support.processes import worker_process
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until

MAILS = int(os.environ.get("PHASE_MAILS", "3"))
OPENED_AT_ONCE = 2
"""Connections that a worker opens at a time: no more can stand at the banner or EHLO."""
CONNECTIONS = 100
"""Some of them are kept for critical mail."""
LARGE_MAILS = 2
LARGE = "A line of a report that somebody has exported as text.\n" * 120_000
"""7 MB: more than the buffers between worker and relay hold while the relay does not read."""


@dataclass
class Hold:
    """Keeps conversations at one moment until it is lifted; a cut one ends there."""

    moment: str
    lifted: asyncio.Event = field(default_factory=asyncio.Event)
    standing: int = 0
    cut: bool = False

    async def before_reply(self, moment: str) -> None:
        if moment == self.moment and not self.lifted.is_set():
            self.standing += 1
            await self.lifted.wait()
            if self.cut:
                raise ConnectionAbortedError


async def accept(store: JobStore, text: str = "Hi\n" * 500, mails: int = MAILS) -> list[str]:
    job_ids = [uuid.uuid4().hex for _ in range(mails)]
    for job_id in job_ids:
        to = (Recipient(Address("ada@example.com", None)),)
        job = NewJob(id=job_id, payload=Payload(subject="Hello", text=text), recipients=to)
        await store.enqueue(EnqueueRequest((job,)))
    return job_ids


Seen = set[tuple[str, int]]


async def come_to(store: JobStore, job_ids: list[str], *statuses: str) -> Seen:
    """Until each has one of these statuses: what is found, with how often the answer was lost."""
    found: list[tuple[str, int]] = []

    async def look() -> bool:
        views = [view for job_id in job_ids if (view := await store.view(job_id))]
        found[:] = [(view.status, view.job.unknown_outcomes) for view in views]
        return {status for status, _ in found} <= set(statuses)

    await until(look, within_s=40, what=" or ".join(statuses))
    return set(found)


@dataclass
class Scene:
    env: dict[str, str]
    store: JobStore
    relay: ScriptedRelay
    log: Path

    async def fault(self, fault: str, hold: Hold, text: str, mails: int, *statuses: str) -> tuple[list[str], Seen]:
        """The mails that stood there, and what they came to."""
        wanted = min(mails, OPENED_AT_ONCE) if hold.moment in {"BANNER", "EHLO"} else mails

        async def is_standing() -> bool:
            return hold.standing >= wanted

        async with worker_process(self.env, self.log) as worker:
            job_ids = await accept(self.store, text, mails)
            await until(is_standing, within_s=30, what=f"{wanted} conversations at {hold.moment}")
            if fault == "cut wire":
                hold.cut = True
                hold.lifted.set()
                return job_ids, await come_to(self.store, job_ids, *statuses)
            worker.send_signal(9 if fault == "kill -9" else 15)
            if fault == "kill -9":
                await worker.wait()
            else:
                await asyncio.sleep(0.2)  # the signal has to be there before the relay answers
            hold.lifted.set()
            async with worker_process(self.env, self.log):
                return job_ids, await come_to(self.store, job_ids, *statuses)


@pytest.fixture
def scene(env: dict[str, str], store: JobStore, relay: ScriptedRelay, log: Path) -> Scene:
    env |= {
        "POSTROOM_LEASE_S": "1",
        "POSTROOM_SMTP_URL": f"{relay.url}&connections={CONNECTIONS}",
        "POSTROOM_BACKOFF": '{"normal": {"base_s": 0.2, "cap_s": 0.4, "give_up_s": 600}}',
        "POSTROOM_UNKNOWN_POLICY": '{"normal": "hold"}',
    }
    return Scene(env, store, relay, log)


@pytest.mark.parametrize("moment", ["BANNER", "EHLO", "MAIL", "RCPT", "DATA", "BODY", "DOT"])
@pytest.mark.parametrize("fault", ["cut wire", "kill -9", "SIGTERM"])
async def test_a_fault_at_any_phase_makes_no_mail_twice_and_loses_none(
    scene: Scene, relay: ScriptedRelay, moment: str, fault: str
) -> None:
    hold = Hold(moment)
    relay.before_reply = hold.before_reply
    relay.in_body = lambda: hold.before_reply("BODY")
    text, mails = (LARGE, LARGE_MAILS) if moment == "BODY" else ("Hi\n" * 500, MAILS)
    _, found = await scene.fault(fault, hold, text, mails, "sent", "unknown", "failed")
    answer_lost = moment == "DOT" and fault != "SIGTERM"
    assert found == ({("unknown", 1)} if answer_lost else {("sent", 0)})
    assert set(copies(relay).values()) == {1}
    assert len(copies(relay)) == mails


@pytest.mark.parametrize("policy", ["accept", "resend"])
@pytest.mark.parametrize("fault", ["cut wire", "kill -9"])
async def test_a_lost_answer_to_the_dot_is_what_the_policy_makes_of_it(
    scene: Scene, redis: RedisClient, store: JobStore, relay: ScriptedRelay, fault: str, policy: str
) -> None:
    """hold is above."""
    scene.env["POSTROOM_UNKNOWN_POLICY"] = f'{{"normal": "{policy}"}}'
    hold = Hold("DOT")
    relay.before_reply = hold.before_reply
    expected = "sent" if policy == "accept" else "deferred"
    job_ids, found = await scene.fault(fault, hold, "Hi\n" * 500, MAILS, expected, "unknown", "failed")
    assert found == {(expected, 1)}
    assert (len(copies(relay)), set(copies(relay).values())) == (MAILS, {1})
    if policy == "accept":
        return
    for job_id in job_ids:
        await come_due(redis, job_id)
    async with worker_process(scene.env, scene.log):
        assert await come_to(store, job_ids, "sent", "unknown", "failed") == {("sent", 1)}
    assert (len(copies(relay)), set(copies(relay).values())) == (MAILS, {2})
    assert set(Counter(mail.content for mail in relay.received).values()) == {2}, "byte for byte the same"
