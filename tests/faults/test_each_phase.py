"""The deciding test: cut wire, kill -9 and SIGTERM while mails stand at each phase of the SMTP transaction.

Exactly once before the journal; after it what the policy says. PHASE_MAILS=56 makes it a thousand mails.
"""

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mailer.addresses import Address
from mailer.jobs import NewJob, Payload, Recipient
from mailer.store.jobs import EnqueueRequest, JobStore
from tests.support.jobs import copies
from tests.support.processes import worker_process
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until

MAILS = int(os.environ.get("PHASE_MAILS", "3"))
OPENED_AT_ONCE = 2
"""Connections that a worker opens at a time: no more can stand at the banner or EHLO."""
CONNECTIONS = 60

Fault = Callable[[ScriptedRelay, asyncio.subprocess.Process], Awaitable[None]]


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


async def accept(store: JobStore) -> list[str]:
    job_ids = [uuid.uuid4().hex for _ in range(MAILS)]
    for job_id in job_ids:
        to = (Recipient(Address("ada@example.com", None)),)
        job = NewJob(id=job_id, payload=Payload(subject="Hello", text="Hi\n" * 500), recipients=to)
        await store.enqueue(EnqueueRequest((job,)))
    return job_ids


async def at_rest(store: JobStore, job_ids: list[str]) -> set[str]:
    """Their statuses, once each has come to rest."""
    statuses: list[str] = []

    async def look() -> bool:
        statuses[:] = [view.status for job_id in job_ids if (view := await store.view(job_id))]
        return set(statuses) <= {"sent", "unknown", "failed"}

    await until(look, within_s=40, what="an end of each")
    return set(statuses)


@pytest.mark.parametrize("moment", ["BANNER", "EHLO", "MAIL", "RCPT", "DATA", "DOT"])
@pytest.mark.parametrize("fault", ["cut wire", "kill -9", "SIGTERM"])
async def test_a_fault_at_any_phase_makes_no_mail_twice_and_loses_none(
    env: dict[str, str], store: JobStore, relay: ScriptedRelay, log: Path, moment: str, fault: str
) -> None:
    env |= {
        "POSTROOM_LEASE_S": "1",
        "POSTROOM_SMTP_URL": f"{relay.url}&connections={CONNECTIONS}",
        "POSTROOM_BACKOFF": '{"normal": {"base_s": 0.2, "cap_s": 0.4, "give_up_s": 600}}',
        "POSTROOM_UNKNOWN_POLICY": '{"normal": "hold"}',
    }
    hold = Hold(moment)
    relay.before_reply = hold.before_reply
    wanted = OPENED_AT_ONCE if moment in {"BANNER", "EHLO"} else MAILS

    async def is_standing() -> bool:
        return hold.standing >= wanted

    async with worker_process(env, log) as worker:
        job_ids = await accept(store)
        await until(is_standing, within_s=30, what=f"{wanted} conversations at {moment}")
        if fault == "cut wire":
            hold.cut = True
            hold.lifted.set()
            statuses = await at_rest(store, job_ids)
        else:
            worker.send_signal(9 if fault == "kill -9" else 15)
            if fault == "kill -9":
                await worker.wait()
            else:
                await asyncio.sleep(0.2)  # the signal has to be there before the relay answers
            hold.lifted.set()
            async with worker_process(env, log):
                statuses = await at_rest(store, job_ids)
    answer_lost = moment == "DOT" and fault != "SIGTERM"
    assert statuses == ({"unknown"} if answer_lost else {"sent"})
    assert set(copies(relay).values()) == {1}
    assert len(copies(relay)) == MAILS
