"""A composed mail handed to the relays, and what they said as an outcome."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mailer.jobs import OPEN_RECIPIENT, Job, JournalMark, Recipient, Stream, UnknownPolicy
from worker.backoff import FULL_MAILBOX_FLOOR_S, greylist_floor_s
from worker.clock import Clock
from worker.journal import Journal
from worker.outcomes import HandedOver, Unknown
from worker.preparation import Deps, Mail, Prepared
from worker.relays.attempt import Place, Result, Waiting
from worker.relays.replies import Wait


@dataclass(slots=True)
class _Handing:
    """The journal as relays see it: one mail, and its recipients as they stand when a dot is about to be written."""

    job: Job
    prepared: Prepared
    clock: Clock
    journal: Journal
    recipients: tuple[Recipient, ...]

    async def write(self, relay: str, results: Mapping[str, Result]) -> None:
        self.recipients = _with_results(self.prepared.recipients, results)
        mark = JournalMark(relay, self.job.attempts + 1, self.clock.now())
        await self.journal.write(mark, self.prepared, self.recipients)

    async def refused(self) -> None:
        await self.journal.refused()


def place_of(job: Job) -> Place:
    """A relay that may have an earlier copy is the only one to have another; one that greylisted it is the first."""
    return Place(job.stays_at, only=any(item.may_have_it for item in job.recipients or ()))


async def hand_over(job: Job, mail: Mail, deps: Deps, clock: Clock, journal: Journal) -> HandedOver | Unknown | Waiting:
    recipients = mail.prepared.recipients
    handing = _Handing(job, mail.prepared, clock, journal, recipients)
    critical = job.stream is Stream.CRITICAL
    routed = await deps.router.send(mail.envelope, mail.author, handing, critical=critical, place=place_of(job))
    if isinstance(routed, Waiting):
        return routed
    if routed.in_doubt:
        return Unknown(routed.tries, handing.recipients, policy_of(job, deps))
    answered = _with_results(recipients, routed.results)
    waits = {routed.results[item.address.email].wait for item in answered if item.status in OPEN_RECIPIENT}
    stays_at = routed.greylisted_at if Wait.GREYLIST in waits else None
    return HandedOver(routed.tries, answered, _at_least_s(waits, job.attempts + 1), stays_at, routed.all_shut)


def _at_least_s(waits: set[Wait], attempts: int) -> float | None:
    """Of those who are tried again, the one with the shortest wait decides for all."""
    if not waits or Wait.BACKOFF in waits:
        return None
    return greylist_floor_s(attempts) if Wait.GREYLIST in waits else FULL_MAILBOX_FLOOR_S


def _with_results(recipients: tuple[Recipient, ...], results: Mapping[str, Result]) -> tuple[Recipient, ...]:
    return tuple(
        replace(item, status=result.status, reply=result.reply)
        if (result := results.get(item.address.email)) is not None and result.status is not None
        else item
        for item in recipients
    )


def policy_of(job: Job, deps: Deps) -> UnknownPolicy:
    """The template's, else the stream's."""
    return job.unknown_policy or deps.settings.policy_of(job.stream)
