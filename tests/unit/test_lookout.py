"""Jobs that wait for a relay are looked at again soon where there are few, and in turn where there are many."""

import pytest

from worker.lookout import EVERY_S, LONGEST_S, SOON_S, Lookout


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def test_a_few_jobs_are_looked_at_when_their_relay_may_be_had_and_each_two_seconds_until_then(time):
    lookout = Lookout(time)
    assert [lookout.next_s(wait_s) for wait_s in (0.5, 1.0, 1.9, 10.0, 3600.0)] == [0.5, 1.0, 1.9, SOON_S, SOON_S]


def test_many_jobs_come_back_one_after_another(time):
    lookout = Lookout(time)
    waits = [lookout.next_s(0.0) for _ in range(1000)]
    assert waits == pytest.approx([EVERY_S * number for number in range(1, 1001)])


def test_none_waits_for_longer_than_a_minute_however_many_there_are(time):
    lookout = Lookout(time)
    waits = [lookout.next_s(10.0) for _ in range(20_000)]
    assert max(waits) == LONGEST_S


def test_when_the_many_are_gone_the_next_job_does_not_wait_for_them(time):
    lookout = Lookout(time)
    for _ in range(5000):
        lookout.next_s(0.0)
    time.now += 50.0
    assert lookout.next_s(1.0) == pytest.approx(1.0)
