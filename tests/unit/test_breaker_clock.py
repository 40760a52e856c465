"""The queue server's clock is set back, as when a machine that started with a wrong one hears the time: what was open
until then is not shut for days, and what was slowed does not stay slow."""

from dataclasses import replace

import pytest

from mailer.jobs import Phase, Reply
from mailer.relays import BreakerState, RelayState, Trouble, breaker_state, paused
from worker.relays.breaker import (
    HOUR,
    MINUTE,
    SECOND,
    Barred,
    Probe,
    Usable,
    after_fault,
    after_mails,
    after_success,
    standing,
    with_probe,
)
from worker.relays.effects import SHUTS, Effect, Pace

AHEAD = 1_800_000_000_000
BACK = [AHEAD - 400 * 24 * HOUR, AHEAD - 2 * HOUR]
TROUBLE = Trouble(0, "no_connection", Phase.CONNECT, Reply(None, "refused"))


def fault(state: RelayState, effect: Effect, now: int = AHEAD, pace: Pace = Pace.KEEP) -> RelayState:
    return after_fault(state, effect, pace, TROUBLE, threshold=3, credentials="1f", owner="a", now=now)


@pytest.mark.parametrize("now", BACK)
@pytest.mark.parametrize("effect", sorted(SHUTS))
def test_a_relay_that_was_open_may_be_found_out_about(effect: Effect, now: int) -> None:
    state = fault(RelayState(), effect)
    assert isinstance(standing(state, "1f", AHEAD), Barred)
    assert standing(state, "1f", now) == Probe()
    assert breaker_state(state, now) is BreakerState.HALF_OPEN


def test_one_that_connections_opened_is_not_shut_for_as_long_as_a_quota_would() -> None:
    state = RelayState()
    for _ in range(3):
        state = fault(state, Effect.COUNT)
    assert standing(state, "1f", AHEAD - 30 * MINUTE) == Probe()


@pytest.mark.parametrize("now", BACK)
def test_one_that_was_finding_out_is_no_longer_waited_for(now: int) -> None:
    state = with_probe(fault(RelayState(), Effect.OPEN), "a", AHEAD + MINUTE)
    assert isinstance(standing(state, "1f", AHEAD + MINUTE), Barred)
    assert standing(state, "1f", now) == Probe()


@pytest.mark.parametrize("now", BACK)
@pytest.mark.parametrize("effect", sorted(SHUTS))
def test_a_success_closes_it(effect: Effect, now: int) -> None:
    state = after_success(with_probe(fault(RelayState(), effect), "a", now), "1f", now)
    assert (breaker_state(state, now), standing(state, "1f", now)) == (BreakerState.CLOSED, Usable())


@pytest.mark.parametrize("now", BACK)
def test_a_password_that_is_refused_again_is_left_alone_for_five_minutes(now: int) -> None:
    state = fault(with_probe(fault(RelayState(), Effect.CREDENTIALS), "a", now), Effect.CREDENTIALS, now)
    assert standing(state, "1f", now + 5 * MINUTE - SECOND) == Barred("open (credentials)", 1)
    assert standing(state, "1f", now + 5 * MINUTE) == Probe()


@pytest.mark.parametrize("now", BACK)
def test_the_pace_is_halved_and_grows_back(now: int) -> None:
    state = fault(RelayState(), Effect.NONE, pace=Pace.HALVE)
    assert fault(state, Effect.NONE, now, pace=Pace.HALVE).pace == 0.25
    assert after_mails(state, 1, now).pace == 1.0


@pytest.mark.parametrize("now", BACK)
def test_a_pause_is_a_persons_and_stays(now: int) -> None:
    assert standing(paused(fault(RelayState(), Effect.OPEN), AHEAD), "1f", now) == Barred("paused", None)


@pytest.mark.parametrize("effect", sorted(SHUTS))
def test_a_worker_whose_idea_of_the_time_lags_by_seconds_takes_nothing_for_over(effect: Effect) -> None:
    state = fault(RelayState(), effect)
    assert isinstance(standing(state, "1f", AHEAD - 5 * SECOND), Barred)
    assert isinstance(standing(replace(state, openings=1), "1f", AHEAD - 5 * SECOND), Barred)
