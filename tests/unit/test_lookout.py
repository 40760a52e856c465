"""Jobs that wait for a relay are looked at again soon where there are few, and in turn where there are many."""

import pytest

from worker.lookout import EVERY_S, LONGEST_S, Lookout


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def test_a_few_jobs_wait_for_as_long_as_their_relay_does(time):
    lookout = Lookout(time)
    assert [lookout.next_s(10.0) for _ in range(100)] == [10.0] * 100


def test_many_jobs_come_back_one_after_another(time):
    lookout = Lookout(time)
    waits = [lookout.next_s(0.0) for _ in range(1000)]
    assert waits == pytest.approx([EVERY_S * number for number in range(1, 1001)])


def test_none_waits_for_longer_than_a_minute_however_many_there_are(time):
    lookout = Lookout(time)
    waits = [lookout.next_s(10.0) for _ in range(20_000)]
    assert max(waits) == LONGEST_S
    assert lookout.next_s(3600.0) == LONGEST_S


def test_when_the_many_are_gone_the_next_job_does_not_wait_for_them(time):
    lookout = Lookout(time)
    for _ in range(5000):
        lookout.next_s(0.0)
    time.now += 50.0
    assert lookout.next_s(1.0) == pytest.approx(1.0)
