"""What a run of chaos does and when, from its settings and its seed alone. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    WORKER_KILLED = "worker killed"
    WORKER_STOPPED = "worker stopped"  # SIGTERM, as in a deploy
    WORKER_FROZEN = "worker frozen"  # for about its lease, as with its machine: it wakes up beside its successor
    API_KILLED = "API killed"
    SERVER_KILLED = "queue server killed"
    LINES_CUT = "connections to the queue server cut"
    RELAY_OUT = "relay out"
    RELAYS_OUT = "all relays out"


SHARES: dict[Fault, int] = {
    Fault.WORKER_KILLED: 10,
    Fault.WORKER_STOPPED: 2,
    Fault.WORKER_FROZEN: 2,
    Fault.API_KILLED: 2,
    Fault.SERVER_KILLED: 2,
    Fault.LINES_CUT: 2,
    Fault.RELAY_OUT: 2,
    Fault.RELAYS_OUT: 1,
}
LASTS_S: dict[Fault, tuple[float, float]] = {
    Fault.SERVER_KILLED: (0.2, 3.0),
    Fault.LINES_CUT: (0.0, 0.5),
    Fault.RELAY_OUT: (1.0, 4.0),
    Fault.RELAYS_OUT: (0.5, 2.0),
}
FROZEN_LEASES = (0.7, 1.5)
FROZEN_BEYOND_LEASE_S = 1.5
"""At most: later than worker.watchdog.BACKSTOP_S, an ended process might have the code of any other death."""
FIRST_FAULT_S = 2.0
RUSH_S = 0.8
"""Half of the jobs are posted within this time before a fault, so that it meets work."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`jobs`, `kills` and `seed` are what `make chaos` takes; `resend`: with mails that are sent again a minute after
    an unknown outcome, so that the end has to wait for them."""

    jobs: int = 2000
    kills: int = 40
    seed: int = 1
    lease_s: float = 5.0
    every_s: float = 2.5
    workers: int = 4
    apis: int = 2
    resend: bool = True

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> "Settings":
        """From JOBS, KILLS, SEED, LEASE, EVERY, WORKERS and RESEND (0 or 1); what is unset or empty has its default."""
        words = {
            name: environ[variable]
            for name, variable in (
                ("jobs", "JOBS"),
                ("kills", "KILLS"),
                ("seed", "SEED"),
                ("lease_s", "LEASE"),
                ("every_s", "EVERY"),
                ("workers", "WORKERS"),
                ("resend", "RESEND"),
            )
            if environ.get(variable)
        }
        floats = {name: float(words.pop(name)) for name in ("lease_s", "every_s") if name in words}
        resend = words.pop("resend", "1") != "0"
        return cls(**{name: int(word) for name, word in words.items()}, **floats, resend=resend)


@dataclass(frozen=True, slots=True)
class Moment:
    """A fault: when it begins, for how long, and which of several it meets (0 to 1)."""

    at_s: float
    fault: Fault
    lasts_s: float
    which: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """Seconds from the beginning. `posts`: when each job is posted."""

    moments: tuple[Moment, ...]
    posts: tuple[float, ...]


def schedule(settings: Settings, random: Random) -> Schedule:
    moments, at_s = [], FIRST_FAULT_S
    for fault in _deal(settings.kills, random):
        lasts_s = random.uniform(*LASTS_S.get(fault, (0.0, 0.0)))
        if fault is Fault.WORKER_FROZEN:
            longest_s = settings.lease_s + FROZEN_BEYOND_LEASE_S
            lasts_s = min(longest_s, settings.lease_s * random.uniform(*FROZEN_LEASES))
        moments.append(Moment(at_s, fault, lasts_s, random.random()))
        # Some come upon each other, as the exponential distribution has it; none is waited for long.
        at_s += min(random.expovariate(1 / settings.every_s), 3 * settings.every_s)
    posts = [
        random.uniform(0, at_s)
        if number % 2 or not moments
        else moments[number // 2 % len(moments)].at_s - random.uniform(0, RUSH_S)
        for number in range(settings.jobs)
    ]
    return Schedule(tuple(moments), tuple(sorted(posts)))


def _deal(kills: int, random: Random) -> list[Fault]:
    """Each kind once where there are enough, the others by their shares, in any order."""
    faults = list(SHARES)[:kills]
    faults += random.choices(list(SHARES), weights=list(SHARES.values()), k=kills - len(faults))
    random.shuffle(faults)
    return faults
