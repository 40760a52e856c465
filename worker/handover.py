"""A composed mail handed to the relays, and what they said as an outcome."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mailer.jobs import OPEN_RECIPIENT, Job, JournalMark, Recipient, Stream, UnknownPolicy
from worker.backoff import FULL_MAILBOX_FLOOR_S, greylist_floor_s
from worker.clock import Clock
from worker.journal import Journal
from worker.outcomes import HandedOver, Unknown
from worker.preparation import Deps, Mail, Prepared
from worker.relays.attempt import ANYWHERE, Place, Result, Waiting
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
        self.recipients = _as_journaled(self.prepared.recipients, results)
        mark = JournalMark(relay, self.job.attempts + 1, self.clock.now())
        await self.journal.write(mark, self.prepared, self.recipients)

    async def refused(self) -> None:
        await self.journal.refused()


def place_of(job: Job) -> Place:
    """A relay that may have an earlier copy is the only one to have another; it, and one that greylisted the mail, are
    the first that are asked."""
    if not job.stays_at and all(item.in_doubt is None for item in job.recipients or ()):
        return ANYWHERE
    still = [item for item in job.recipients or () if item.status in OPEN_RECIPIENT]
    bound = {item.address.email: item.in_doubt for item in still if item.in_doubt is not None}
    all_bound = bool(still) and len(bound) == len(still)
    preferred = (job.stays_at,) if job.stays_at and not all_bound else ()
    return Place(tuple(dict.fromkeys((*bound.values(), *preferred))), bound, all_bound)


async def hand_over(job: Job, mail: Mail, deps: Deps, clock: Clock, journal: Journal) -> HandedOver | Unknown | Waiting:
    recipients = mail.prepared.recipients
    handing = _Handing(job, mail.prepared, clock, journal, recipients)
    critical = job.stream is Stream.CRITICAL
    routed = await deps.router.send(mail.envelope, mail.author, handing, critical=critical, place=place_of(job))
    if isinstance(routed, Waiting):
        return routed
    known = handing.recipients if routed.in_doubt else _with_results(recipients, routed.results)
    waits = {
        routed.results[item.address.email].wait if item.address.email in routed.results else Wait.BACKOFF
        for item in known
        if item.status in OPEN_RECIPIENT and not (routed.in_doubt and item.was_taken)
    }
    at_least_s = _at_least_s(waits, job.counted + 1)
    stays_at = routed.greylisted_at if Wait.GREYLIST in waits else None
    if routed.in_doubt:
        return Unknown(routed.tries, known, policy_of(job, deps), at_least_s, stays_at)
    return HandedOver(routed.tries, known, at_least_s, stays_at, routed.uncounted)


def _at_least_s(waits: set[Wait], attempts: int) -> float | None:
    """Of those who are tried again, the one with the shortest wait decides for all."""
    if not waits or Wait.BACKOFF in waits:
        return None
    return greylist_floor_s(attempts) if Wait.GREYLIST in waits else FULL_MAILBOX_FLOOR_S


def _as_journaled(recipients: tuple[Recipient, ...], results: Mapping[str, Result]) -> tuple[Recipient, ...]:
    """Only whom this relay took is said to have been taken: an earlier relay's reply, or that of an earlier run, is
    not kept."""
    return _with_results(tuple(replace(item, reply=None) if item.was_taken else item for item in recipients), results)


def without_takers(job: Job) -> Job:
    """Whom a relay took that then did not take the mail, in a run that came to no end: nothing is decided for them."""
    taken = [item for item in job.recipients or () if item.was_taken and item.in_doubt is None]
    if job.journal is not None or not taken:
        return job
    recipients = tuple(replace(item, reply=None) if item in taken else item for item in job.recipients or ())
    return replace(job, recipients=recipients)


def _with_results(recipients: tuple[Recipient, ...], results: Mapping[str, Result]) -> tuple[Recipient, ...]:
    return tuple(
        Recipient(item.address, item.field, result.status, result.reply, item.in_doubt)
        if (result := results.get(item.address.email)) is not None and result.status is not None
        else item
        for item in recipients
    )


def policy_of(job: Job, deps: Deps) -> UnknownPolicy:
    """The template's, else the stream's."""
    return job.unknown_policy or deps.settings.policy_of(job.stream)
