"""When a deferred mail is tried again: the laws of the schedule."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mailer.jobs import Backoff, Job, Status, Stream
from worker.backoff import (
    FULL_MAILBOX_FLOOR_S,
    Again,
    GaveUp,
    Limit,
    Schedule,
    TooLate,
    greylist_floor_s,
    next_attempt,
    schedule_of,
)
from worker.settings import DEFAULT_BACKOFF, BackoffSchedule

NOW = 1_700_000_000_000
SECONDS = st.floats(0.001, 86400)
SCHEDULES = st.builds(Schedule, base_s=SECONDS, cap_s=SECONDS, give_up_s=st.floats(1, 30 * 86400))
COUNTS = st.none() | st.integers(1, 1000)
DELAYS = st.lists(SECONDS, min_size=1, max_size=50).map(tuple)
ANY_SCHEDULE = st.builds(
    Schedule,
    base_s=SECONDS,
    cap_s=SECONDS,
    give_up_s=st.floats(1, 30 * 86400),
    max_attempts=COUNTS,
    delays_s=st.none() | DELAYS,
)
BOUNDS = st.none() | st.floats(0.001, 10**6)
RANDOM = st.floats(0, 1, exclude_max=True)
ATTEMPTS = st.integers(1, 100_000)
LONG = Schedule(base_s=30, cap_s=900, give_up_s=259_200)


def decide(
    schedule=LONG, *, attempts=1, waited_ms=0, expires_in_ms=None, random=0.5, at_most_s=None, at_least_s=None, now=NOW
):
    return next_attempt(
        schedule,
        attempts=attempts,
        due_at=NOW - waited_ms,
        expires_at=None if expires_in_ms is None else NOW + expires_in_ms,
        now=now,
        random=lambda: random,
        at_most_s=at_most_s,
        at_least_s=at_least_s,
    )


@given(ANY_SCHEDULE, ATTEMPTS, RANDOM, st.integers(0, 10**10), st.none() | st.integers(-(10**6), 10**9), BOUNDS, BOUNDS)
def test_the_next_attempt_is_never_before_now_nor_after_the_end(
    schedule, attempts, random, waited_ms, expires_in_ms, at_most_s, at_least_s
):
    decision = decide(
        schedule,
        attempts=attempts,
        waited_ms=waited_ms,
        expires_in_ms=expires_in_ms,
        random=random,
        at_most_s=at_most_s,
        at_least_s=at_least_s,
    )
    if isinstance(decision, Again):
        assert decision.at > NOW
        assert decision.at <= NOW - waited_ms + schedule.give_up_s * 1000
        assert expires_in_ms is None or decision.at <= NOW + expires_in_ms
        assert at_least_s is None or decision.at >= NOW + at_least_s * 1000
        assert schedule.max_attempts is None or attempts < schedule.max_attempts
        assert schedule.delays_s is None or attempts <= len(schedule.delays_s)


@given(ANY_SCHEDULE, st.lists(st.tuples(RANDOM, BOUNDS, BOUNDS), min_size=1, max_size=60), BOUNDS)
def test_a_job_has_no_more_attempts_than_waits_and_one_nor_than_its_schedule_allows(schedule, tries, lives_s):
    """A whole life: each attempt at the time that the one before it was given."""
    now, made, expires_in_ms = NOW, 0, None if lives_s is None else int(lives_s * 1000)
    for made, (random, at_most_s, at_least_s) in enumerate(tries, start=1):
        more = {"at_most_s": at_most_s, "at_least_s": at_least_s, "expires_in_ms": expires_in_ms}
        decision = decide(schedule, attempts=made, random=random, now=now, **more)
        if not isinstance(decision, Again):
            break
        assert decision.at > now
        now = decision.at
    assert schedule.max_attempts is None or made <= schedule.max_attempts
    assert schedule.delays_s is None or made <= len(schedule.delays_s) + 1
    assert now <= NOW + schedule.give_up_s * 1000


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
        (259_178, None, GaveUp(Limit.TIME)),
        (10**6, None, GaveUp(Limit.TIME)),
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


LISTED = Schedule(base_s=30, cap_s=900, give_up_s=259_200, delays_s=(30, 0.57, 600))


@given(RANDOM, BOUNDS)
def test_the_waits_of_a_list_are_exact_whatever_the_chance_and_however_soon_it_may_pass(random, at_most_s):
    waits = [decide(LISTED, attempts=made, random=random, at_most_s=at_most_s).at - NOW for made in (1, 2, 3)]
    assert waits == [30_000, 570, 600_000]
    assert decide(LISTED, attempts=4, random=random) == GaveUp(Limit.ATTEMPTS)


@pytest.mark.parametrize(
    ("schedule", "last"),
    [
        (LONG, None),
        (replace(LONG, max_attempts=3), 3),
        (LISTED, 4),
        (replace(LISTED, max_attempts=2), 2),
        (replace(LISTED, max_attempts=9), 4),
    ],
)
def test_the_last_attempt_is_the_last(schedule, last):
    assert schedule.last_attempt == last
    if last is None:
        assert isinstance(decide(schedule, attempts=1000), Again)
    else:
        assert isinstance(decide(schedule, attempts=last - 1), Again)
        assert decide(schedule, attempts=last) == decide(schedule, attempts=last + 1) == GaveUp(Limit.ATTEMPTS)


ONCE = replace(LONG, max_attempts=1)


@pytest.mark.parametrize(
    ("expires_in_ms", "expected"),
    [(1, GaveUp(Limit.ATTEMPTS)), (0, TooLate()), (-1, TooLate()), (None, GaveUp(Limit.ATTEMPTS))],
)
def test_a_job_without_an_attempt_left_has_expired_only_if_its_time_is_over(expires_in_ms, expected):
    assert decide(ONCE, expires_in_ms=expires_in_ms, waited_ms=10**10) == expected


@pytest.mark.parametrize("schedule", [LONG, LISTED])
def test_what_takes_its_time_is_not_tried_before_it_even_beyond_the_cap(schedule):
    assert decide(schedule, at_least_s=1800) == Again(NOW + 1_800_000)
    assert decide(schedule, at_least_s=1) == decide(schedule)
    assert decide(schedule, at_most_s=10, at_least_s=1800) == Again(NOW + 1_800_000)


@pytest.mark.parametrize("schedule", [LONG, LISTED])
def test_a_floor_leads_beyond_no_limit(schedule):
    late = {"waited_ms": 258_000_000, "at_least_s": 1800}
    assert decide(schedule, **late) == GaveUp(Limit.TIME)
    assert decide(schedule, at_least_s=1800, expires_in_ms=1_799_999) == TooLate()
    assert decide(schedule, attempts=4, at_least_s=1800, expires_in_ms=1_800_000) != TooLate()


def test_a_greylist_is_asked_again_after_1_6_and_16_minutes():
    waits = [greylist_floor_s(refused) for refused in range(1, 6)]
    assert [sum(waits[:tries]) / 60 for tries in range(1, 6)] == [1, 6, 16, 26, 36]
    assert greylist_floor_s(10**6) < FULL_MAILBOX_FLOOR_S


STREAM = BackoffSchedule(base_s=30, cap_s=900, give_up_s=3600)
COUNTED = STREAM.model_copy(update={"max_attempts": 7})


def effective(own: Backoff | None, stream: BackoffSchedule = STREAM) -> Schedule:
    return schedule_of(Job("1", Status.PENDING, Stream.NORMAL, 1, 1, backoff=own), stream)


@pytest.mark.parametrize(
    ("own", "stream", "expected"),
    [
        (None, STREAM, Schedule(30, 900, 3600)),
        (None, COUNTED, Schedule(30, 900, 3600, 7)),
        (Backoff(), COUNTED, Schedule(30, 900, 3600, 7)),
        (Backoff(base_s=5), STREAM, Schedule(5, 900, 3600)),
        (Backoff(cap_s=10), STREAM, Schedule(30, 10, 3600)),
        (Backoff(base_s=5, cap_s=10), STREAM, Schedule(5, 10, 3600)),
        (Backoff(give_up_s=60), STREAM, Schedule(30, 900, 60)),
        (Backoff(max_attempts=3), COUNTED, Schedule(30, 900, 3600, 3)),
        (Backoff(delays_s=(30, 60)), COUNTED, Schedule(30, 900, 3600, None, (30, 60))),
    ],
)
def test_what_a_job_says_of_its_backoff_goes_before_its_streams(own, stream, expected):
    assert effective(own, stream) == expected


def test_a_base_longer_than_the_streams_cap_is_waited_for():
    assert decide(effective(Backoff(base_s=1200)), random=0.999).at - NOW > 1_100_000


@given(DELAYS, st.sampled_from(Stream))
def test_a_list_is_not_cut_short_by_its_streams_time(delays, stream):
    schedule = effective(Backoff(delays_s=delays), DEFAULT_BACKOFF[stream])
    now = NOW
    for made in range(1, len(delays) + 1):
        decision = decide(schedule, attempts=made, now=now)
        assert isinstance(decision, Again), made
        now = decision.at
    assert decide(schedule, attempts=len(delays) + 1, now=now) == GaveUp(Limit.ATTEMPTS)
