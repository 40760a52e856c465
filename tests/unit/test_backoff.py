"""When a deferred mail is tried again: the laws of the schedule."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mailer.jobs import Stream
from worker.backoff import Again, GaveUp, TooLate, next_attempt
from worker.settings import DEFAULT_BACKOFF, BackoffSchedule

NOW = 1_700_000_000_000
SCHEDULES = st.builds(
    BackoffSchedule, base_s=st.floats(0.001, 86400), cap_s=st.floats(0.001, 86400), give_up_s=st.floats(1, 30 * 86400)
)
RANDOM = st.floats(0, 1, exclude_max=True)
ATTEMPTS = st.integers(1, 100_000)
LONG = BackoffSchedule(base_s=30, cap_s=900, give_up_s=259_200)


def decide(schedule=LONG, *, attempts=1, waited_ms=0, expires_in_ms=None, random=0.5, at_most_s=None):
    return next_attempt(
        schedule,
        attempts=attempts,
        due_at=NOW - waited_ms,
        expires_at=None if expires_in_ms is None else NOW + expires_in_ms,
        now=NOW,
        random=lambda: random,
        at_most_s=at_most_s,
    )


@given(SCHEDULES, ATTEMPTS, RANDOM, st.integers(0, 10**10), st.none() | st.integers(-(10**6), 10**9))
def test_the_next_attempt_is_never_before_now_nor_after_the_end(schedule, attempts, random, waited_ms, expires_in_ms):
    decision = decide(schedule, attempts=attempts, waited_ms=waited_ms, expires_in_ms=expires_in_ms, random=random)
    if isinstance(decision, Again):
        assert decision.at > NOW
        assert decision.at <= NOW - waited_ms + schedule.give_up_s * 1000
        assert expires_in_ms is None or decision.at <= NOW + expires_in_ms


@given(SCHEDULES, ATTEMPTS, RANDOM)
def test_no_delay_is_longer_than_the_cap_or_shorter_than_half_of_what_it_should_be(schedule, attempts, random):
    decision = decide(schedule, attempts=attempts, random=random)
    assume(isinstance(decision, Again))
    whole_ms = 1000 * min(schedule.cap_s, schedule.base_s * 2.0 ** min(attempts - 1, 60))
    assert max(1, int(whole_ms / 2)) <= decision.at - NOW <= max(1, whole_ms)


@given(RANDOM)
def test_delays_grow_until_they_reach_the_cap(random):
    delays = [decide(attempts=attempts, random=random).at - NOW for attempts in range(1, 12)]
    assert delays == sorted(delays)
    assert len(set(delays)) == 6, "30 60 120 240 480 900"
    assert delays[5:] == [delays[5]] * 6


@given(ATTEMPTS, RANDOM, RANDOM)
def test_chance_only_spreads_a_delay_over_its_upper_half(attempts, low, high):
    assume(low <= high)
    earlier, later = decide(attempts=attempts, random=low), decide(attempts=attempts, random=high)
    assert earlier.at <= later.at <= NOW + 2 * (earlier.at - NOW) + 1


@given(ATTEMPTS, RANDOM, st.floats(0.001, 1000))
def test_what_is_expected_to_pass_soon_is_tried_again_sooner(attempts, random, at_most_s):
    soon = decide(attempts=attempts, random=random, at_most_s=at_most_s)
    assert soon.at <= decide(attempts=attempts, random=random).at
    assert soon.at - NOW <= max(1, at_most_s * 1000)


@pytest.mark.parametrize(
    ("waited_s", "expires_in_s", "expected"),
    [
        (0, None, Again(NOW + 22_500)),
        (259_177, None, Again(NOW + 22_500)),
        (259_178, None, GaveUp()),
        (10**6, None, GaveUp()),
        (0, 22.5, Again(NOW + 22_500)),
        (0, 22.499, TooLate()),
        (0, -1, TooLate()),
        (10**6, 1, TooLate()),
    ],
)
def test_the_last_moment_still_counts(waited_s, expires_in_s, expected):
    expires_in_ms = None if expires_in_s is None else int(expires_in_s * 1000)
    assert decide(waited_ms=waited_s * 1000, expires_in_ms=expires_in_ms) == expected


def test_a_code_is_tried_sooner_and_given_up_earlier_than_a_receipt_and_that_than_a_digest():
    critical, normal, bulk = (DEFAULT_BACKOFF[stream] for stream in (Stream.CRITICAL, Stream.NORMAL, Stream.BULK))
    assert critical.base_s < normal.base_s < bulk.base_s
    assert critical.cap_s < normal.cap_s < bulk.cap_s
    assert critical.give_up_s < normal.give_up_s < bulk.give_up_s
    for schedule in (critical, normal, bulk):
        assert schedule.base_s < schedule.cap_s < schedule.give_up_s
