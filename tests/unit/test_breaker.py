"""When a relay is asked and how fast: what the breaker promises, whatever comes in whatever order."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.jobs import Phase, Reply
from mailer.relays import BreakerState, OpenedBy, RelayState, Trouble, breaker_state, paused, resumed
from worker.relays.breaker import (
    DOUBLED_EVERY_MS,
    HOUR,
    LOOK_AGAIN_MS,
    MINUTE,
    PROBE_MS,
    SECOND,
    SLOWEST,
    Barred,
    Probe,
    Usable,
    after_fault,
    after_mails,
    after_success,
    standing,
    threshold_of,
    with_probe,
)
from worker.relays.effects import Effect, Pace

NOW = 1_700_000_000_000
TROUBLE = Trouble(0, "no_connection", Phase.CONNECT, Reply(None, "refused"))
CLOSED = RelayState()
AT_ONCE = {
    Effect.OPEN: (OpenedBy.REFUSED, 30 * SECOND, 5 * MINUTE),
    Effect.CERTIFICATE: (OpenedBy.CERTIFICATE, 30 * SECOND, 15 * MINUTE),
    Effect.CREDENTIALS: (OpenedBy.CREDENTIALS, 5 * MINUTE, 5 * MINUTE),
    Effect.QUOTA: (OpenedBy.QUOTA, HOUR, HOUR),
}


def fault(
    state: RelayState,
    effect: Effect,
    now: int = NOW,
    *,
    pace: Pace = Pace.KEEP,
    owner: str = "a",
    credentials: str | None = "1f",
    threshold: int = 3,
) -> RelayState:
    return after_fault(state, effect, pace, TROUBLE, threshold=threshold, credentials=credentials, owner=owner, now=now)


def probe_fails(state: RelayState, effect: Effect, now: int, *, credentials: str | None = "1f") -> RelayState:
    assert standing(state, credentials, now) == Probe()
    return fault(with_probe(state, "p", now), effect, now, owner="p", credentials=credentials)


class TestOpening:
    @pytest.mark.parametrize(("connections", "failures"), [(1, 3), (6, 3), (7, 3), (8, 4), (30, 15)])
    def test_half_of_the_connections_have_to_fail_one_after_another_and_at_least_three(
        self, connections: int, failures: int
    ) -> None:
        state = CLOSED
        for _ in range(failures):
            assert standing(state, None, NOW) == Usable()
            state = after_fault(
                state,
                Effect.COUNT,
                Pace.KEEP,
                TROUBLE,
                threshold=threshold_of(connections),
                credentials=None,
                owner="a",
                now=NOW,
            )
        assert (state.opened_by, state.failures) == (OpenedBy.CONNECTION, failures)
        assert standing(state, None, NOW) == Barred("open (connection)", 30)

    @pytest.mark.parametrize(("after_ms", "opens"), [(29_999, False), (30_000, True)])
    def test_three_are_enough_where_they_took_half_a_minute(self, after_ms: int, opens: bool) -> None:
        """A relay that hangs fails seldom, and one that has little mail is asked seldom."""
        state = fault(fault(CLOSED, Effect.COUNT, threshold=15), Effect.COUNT, threshold=15)
        state = fault(state, Effect.COUNT, NOW + after_ms, threshold=15)
        assert isinstance(standing(state, "1f", NOW + after_ms), Barred) is opens

    def test_a_success_between_them_begins_the_count_anew(self) -> None:
        state = fault(fault(CLOSED, Effect.COUNT), Effect.COUNT)
        state = fault(fault(after_success(state, "1f", NOW), Effect.COUNT), Effect.COUNT)
        assert standing(state, "1f", NOW) == Usable()

    @pytest.mark.parametrize("effect", AT_ONCE)
    def test_some_faults_open_at_once(self, effect: Effect) -> None:
        by, first, _ = AT_ONCE[effect]
        state = fault(CLOSED, effect)
        assert standing(state, "1f", NOW) == Barred(f"open ({by})", first / 1000)
        assert standing(state, "1f", NOW + first) == Probe()
        assert state.trouble == replace(TROUBLE, at=NOW)

    @pytest.mark.parametrize("effect", AT_ONCE)
    def test_each_failed_probe_makes_it_longer_up_to_a_bound(self, effect: Effect) -> None:
        by, first, longest = AT_ONCE[effect]
        state, now, lengths = fault(CLOSED, effect), NOW, []
        for _ in range(8):
            lengths.append((state.open_until or 0) - now)
            now = state.open_until or 0
            state = probe_fails(state, effect, now)
            assert (state.opened_by, state.opened_at) == (by, NOW)
        assert lengths == [min(first * 2**n, longest) for n in range(8)]

    def test_refusals_of_mails_never_count(self) -> None:
        assert fault(CLOSED, Effect.NONE) is CLOSED

    def test_faults_of_mails_that_were_under_way_make_it_no_longer(self) -> None:
        state = fault(CLOSED, Effect.OPEN)
        for effect in Effect:
            late = fault(state, effect, NOW + 40 * SECOND, owner="b")
            assert (late.open_until, late.opened_by) == (state.open_until, OpenedBy.REFUSED)

    def test_a_line_cut_three_times_during_auth_counts_as_refused_credentials(self) -> None:
        state = fault(fault(CLOSED, Effect.COUNT_LOGIN), Effect.COUNT_LOGIN)
        assert standing(state, "1f", NOW) == Usable()
        state = fault(state, Effect.COUNT_LOGIN)
        assert state.opened_by is OpenedBy.CREDENTIALS
        again = probe_fails(state, Effect.COUNT_LOGIN, NOW + 5 * MINUTE)
        assert standing(again, "1f", NOW + 5 * MINUTE) == Barred("open (credentials)", 300)

    def test_a_line_cut_during_auth_counts_as_a_connection_too(self) -> None:
        state = fault(fault(fault(CLOSED, Effect.COUNT), Effect.COUNT), Effect.COUNT_LOGIN)
        assert state.opened_by is OpenedBy.CONNECTION


class TestProbe:
    HALF_OPEN_AT = NOW + 30 * SECOND
    HALF_OPEN = fault(CLOSED, Effect.OPEN)

    def test_while_one_finds_out_the_others_look_again_soon(self) -> None:
        state = with_probe(self.HALF_OPEN, "a", self.HALF_OPEN_AT)
        for owners_credentials in ("1f", "2e", None):
            found = standing(state, owners_credentials, self.HALF_OPEN_AT)
            assert found == Barred("open (refused)", LOOK_AGAIN_MS / 1000)

    def test_one_that_is_never_heard_of_again_is_replaced(self) -> None:
        state = with_probe(self.HALF_OPEN, "a", self.HALF_OPEN_AT)
        assert isinstance(standing(state, "1f", self.HALF_OPEN_AT + PROBE_MS - 1), Barred)
        assert standing(state, "1f", self.HALF_OPEN_AT + PROBE_MS) == Probe()

    def test_its_success_closes(self) -> None:
        state = after_success(with_probe(self.HALF_OPEN, "a", self.HALF_OPEN_AT), "1f", self.HALF_OPEN_AT)
        assert replace(state, trouble=None) == CLOSED
        assert breaker_state(state, self.HALF_OPEN_AT) is BreakerState.CLOSED

    def test_one_failed_connection_is_enough_for_it_to_fail(self) -> None:
        state = probe_fails(self.HALF_OPEN, Effect.COUNT, self.HALF_OPEN_AT)
        assert standing(state, "1f", self.HALF_OPEN_AT) == Barred("open (connection)", 60)

    def test_what_it_was_is_shown(self) -> None:
        assert breaker_state(self.HALF_OPEN, NOW) is BreakerState.OPEN
        assert breaker_state(self.HALF_OPEN, self.HALF_OPEN_AT) is BreakerState.HALF_OPEN


class TestCredentials:
    REFUSED = fault(CLOSED, Effect.CREDENTIALS, credentials="old")

    def test_a_worker_with_others_may_find_out_at_once(self) -> None:
        assert standing(self.REFUSED, "old", NOW) == Barred("open (credentials)", 300)
        assert standing(self.REFUSED, "new", NOW) == Probe()
        assert standing(self.REFUSED, None, NOW) == Probe()

    def test_no_credentials_at_all_can_be_the_wrong_ones(self) -> None:
        state = fault(CLOSED, Effect.CREDENTIALS, credentials=None)
        assert standing(state, None, NOW) == Barred("open (credentials)", 300)
        assert standing(state, "new", NOW) == Probe()

    def test_where_others_work_only_those_with_the_refused_ones_wait(self) -> None:
        state = after_success(with_probe(self.REFUSED, "b", NOW), "new", NOW + SECOND)
        assert standing(state, "new", NOW + SECOND) == Usable()
        assert standing(state, "old", NOW + SECOND) == Barred("open (credentials)", 299)
        late = NOW + 5 * MINUTE
        state = probe_fails(state, Effect.CREDENTIALS, late, credentials="old")
        assert standing(state, "new", late) == Usable()
        assert standing(state, "old", late) == Barred("open (credentials)", 300)

    def test_two_wrong_passwords_are_each_tried_once_in_five_minutes(self) -> None:
        """Else they would lock the account, each at once after the other."""
        state, tries = self.REFUSED, [("old", NOW)]
        for now in range(NOW, NOW + 30 * MINUTE, SECOND):
            for credentials in ("new", "old"):
                if standing(state, credentials, now) == Probe():
                    state = probe_fails(state, Effect.CREDENTIALS, now, credentials=credentials)
                    tries.append((credentials, now))
        for credentials in ("new", "old"):
            times = [at for tried, at in tries if tried == credentials]
            assert all(later - at >= 5 * MINUTE for at, later in pairwise(times))
            assert len(times) >= 6

    def test_refusals_that_come_late_make_nobody_wait_longer(self) -> None:
        state = fault(self.REFUSED, Effect.CREDENTIALS, NOW + MINUTE, owner="b", credentials="old")
        assert standing(state, "old", NOW + 5 * MINUTE) == Probe()

    def test_where_others_work_a_probe_that_finds_no_connection_leaves_the_next_one_to_try(self) -> None:
        late = NOW + 5 * MINUTE
        works = after_success(with_probe(self.REFUSED, "b", NOW), "new", NOW + SECOND)
        state = probe_fails(works, Effect.COUNT, late, credentials="old")
        assert (standing(state, "new", late), standing(state, "old", late)) == (Usable(), Probe())

    def test_credentials_that_nobody_has_any_more_are_forgotten(self) -> None:
        works = after_success(self.REFUSED, "new", NOW + SECOND)
        state = fault(works, Effect.CREDENTIALS, NOW + 2 * HOUR, credentials="third")
        assert set(state.refused) == {"third"}

    def test_mail_on_a_connection_that_was_logged_in_before_closes_nothing(self) -> None:
        assert after_success(self.REFUSED, "old", NOW + SECOND) is self.REFUSED

    def test_a_quota_is_not_refilled_by_mail_that_was_under_way(self) -> None:
        state = fault(CLOSED, Effect.QUOTA)
        assert after_success(state, "1f", NOW + SECOND) is state
        assert after_success(state, "1f", NOW + HOUR).opened_at is None


class TestPause:
    @pytest.mark.parametrize("state", [CLOSED, fault(CLOSED, Effect.QUOTA)])
    def test_a_paused_relay_is_not_used_and_nobody_knows_until_when(self, state: RelayState) -> None:
        assert standing(paused(state, NOW), "1f", NOW + 24 * HOUR) == Barred("paused", None)

    def test_pause_and_resume_leave_the_breaker_and_the_pace_alone(self) -> None:
        state = fault(fault(CLOSED, Effect.OPEN), Effect.NONE, pace=Pace.HALVE)
        assert resumed(paused(state, NOW)) == state

    def test_a_second_pause_is_not_a_later_one(self) -> None:
        assert paused(paused(CLOSED, NOW), NOW + 1).paused_at == NOW


class TestPace:
    def test_many_who_hear_of_the_same_throttle_halve_it_once(self) -> None:
        state = CLOSED
        for late in range(0, 5 * SECOND, 100):
            state = fault(state, Effect.NONE, NOW + late, pace=Pace.HALVE)
        assert state.pace == 0.5
        assert fault(state, Effect.NONE, NOW + 5 * SECOND, pace=Pace.HALVE).pace == 0.25

    def test_it_never_comes_to_nothing(self) -> None:
        state = CLOSED
        for n in range(100):
            state = fault(state, Effect.NONE, NOW + n * MINUTE, pace=Pace.HALVE)
        assert state.pace == SLOWEST

    def test_it_doubles_with_mails_each_quarter_of_a_minute_until_it_is_whole(self) -> None:
        state = replace(CLOSED, pace=0.25, paced_at=NOW)
        assert after_mails(state, 1000, NOW + DOUBLED_EVERY_MS - 1) is state
        assert after_mails(state, 0, NOW + HOUR) is state
        state = after_mails(state, 1, NOW + DOUBLED_EVERY_MS)
        assert state.pace == 0.5
        assert after_mails(after_mails(state, 5, NOW + 2 * DOUBLED_EVERY_MS), 5, NOW + 3 * DOUBLED_EVERY_MS) == CLOSED

    def test_a_relay_may_ask_to_go_slower_and_open_in_one(self) -> None:
        state = after_fault(
            CLOSED, Effect.COUNT, Pace.HALVE, TROUBLE, threshold=1, credentials=None, owner="a", now=NOW
        )
        assert (state.pace, state.opened_by) == (0.5, OpenedBy.CONNECTION)


@dataclass(frozen=True)
class Step:
    """What one of several workers does, so many milliseconds after the step before."""

    after_ms: int
    owner: str
    act: Callable[[RelayState, str, str, int], RelayState]


def _faults(effect: Effect, pace: Pace) -> Callable[[RelayState, str, str, int], RelayState]:
    def act(state: RelayState, owner: str, credentials: str, now: int) -> RelayState:
        return fault(state, effect, now, pace=pace, owner=owner, credentials=credentials)

    return act


def _succeeds(state: RelayState, owner: str, credentials: str, now: int) -> RelayState:
    return after_mails(after_success(state, credentials, now), 1, now)


def _probes(state: RelayState, owner: str, credentials: str, now: int) -> RelayState:
    return with_probe(state, owner, now) if standing(state, credentials, now) == Probe() else state


def _pauses(state: RelayState, owner: str, credentials: str, now: int) -> RelayState:
    return resumed(state) if state.paused_at else paused(state, now)


WORKERS = {"a": "old", "b": "old", "c": "new"}
ACTS = st.builds(_faults, st.sampled_from(Effect), st.sampled_from(Pace)) | st.sampled_from(
    [_succeeds, _probes, _probes, _pauses]
)
STEPS = st.lists(
    st.builds(
        Step, st.sampled_from([0, 1, SECOND, 30 * SECOND, 6 * MINUTE, HOUR]), st.sampled_from(list(WORKERS)), ACTS
    ),
    max_size=40,
)


def lived(steps: list[Step]) -> list[tuple[RelayState, int]]:
    """Each state and when it came about."""
    state, now, life = CLOSED, NOW, []
    for step in steps:
        now += step.after_ms
        state = step.act(state, step.owner, WORKERS[step.owner], now)
        life.append((state, now))
    return life


@given(STEPS)
def test_it_is_never_open_without_end(steps: list[Step]) -> None:
    for state, now in lived(steps):
        if state.paused_at is None:
            for credentials in WORKERS.values():
                assert standing(state, credentials, now + HOUR) in {Usable(), Probe()}
                found = standing(state, credentials, now)
                assert not isinstance(found, Barred) or 0 < (found.wait_s or 0) <= HOUR / 1000


@given(STEPS)
def test_the_pace_is_always_a_share(steps: list[Step]) -> None:
    assert all(SLOWEST <= state.pace <= 1 for state, _ in lived(steps))


@given(STEPS)
def test_one_at_a_time_finds_out(steps: list[Step]) -> None:
    for (before, _), (state, now) in pairwise([(CLOSED, NOW), *lived(steps)]):
        if before.probe is not None and now < (before.probe_until or 0):
            assert state.probe in {before.probe, None}
            assert state.probe is None or state.probe_until == before.probe_until


@given(STEPS)
def test_a_success_closes_it_once_its_time_is_over(steps: list[Step]) -> None:
    for state, now in lived(steps):
        later = now + HOUR
        closed = after_success(state, "old", later)
        assert breaker_state(closed, later) is BreakerState.CLOSED
        assert (closed.failures, closed.logins, closed.openings, closed.probe) == (0, 0, 0, None)
        assert standing(resumed(closed), "old", later) == Usable()


@given(STEPS)
def test_a_success_closes_at_once_what_connections_opened(steps: list[Step]) -> None:
    for state, now in lived(steps):
        if state.opened_by in {OpenedBy.CONNECTION, OpenedBy.REFUSED, OpenedBy.CERTIFICATE}:
            assert after_success(state, "never refused", now).opened_at is None


@given(STEPS)
def test_a_paused_relay_is_used_by_nobody(steps: list[Step]) -> None:
    for state, now in lived(steps):
        if state.paused_at is not None:
            assert {standing(state, credentials, now) for credentials in WORKERS.values()} == {Barred("paused", None)}
