"""A mail handed to a relay as the worker does it: of these tests, the one place that knows how that is called."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mailer.addresses import Address
from mailer.jobs import Phase, Reply
from worker.relays.answers import Answer, Kind, Verdicts
from worker.relays.pool import Pool
from worker.relays.relay import relays_from
from worker.relays.replies import queue_id_of
from worker.relays.timeouts import Timeouts
from worker.relays.transaction import Envelope
from worker.settings import WorkerProcessSettings

SENDER = "hello@sender.test"


@dataclass(frozen=True, slots=True)
class Said:
    """What a relay said of one recipient, and where."""

    phase: Phase
    kind: Kind
    reply: Reply

    @property
    def accepted(self) -> bool:
        return (self.phase, self.kind, self.reply.code) == (Phase.DOT, Kind.REPLY, 250)


@dataclass(frozen=True, slots=True)
class HandedOver:
    said: Mapping[str, Said]
    conversation: str
    journaled: int

    @property
    def decisive(self) -> Said:
        (said,) = set(self.said.values())
        return said

    @property
    def queue_id(self) -> str | None:
        return next((queue_id_of(said.reply) for said in self.said.values() if said.accepted), None)


@dataclass(slots=True)
class Hands:
    """One relay of the worker: its pool of connections."""

    pool: Pool

    async def over(self, content: bytes, *recipients: str, sender: str = SENDER) -> HandedOver:
        journaled = 0

        async def journal(_: Mapping[str, Reply]) -> None:
            nonlocal journaled
            journaled += 1

        envelope = Envelope(Address(sender), tuple(Address(email) for email in recipients), content)
        tried = await self.pool.send(envelope, journal)
        return HandedOver(_said(tried.verdicts), "\n".join(tried.conversation), journaled)


@asynccontextmanager
async def hands(smtp_url: str, timeouts: Timeouts | None = None) -> AsyncIterator[Hands]:
    """As a worker with POSTROOM_SMTP_URL has it."""
    (relay,) = relays_from(WorkerProcessSettings.load({"POSTROOM_SMTP_URL": smtp_url}))
    pool = Pool(relay, timeouts)
    try:
        yield Hands(pool)
    finally:
        await pool.close()


def _said(verdicts: Verdicts) -> dict[str, Said]:
    return {email: _of(answer) for email, answer in verdicts.answers.items()}


def _of(answer: Answer) -> Said:
    return Said(answer.phase, answer.kind, answer.reply)
