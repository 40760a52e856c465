"""A job whose worker died twice runs alone, and what it finds running is not kept waiting, nor hurt, without need."""

from dataclasses import dataclass

import pytest

from mailer.store.runs import Claim
from worker.quarantine import ANSWERS_S, Quarantine


@dataclass
class Running:
    """Stands for worker.running.Runs."""

    before_journal: int = 0
    past_journal: int = 0
    stops: int = 0

    def __len__(self) -> int:
        return self.before_journal + self.past_journal

    def stop(self) -> None:
        self.stops += 1


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def claim(*, alone: bool = False, waiting: bool = False) -> Claim:
    return Claim((), 0, None, alone=alone, waiting=waiting, newer=())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runs() -> Running:
    return Running(before_journal=2, past_journal=3)


def test_without_a_quarantined_job_nothing_is_special(runs: Running, clock: Clock) -> None:
    quarantine = Quarantine(runs, clock)
    quarantine.heard(claim())
    quarantine.make_room()
    assert (quarantine.is_here, runs.stops) == (False, 0)


def test_a_quarantined_job_waits_for_those_that_run_and_for_the_answers_they_are_owed(
    runs: Running, clock: Clock
) -> None:
    quarantine = Quarantine(runs, clock)
    quarantine.heard(claim(waiting=True))
    clock.now += ANSWERS_S - 1
    quarantine.make_room()
    assert (quarantine.is_here, quarantine.in_the_way(), runs.stops) == (True, 5, 0)


def test_it_does_not_wait_for_a_relay_that_hangs(runs: Running, clock: Clock) -> None:
    quarantine = Quarantine(runs, clock)
    quarantine.heard(claim(waiting=True))
    clock.now += ANSWERS_S + 1
    quarantine.make_room()
    assert (quarantine.in_the_way(), runs.stops) == (2, 1)
    runs.before_journal = 0
    assert quarantine.in_the_way() == 0


def test_while_it_runs_nothing_joins_it_until_it_only_waits_for_an_answer(clock: Clock) -> None:
    runs = Running(before_journal=1)
    quarantine = Quarantine(runs, clock)
    quarantine.heard(claim(alone=True))
    clock.now += ANSWERS_S + 1
    quarantine.make_room()
    assert (quarantine.is_here, quarantine.in_the_way(), runs.stops) == (True, 1, 0)
    runs.before_journal, runs.past_journal = 0, 1
    assert quarantine.in_the_way() == 0
