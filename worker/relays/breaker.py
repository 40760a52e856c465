"""When a relay is asked, and how fast: the breaker and the pace, moved by what mails came to. Pure.

Times are milliseconds by the queue server's clock. The trap: most of what is reported while it is open comes from mails
that were already under way when it opened, and says nothing new.
"""

from dataclasses import dataclass, replace

from mailer.relays import LONGEST_OPEN_MS, OpenedBy, RelayState, Trouble, is_ahead, is_open
from worker.relays.effects import Effect, Pace

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
FEWEST_FAILURES = 3
FAILING_MS = 30 * SECOND
"""After so long the fewest are enough: a relay that hangs fails seldom, and one with little mail too."""
LOGINS_CUT = 3
"""Some relays cut the line where others say 535."""
PROBE_MS = 90 * SECOND
"""Longer than a connection may take to open. One that died is then no longer waited for."""
LOOK_AGAIN_MS = 2 * SECOND
"""A probe that is under way is decided soon."""
CREDENTIALS_MS = 5 * MINUTE
FORGOTTEN_MS = HOUR
"""After that, nobody seems to have such credentials any more."""
SLOWEST = 1 / 64
HALVED_EVERY_MS = 5 * SECOND
"""Many mails under way hear of the same throttle."""
DOUBLED_EVERY_MS = 15 * SECOND
"""Slower than it is halved where a relay has too much of us, faster than chance throttles of single mails come."""

_FIRST_OPEN_MS = {
    OpenedBy.CONNECTION: 30 * SECOND,
    OpenedBy.REFUSED: 30 * SECOND,
    OpenedBy.CERTIFICATE: 30 * SECOND,
    OpenedBy.CREDENTIALS: CREDENTIALS_MS,
    OpenedBy.QUOTA: HOUR,
}
"""Each opening that follows a failed probe is twice as long, up to LONGEST_OPEN_MS."""
_AT_ONCE = {
    Effect.OPEN: OpenedBy.REFUSED,
    Effect.CERTIFICATE: OpenedBy.CERTIFICATE,
    Effect.QUOTA: OpenedBy.QUOTA,
}


@dataclass(frozen=True, slots=True)
class Usable:
    pass


@dataclass(frozen=True, slots=True)
class Probe:
    """Nobody knows. One mail may find out, of whoever is first to take the probe."""


@dataclass(frozen=True, slots=True)
class Barred:
    """`wait_s`: until it may be otherwise, or be found out; None while paused, for nobody knows."""

    reason: str
    wait_s: float | None


Standing = Usable | Probe | Barred
USABLE = Usable()


def is_untroubled(state: RelayState) -> bool:
    """Usable, whoever asks and whenever."""
    return state.paused_at is None and state.open_until is None and not state.refused


def threshold_of(connections: int) -> int:
    """Connections that fail one after another before it opens."""
    return max(FEWEST_FAILURES, connections // 2)


def standing(state: RelayState, credentials: str | None, now: int) -> Standing:
    """For a worker whose credentials have this fingerprint. Those who have others than were refused may find out at
    once whether theirs are better."""
    if state.paused_at is not None:
        return Barred("paused", None)
    refused_until = state.refused.get(_mark(credentials))
    if state.open_until is None and refused_until is None:
        return USABLE
    by, until = state.opened_by or OpenedBy.CREDENTIALS, now
    if is_ahead(refused_until, CREDENTIALS_MS, now):
        until = max(until, refused_until or 0)
    if by is not OpenedBy.CREDENTIALS and is_open(state, now):
        until = max(until, state.open_until or 0)
    if now < until:
        return _barred(by, until, now)
    if state.probe is not None and is_ahead(state.probe_until, PROBE_MS, now):
        return _barred(by, min(state.probe_until or 0, now + LOOK_AGAIN_MS), now)
    return Probe()


def with_probe(state: RelayState, owner: str, now: int) -> RelayState:
    """`owner` finds out. Only where the relay's standing is Probe."""
    return replace(state, probe=owner, probe_until=now + PROBE_MS)


def without_probe(state: RelayState, owner: str) -> RelayState:
    """Nothing was found out: the next one may."""
    return replace(state, probe=None, probe_until=None) if state.probe == owner else state


def after_fault(
    state: RelayState,
    effect: Effect,
    pace: Pace,
    trouble: Trouble,
    *,
    threshold: int,
    credentials: str | None,
    owner: str,
    now: int,
) -> RelayState:
    """`owner`, whose credentials have this fingerprint, met with a fault. Unchanged where that is no news."""
    changed = _broken(_slowed(state, pace, now), effect, threshold, _mark(credentials), owner, now)
    return state if changed == state else replace(changed, trouble=replace(trouble, at=now))


def after_success(state: RelayState, credentials: str | None, now: int) -> RelayState:
    """Closes it. Not where a mail went through that was under way when the quota was used up or the password was
    refused: that says nothing of the next one."""
    mark = _mark(credentials)
    if _is_refused(state, mark, now) or (state.opened_by is OpenedBy.QUOTA and is_open(state, now)):
        return state
    refused = {each: until for each, until in state.refused.items() if each != mark}
    return RelayState(
        paused_at=state.paused_at, refused=refused, pace=state.pace, paced_at=state.paced_at, trouble=state.trouble
    )


def awaits_success(state: RelayState, credentials: str | None) -> bool:
    """Whether a success may change the standing of those who have these credentials."""
    return state.opened_at is not None or _mark(credentials) in state.refused


def after_mails(state: RelayState, mails: int, now: int) -> RelayState:
    """So many went through: the pace grows back, by steps."""
    if mails < 1 or state.pace >= 1 or _was_paced(state, DOUBLED_EVERY_MS, now):
        return state
    doubled = 2 * state.pace
    return replace(state, pace=doubled, paced_at=now) if doubled < 1 else replace(state, pace=1.0, paced_at=None)


def _slowed(state: RelayState, pace: Pace, now: int) -> RelayState:
    if pace is Pace.KEEP or _was_paced(state, HALVED_EVERY_MS, now):
        return state
    return replace(state, pace=max(SLOWEST, state.pace / 2), paced_at=now)


def _broken(state: RelayState, effect: Effect, threshold: int, mark: str, owner: str, now: int) -> RelayState:
    if effect is Effect.NONE:
        return state
    is_closed, probes = state.opened_at is None, state.probe == owner
    is_news = is_closed or probes
    if probes:
        state = replace(state, probe=None, probe_until=None)
    cut = effect is Effect.COUNT_LOGIN
    if effect is Effect.CREDENTIALS or (cut and is_news and state.logins + 1 >= LOGINS_CUT):
        return _refused(state, mark, now, opens=is_news)
    if not is_news:
        return state
    if effect in _AT_ONCE:
        return _opened(state, _AT_ONCE[effect], now)
    since = min(now, state.failing_since or now)
    counted = replace(state, failures=state.failures + 1, failing_since=since, logins=state.logins + cut)
    is_slow = counted.failures >= FEWEST_FAILURES and now - since >= FAILING_MS
    opens = not is_closed or counted.failures >= threshold or is_slow
    return _opened(counted, OpenedBy.CONNECTION, now) if opens else counted


def _refused(state: RelayState, mark: str, now: int, *, opens: bool) -> RelayState:
    """Those who have the same credentials wait. Where it is closed although it refused them before, it takes others."""
    takes_others = state.opened_at is None and mark in state.refused
    if not _is_refused(state, mark, now):
        kept = {each: until for each, until in state.refused.items() if now < until + FORGOTTEN_MS}
        state = replace(state, refused={**kept, mark: now + CREDENTIALS_MS})
    return _opened(state, OpenedBy.CREDENTIALS, now) if opens and not takes_others else state


def _opened(state: RelayState, by: OpenedBy, now: int) -> RelayState:
    return replace(
        state,
        opened_at=now if state.opened_at is None else state.opened_at,
        open_until=now + min(LONGEST_OPEN_MS[by], _FIRST_OPEN_MS[by] * 2 ** min(state.openings, 10)),
        opened_by=by,
        openings=state.openings + 1,
        probe=None,
        probe_until=None,
    )


def _is_refused(state: RelayState, mark: str, now: int) -> bool:
    return is_ahead(state.refused.get(mark), CREDENTIALS_MS, now)


def _was_paced(state: RelayState, within_ms: int, now: int) -> bool:
    return state.paced_at is not None and is_ahead(state.paced_at + within_ms, within_ms, now)


def _barred(by: OpenedBy, until: int, now: int) -> Barred:
    return Barred(f"open ({by})", (until - now) / 1000)


def _mark(credentials: str | None) -> str:
    return credentials or ""
