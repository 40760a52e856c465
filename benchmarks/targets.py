"""What must be reached, all of it in one place; and whether it was. Ratios are of one run and decide, absolute figures
are of one machine and guide."""

import statistics
from dataclasses import dataclass

from benchmarks.holding_up import LARGEST
from benchmarks.plan import POSTROOM
from benchmarks.results import Results

EVERY_PEER = "every peer"
ONE, TWO = f"{POSTROOM}, 1 process", f"{POSTROOM}, 2 processes"


@dataclass(frozen=True, slots=True)
class Target:
    """The median of a figure, or of its ratio to that of another subject in the same round; of EVERY_PEER it is the one
    with the largest figure, however many processes it has. Who that is, is not known where one was left out."""

    what: str
    section: str
    subject: str
    figure: str
    bound: float
    unit: str
    at_least: bool = True
    against: str | None = None


def _most(what: str, section: str, subject: str, figure: str, bound: float, unit: str) -> Target:
    return Target(what, section, subject, figure, bound, unit, at_least=False)


TARGETS = (
    Target("drain, 1 worker process", "drain", ONE, "mails_per_s", 1500, "mails/s"),
    _most("its CPU", "drain", ONE, "worker_cpu_ms", 0.65, "ms a mail"),
    Target("its rate, to naive arq", "drain", ONE, "mails_per_s", 12, "times", against="naive arq, 1 process"),
    Target(
        *("its rate, to BullMQ + nodemailer", "drain", ONE, "mails_per_s", 2, "times"),
        against="BullMQ + nodemailer, 1 process",
    ),
    Target("drain, 2 worker processes", "drain", TWO, "mails_per_s", 2200, "mails/s"),
    Target("their rate, to the fastest peer", "drain", TWO, "mails_per_s", 1, "times", against=EVERY_PEER),
    _most("render and compose, CPU", "rendering", POSTROOM, "cpu_ms", 0.40, "ms a mail"),
    Target("accepts, single", "accepts", "singles, everysec", "jobs_per_s", 1000, "jobs/s"),
    _most("their answers, p99", "accepts", "singles, everysec", "post_p99_ms", 100, "ms"),
    Target("accepts, batches of 100", "accepts", "batches, everysec", "jobs_per_s", 5000, "jobs/s"),
    Target("end to end, singles", "end_to_end", "everysec", "mails_per_s", 700, "mails/s"),
    Target(
        *("the same with appendfsync always, to that", "end_to_end", "always", "mails_per_s", 0.7, "times"),
        against="everysec",
    ),
    _most("POST to 250 at 10/s, p50", "latency", "everysec", "p50_ms", 15, "ms"),
    _most("POST to 250 at 10/s, p99", "latency", "everysec", "p99_ms", 40, "ms"),
    Target(*("a relay that takes 50 ms", "slow_relay", f"{POSTROOM}, default settings", "mails_per_s", 300, "mails/s")),
    _most("queue server, a queued job beyond its data", "memory", "queue server", "beyond_data_octets", 2500, "octets"),
    _most("queue server, a finished record", "memory", "queue server", "finished_octets", 1500, "octets"),
    _most("worker under load, PSS", "memory", "worker", "load_mb", 120, "MB"),
    Target(
        *("drain of a long queue, to that of a short one", "growth", "a long queue", "mails_per_s", 0.85, "times"),
        against="a short queue",
    ),
    _most("a mail of 20 MB holds a worker's loop up", "large_mail", LARGEST, "longest_block_ms", 20, "ms"),
)


def measured(target: Target, results: Results) -> float | None:
    """None where it was not."""
    if target.against == EVERY_PEER and results.lacks_some_of(target.section):
        return None
    values = results.values(target.section, target.subject, target.figure)
    if target.against is not None:
        values = [own / other for own, other in zip(values, _others(target, results), strict=False)]
    return statistics.median(values) if values else None


def is_reached(target: Target, value: float) -> bool:
    return value >= target.bound if target.at_least else value <= target.bound


def _others(target: Target, results: Results) -> list[float]:
    """In each round."""
    if target.against != EVERY_PEER:
        return results.values(target.section, target.against or "", target.figure)
    subjects = results.sections.get(target.section, {})
    peers = [name for name in subjects if not name.startswith(POSTROOM)]
    each = [results.values(target.section, name, target.figure) for name in peers]
    return [
        max(values[turn] for values in each if turn < len(values)) for turn in range(max(map(len, each), default=0))
    ]
