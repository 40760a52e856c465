"""A worker's view of its relays: what all workers share about them, looked at each second, and what it adds itself.

What it adds is in its own view as soon as its call returns, in that of the others within a second. The trap: between
two looks its view is old; whatever must not be done twice asks the queue server (the probe, the slots).
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from mailer.errors import QueueUnavailable
from mailer.relays import OpenedBy, RelayState, Trouble, spacing_us
from mailer.store.relays import RelayStore, Transition
from worker.relays import breaker
from worker.relays.breaker import Barred, Probe, Standing, Usable
from worker.relays.effects import Effect, Pace
from worker.relays.relay import Relay, describe

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
TELL_EVERY_S = 30.0
ALERT_EVERY_S = 60.0
_AT_REST = RelayState()


@dataclass(frozen=True, slots=True)
class TooBusy:
    """The relay's rate is used up for the next `wait_s` seconds."""

    wait_s: float


class RelayBoard(Protocol):
    """What a mail asks and tells about relays, by their names."""

    def standing(self, name: str) -> Standing: ...
    async def may_probe(self, name: str) -> bool: ...
    async def faulted(self, name: str, effect: Effect, pace: Pace, trouble: Trouble) -> None: ...
    def succeeded(self, name: str) -> None: ...
    def undecided(self, name: str) -> None: ...
    def pace(self, name: str) -> float: ...
    async def slot(self, relay: Relay, patience_s: float) -> float | TooBusy: ...
    def alert(self, name: str, trouble: Trouble, fix: str | None = None) -> None: ...


class Alerting:
    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._alerted: dict[tuple[str, str], float] = {}

    def alert(self, name: str, trouble: Trouble, fix: str | None = None) -> None:
        """An operator has to do something. Of the same kind, one a minute."""
        now, about = self._monotonic(), (name, trouble.row)
        if about not in self._alerted or now - self._alerted[about] >= ALERT_EVERY_S:
            self._alerted[about] = now
            said = {"code": trouble.reply.code, "detail": trouble.reply.text}
            log.error("relay.alert", relay=name, row=trouble.row, **said, **({"fix": fix} if fix else {}))


class Board(Alerting):
    """Shared by all workers. `owner` names this one. `run` keeps it up to date; before the first look every relay is
    usable."""

    def __init__(
        self,
        store: RelayStore,
        relays: Sequence[Relay],
        owner: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(monotonic)
        self._store = store
        self._descriptions = [describe(relay, order) for order, relay in enumerate(relays)]
        self._marks = {relay.name: relay.credentials_mark() for relay in relays}
        self._thresholds = {relay.name: breaker.threshold_of(relay.connections) for relay in relays}
        self._owner = owner
        self._states: dict[str, RelayState] = {}
        self._clock = (0, 0.0)
        self._changes: Counter[str] = Counter()
        self._mails: Counter[str] = Counter()
        """Handed over since that was last told."""
        self._asking: set[str] = set()
        self._undecided: set[str] = set()
        """Probes that came to nothing."""
        self._hurry = asyncio.Event()
        self._look_at = self._tell_at = monotonic()

    async def run(self) -> None:
        """Never returns. While the queue server is away, the view stays as it was."""
        while True:
            with contextlib.suppress(QueueUnavailable):
                await self._turn()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._look_at - self._monotonic())):
                    await self._hurry.wait()
            self._hurry.clear()

    def standing(self, name: str) -> Standing:
        state = self._state(name)
        if breaker.is_untroubled(state):
            return breaker.USABLE
        return breaker.standing(state, self._marks[name], self._now())

    async def may_probe(self, name: str) -> bool:
        """Takes the probe; False where somebody else has it by now, or is asking. True too where none is needed any
        more."""
        if name in self._asking:
            return False  # the probe is the worker's: what one of its mails gives back must not be another's
        self._asking.add(name)
        may = False

        def take(state: RelayState, now: int) -> RelayState:
            nonlocal may
            found = breaker.standing(state, self._marks[name], now)
            may = not isinstance(found, Barred)
            return breaker.with_probe(state, self._owner, now) if isinstance(found, Probe) else state

        try:
            await self._change(name, take)
        except QueueUnavailable:
            self.undecided(name)  # the server may have given it before its answer was lost
            return False
        except asyncio.CancelledError:
            self.undecided(name)
            raise
        finally:
            self._asking.discard(name)
        return may

    async def faulted(self, name: str, effect: Effect, pace: Pace, trouble: Trouble) -> None:
        """Forgotten where the queue server is away."""
        if effect is Effect.NONE and pace is Pace.KEEP:
            return
        mails, openings = self._mails.pop(name, 0), 0

        def fault(state: RelayState, now: int) -> RelayState:
            nonlocal openings
            openings = state.openings
            if state.opened_at is None and mails:
                state = self._after_mails(name, mails, state, now)  # or failures with mails between them would add up
            return breaker.after_fault(
                state,
                effect,
                pace,
                trouble,
                threshold=self._thresholds[name],
                credentials=self._marks[name],
                owner=self._owner,
                now=now,
            )

        try:
            state = await self._change(name, fault)
        except QueueUnavailable as error:
            log.warning("relay.fault_not_told", relay=name, row=trouble.row, detail=str(error))
            return
        if effect is Effect.COUNT_LOGIN and state.opened_by is OpenedBy.CREDENTIALS and state.openings > openings:
            self.alert(name, trouble)  # one line that is cut is no refused password, several are

    def succeeded(self, name: str) -> None:
        """The relay has taken a mail, or refused it as a relay does that is well."""
        self._mails[name] += 1
        if breaker.awaits_success(self._state(name), self._marks[name]):
            self._hurry.set()

    def undecided(self, name: str) -> None:
        """The mail that took the probe came to no answer: another one may find out."""
        self._undecided.add(name)
        self._hurry.set()

    def pace(self, name: str) -> float:
        """The share of rate and connections to use: above 0, at most 1."""
        return self._state(name).pace

    async def slot(self, relay: Relay, patience_s: float) -> float | TooBusy:
        """Seconds to wait before the next mail, `patience_s` at the most. To be asked when nothing else is waited for,
        for a slot is for its moment. Critical mail is never kept out where it has more patience than other mail. Raises
        QueueUnavailable."""
        if relay.rate is None:
            return 0.0
        interval_us = spacing_us(relay.rate * self.pace(relay.name))
        verdict = await self._store.slot(relay.name, interval_us, int(patience_s * 1000))
        wait_s = verdict.wait_us / 1_000_000
        return wait_s if verdict.is_reserved else TooBusy(wait_s)

    async def _turn(self) -> None:
        now = self._monotonic()
        looks = now >= self._look_at
        if looks:
            self._look_at = now + LOOK_EVERY_S
        await self._tell_mails()
        for name in list(self._undecided):
            await self._change(name, lambda state, _: breaker.without_probe(state, self._owner))
            self._undecided.discard(name)
        if looks:
            await self.look()
        if now >= self._tell_at:
            await self._store.tell(self._descriptions)
            self._tell_at = now + TELL_EVERY_S

    async def look(self) -> None:
        """How all relays stand, in one round trip. Raises QueueUnavailable."""
        before = Counter(self._changes)
        states, now = await self._store.states(list(self._marks))
        self._clock = (now, self._monotonic())
        for name, state in states.items():
            if self._changes[name] == before[name]:  # else one of ours was made meanwhile, which may be newer
                self._see(name, state)

    async def _tell_mails(self) -> None:
        for name in list(self._mails):
            mails, known = self._mails.pop(name, 0), self._state(name)
            if not mails:  # a fault that came while another relay's were told has told them
                continue
            if self._after_mails(name, mails, known, self._now()) == known:
                continue
            try:
                await self._change(name, partial(self._after_mails, name, mails))
            except QueueUnavailable:
                self._mails[name] += mails
                raise

    def _after_mails(self, name: str, mails: int, state: RelayState, now: int) -> RelayState:
        return breaker.after_mails(breaker.after_success(state, self._marks[name], now), mails, now)

    async def _change(self, name: str, transition: Transition) -> RelayState:
        state = await self._store.change(name, transition)
        self._changes[name] += 1
        self._see(name, state)
        return state

    def _see(self, name: str, state: RelayState) -> None:
        before = self._state(name)
        self._states[name] = state
        if state.opened_at is None and before.opened_at is not None:
            log.info("relay.closed", relay=name)
        elif state.openings > before.openings:
            log.warning("relay.opened", relay=name, by=state.opened_by, openings=state.openings)
        if (state.paused_at is None) != (before.paused_at is None):
            log.info("relay.resumed" if state.paused_at is None else "relay.paused", relay=name)

    def _state(self, name: str) -> RelayState:
        return self._states.get(name, _AT_REST)

    def _now(self) -> int:
        """The queue server's time (ms), as far as it is known."""
        seen, at = self._clock
        return seen + int((self._monotonic() - at) * 1000)


class Unshared(Alerting):
    """For one mail without a queue server: nothing is known of any relay, and nothing is kept."""

    def standing(self, name: str) -> Standing:  # noqa: ARG002 - as RelayBoard has it
        return Usable()

    async def may_probe(self, name: str) -> bool:  # noqa: ARG002 - as above
        return True

    async def faulted(self, name: str, effect: Effect, pace: Pace, trouble: Trouble) -> None:
        pass

    def succeeded(self, name: str) -> None:
        pass

    def undecided(self, name: str) -> None:
        pass

    def pace(self, name: str) -> float:  # noqa: ARG002 - as above
        return 1.0

    async def slot(self, relay: Relay, patience_s: float) -> float | TooBusy:  # noqa: ARG002 - as above
        return 0.0
