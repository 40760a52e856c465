"""What was promised, held against what was found. Pure: a test can hand it evidence of a broken promise."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mailer.jobs import OPEN, Job, Reason, RecipientStatus, Status
from tests.chaos.sink import Copy

SHOWN = 5
RECOVERY_BEYOND_LEASE_S = 2.0
RECOVERY_QUANTILE = 0.99


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a job of a killed worker waited, from the kill to its next run. `suspect`: a worker had died with it
    before, so that it went to the quarantine, where one runs at a time."""

    job_id: str
    seconds: float
    suspect: bool = False
    behind: bool = False
    """There was a backlog, as an outage leaves one: its place is behind all that came due before its lease ended."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """`accepted`: recipients by job id. `jobs`: the records at the end, None where there is none. `records`: how many
    records the server has."""

    accepted: Mapping[str, Sequence[str]]
    jobs: Mapping[str, Job | None]
    records: int
    copies: Sequence[Copy]
    lease_s: float
    waits: Sequence[Wait] = ()
    deaths: Sequence[str] = ()
    leaks: Sequence[str] = ()
    surprises: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A number of the report; `broken` says which promise it breaks, with examples."""

    name: str
    value: str
    broken: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    lines: list[Line] = field(default_factory=list)

    @property
    def is_kept(self) -> bool:
        return not any(line.broken for line in self.lines)

    def count(self, name: str, value: object) -> None:
        self.lines.append(Line(name, str(value)))

    def zero(self, name: str, found: Iterable[str]) -> None:
        """What must not be there at all."""
        found = tuple(found)
        self.lines.append(Line(name, str(len(found)), found))

    def text(self) -> str:
        width = max(len(line.name) for line in self.lines)
        return "\n".join(row for line in self.lines for row in _rows(line, width))


def _rows(line: Line, width: int) -> Iterator[str]:
    yield f"{line.name:<{width}}  {line.value}" + ("  BROKEN" if line.broken else "")
    yield from (f"{'':<{width}}    {example}" for example in line.broken[:SHOWN])
    if len(line.broken) > SHOWN:
        yield f"{'':<{width}}    and {len(line.broken) - SHOWN} more"


def judge(evidence: Evidence) -> Report:
    report = Report()
    known = {job_id: job for job_id, job in evidence.jobs.items() if job is not None}
    _statuses(report, evidence, known)
    copies = _counted(evidence.copies)
    report.zero("lost", _lost(evidence, copies))
    declared, undeclared = _duplicates(known, copies)
    report.count("duplicates, declared", declared)
    report.zero("duplicates, undeclared", undeclared)
    report.zero("copies that differ", _different(evidence.copies))
    report.zero("copies at two relays", _at_two_relays(evidence.copies))
    report.zero("not sent by its record, but sent", _denied(known, copies))
    report.zero("mail nobody asked for", sorted({copy.job_id for copy in evidence.copies} - evidence.accepted.keys()))
    strays = evidence.records - len(known)
    report.zero("records nobody was told of", [f"{strays} more than were accepted"] if strays else [])
    report.zero("poison", (job.id for job in known.values() if job.reason is Reason.POISON))
    report.zero("failed otherwise", _failed(known.values()))
    _recovery(report, evidence)
    report.zero("deaths that were not ours", evidence.deaths)
    report.zero("leaked keys", evidence.leaks)
    report.zero("answers of the API that surprise", evidence.surprises)
    return report


def _statuses(report: Report, evidence: Evidence, known: Mapping[str, Job]) -> None:
    found = Counter(
        "sent, assumed" if job.assumed and job.status is Status.SENT else str(job.status) for job in known.values()
    )
    report.count("accepted", len(evidence.accepted))
    for name in ("sent", "sent, assumed", "unknown", "cancelled", "failed"):
        report.count(name, found.pop(name, 0))
    for name in sorted(found):
        report.count(name, found[name])


Copies = Mapping[tuple[str, str], int]
"""How often each recipient was given each job's mail."""


def _counted(copies: Sequence[Copy]) -> Copies:
    return Counter((copy.job_id, copy.recipient) for copy in copies)


def _lost(evidence: Evidence, copies: Copies) -> Iterator[str]:
    for job_id in evidence.accepted:
        job = evidence.jobs.get(job_id)
        if job is None:
            yield f"{job_id} has no record"
        elif job.status in OPEN:
            yield f"{job_id} is still {job.status} at the end, after {job.attempts} attempts"
        elif job.status is Status.SENT and not job.assumed:
            for address in _addresses(job, RecipientStatus.SENT):
                if not copies.get((job_id, address)):
                    yield f"{job_id} is sent, but {address} got nothing"


def _duplicates(known: Mapping[str, Job], copies: Copies) -> tuple[int, list[str]]:
    declared, undeclared = 0, []
    for (job_id, recipient), count in copies.items():
        extra, allowed = count - 1, known[job_id].unknown_outcomes if job_id in known else 0
        declared += min(extra, allowed)
        if extra > allowed:
            undeclared.append(f"{job_id}: {recipient} got {count} copies, {allowed} outcomes are declared unknown")
    return declared, undeclared


def _different(copies: Sequence[Copy]) -> list[str]:
    """Copies of one mail are the same, byte for byte."""
    digests: dict[str, set[str]] = defaultdict(set)
    for copy in copies:
        digests[copy.job_id].add(copy.digest)
    return [f"{job_id} went out in {len(found)} forms" for job_id, found in digests.items() if len(found) > 1]


def _at_two_relays(copies: Sequence[Copy]) -> list[str]:
    """A relay that may have a mail is the only one that is ever asked again."""
    relays: dict[tuple[str, str], set[str]] = defaultdict(set)
    for copy in copies:
        relays[copy.job_id, copy.recipient].add(copy.relay)
    return [f"{job_id}: {who} got it from {sorted(found)}" for (job_id, who), found in relays.items() if len(found) > 1]


def _denied(known: Mapping[str, Job], copies: Copies) -> Iterator[str]:
    for job in known.values():
        if not job.unknown_outcomes:
            for status in (RecipientStatus.FAILED, RecipientStatus.CANCELLED):
                for address in _addresses(job, status):
                    if copies.get((job.id, address)):
                        yield f"{job.id} is {status} for {address}, who got it"


def _failed(jobs: Iterable[Job]) -> Iterator[str]:
    """Nothing in the mix may fail: the sink never says 5xx, and the streams give up after an hour."""
    ends = {Status.FAILED, Status.EXPIRED, Status.SKIPPED}
    for job in jobs:
        if job.status in ends and job.reason is not Reason.POISON:
            yield f"{job.id} is {job.status}: {job.reason} {job.detail}"


def _recovery(report: Report, evidence: Evidence) -> None:
    """The quarantine is left out of the bound: there a job waits for the others."""
    bound = evidence.lease_s + RECOVERY_BEYOND_LEASE_S
    waits = sorted((wait for wait in evidence.waits if not wait.suspect), key=lambda wait: wait.seconds)
    late = [wait for wait in reversed(waits) if wait.seconds > bound]
    broken = tuple(f"{wait.job_id} waited {wait.seconds:.2f} s, {bound:g} s at most" for wait in late)
    too_many = len(late) > len(waits) * (1 - RECOVERY_QUANTILE)
    report.lines.append(Line("recovery", _quantiles(waits), broken if too_many else ()))
    report.count("of these behind a backlog", _quantiles([wait for wait in waits if wait.behind]))
    suspects = sorted((wait for wait in evidence.waits if wait.suspect), key=lambda wait: wait.seconds)
    report.count("recovery from quarantine", _quantiles(suspects))


def _quantiles(waits: Sequence[Wait]) -> str:
    """Of waits in order."""
    if not waits:
        return "no job to look at"
    middle, late, longest = (waits[int((len(waits) - 1) * share)].seconds for share in (0.5, RECOVERY_QUANTILE, 1))
    return f"p50 {middle:.2f} s, p99 {late:.2f} s, max {longest:.2f} s, of {len(waits)} jobs"


def _addresses(job: Job, status: RecipientStatus) -> list[str]:
    return [item.address.email for item in job.recipients or () if item.status is status]
