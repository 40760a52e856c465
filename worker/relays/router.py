"""Several relays, in order: who may send through which, which of them are usable now, and what they did is told."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import structlog

from mailer.addresses import Address
from mailer.jobs import Reply
from mailer.relays import Trouble
from worker.relays.answers import Answer
from worker.relays.attempt import ANYWHERE, Attempt, Journal, Place, Routed, Waiting, soonest
from worker.relays.board import RelayBoard, TooBusy
from worker.relays.breaker import Barred, Probe, Usable
from worker.relays.effects import Effect
from worker.relays.gate import Busy
from worker.relays.pool import Pool, Try
from worker.relays.relay import Relay
from worker.relays.replies import Rule, decide
from worker.relays.texts import without_addresses
from worker.relays.timeouts import SLOT_PATIENCE_S
from worker.relays.transaction import Envelope

log = structlog.get_logger()

OVERSLEPT_S = 0.1
"""What mailer.relays.SPARE makes up for in two seconds."""
MOST_SLOTS = 3
"""Of one mail. A machine that is always late must not use the rate up for nothing."""
OTHERS_PATIENCE_S = 5.0
"""Of mail that is not critical, so that critical mail never waits behind more than this."""
TELL_EVERY_S = 60.0
SHORTEST_REST_S = 0.05
LOOK_EACH_S = 1.0
"""So soon mail that waits for its slot learns that its relay was paused or broke."""
FULL_S = 5.0
"""By then there are fewer connections, or one is free."""
ASK_AGAIN_S = 1.0
"""For a relay that somebody is about to find out about."""
LOOK_AGAIN_S = 10.0
"""For a relay that is paused: somebody has to do something, and nobody knows when."""
NOBODY_LOOK_AGAIN_S = 60.0
"""For a sender that no relay is for: it takes another setting."""


class Router:
    """`pools` in order of preference. `close` when done."""

    def __init__(self, pools: Sequence[Pool], board: RelayBoard) -> None:
        self._pools = tuple(pools)
        self._names = frozenset(pool.relay.name for pool in pools)
        self._board = board
        self._told_at = -TELL_EVERY_S

    async def close(self) -> None:
        for pool in self._pools:
            await pool.close()

    def obstacle(self, place: Place = ANYWHERE, author: Address | None = None) -> Waiting | None:
        """What keeps every relay from being asked now, as far as is known without asking."""
        found = []
        for pool in self._allowed(place, author):
            standing = self._board.standing(pool.relay.name)
            if not isinstance(standing, Barred):
                return None
            found.append(_waiting(pool, standing))
        return soonest(found) if found else self._nobody_for(author)

    async def send(
        self,
        envelope: Envelope,
        author: Address,
        journal: Journal,
        *,
        critical: bool = False,
        place: Place = ANYWHERE,
    ) -> Routed | Waiting:
        """Hand over one mail. `author`: its From, which not every relay may send for. Raises what `journal` raises, and
        QueueUnavailable."""
        allowed = self._allowed(place, author)
        if not allowed:
            return self._nobody_for(author)
        attempt = Attempt(envelope, journal, len(allowed), self._binding(place))
        for pool in allowed:
            if (part := attempt.envelope_for(pool.relay.name)) is None:
                continue
            if (obstacle := await self._obstacle(pool)) is not None:
                attempt.obstacles.append(obstacle)
                continue
            try:
                found = await self._try(pool, attempt, part, critical=critical)
            except Busy as busy:
                attempt.obstacles.append(Waiting(f"{pool.relay.name}: {busy}", busy.wait_s))
                if busy.elsewhere:
                    continue
                break
            if found.is_full:
                attempt.obstacles.append(Waiting(f"{pool.relay.name}: it wants no more connections", FULL_S))
            elif not await attempt.goes_on(pool.relay.name, found):
                break
        return attempt.end()

    def _nobody_for(self, author: Address | None) -> Waiting:
        sender = author.email if author is not None else "anybody"
        if time.monotonic() - self._told_at >= TELL_EVERY_S:
            self._told_at = time.monotonic()
            log.error("relay.none_for_sender", domain=sender.rpartition("@")[2])
        return Waiting(f"No relay is set up to send for {sender}.", NOBODY_LOOK_AGAIN_S)

    def _allowed(self, place: Place, author: Address | None) -> Sequence[Pool]:
        """In the order in which they are asked."""
        if place is ANYWHERE:
            return [pool for pool in self._pools if author is None or pool.relay.allows(author)]
        first = [pool for name in place.first for pool in self._pools if pool.relay.name == name]
        bound = self._binding(place)
        is_free = not place.all_bound or len(bound) < len(place.bound)
        others = [pool for pool in self._pools if pool not in first and (is_free or pool.relay.name in bound.values())]
        return [pool for pool in (*first, *others) if author is None or pool.relay.allows(author)]

    def _binding(self, place: Place) -> Mapping[str, str]:
        """A relay that is set up no more binds nobody."""
        return {email: name for email, name in place.bound.items() if name in self._names}

    async def _obstacle(self, pool: Pool) -> Waiting | None:
        name = pool.relay.name
        standing = self._board.standing(name)
        if isinstance(standing, Probe):
            if await self._board.may_probe(name):
                return None
            standing = self._board.standing(name)
        return None if isinstance(standing, Usable) else _waiting(pool, standing)

    async def _try(self, pool: Pool, attempt: Attempt, envelope: Envelope, *, critical: bool) -> Try:
        relay, was_usable = pool.relay, isinstance(self._board.standing(pool.relay.name), Usable)
        let_in = partial(self._raise_unless_usable if was_usable else self._raise_if_paused, pool)
        try:
            found = await pool.send(
                envelope,
                lambda replies: attempt.journal(relay.name, replies),
                critical=critical,
                let_in=let_in,
                before_mail=partial(self._before_mail, pool, let_in, critical=critical),
            )
            await self._tell(relay.name, found)
        except BaseException:
            if not was_usable:
                self._board.undecided(relay.name)
            raise
        return found

    def _raise_unless_usable(self, pool: Pool) -> None:
        """For a mail that has waited: by now the relay may be known to be in trouble. Raises Busy."""
        standing = self._board.standing(pool.relay.name)
        if not isinstance(standing, Usable):
            raise _busy(standing)

    def _raise_if_paused(self, pool: Pool) -> None:
        """For a mail that finds out, and for one that has its connection: that is news of its own. Raises Busy."""
        standing = self._board.standing(pool.relay.name)
        if isinstance(standing, Barred) and standing.wait_s is None:
            raise _busy(standing)

    async def _before_mail(self, pool: Pool, let_in: Callable[[], None], *, critical: bool) -> None:
        """On a connection that is ready. Raises Busy."""
        if pool.relay.rate is not None:
            await self._slot(pool.relay, let_in, critical=critical)
        self._raise_if_paused(pool)

    async def _slot(self, relay: Relay, let_in: Callable[[], None], *, critical: bool) -> None:
        """Until the relay's rate lets a mail pass. A process that stood still meanwhile has overslept its slots: its
        mails would all go at once, beside those of the others. Raises Busy."""
        patience_s, until = SLOT_PATIENCE_S if critical else OTHERS_PATIENCE_S, time.monotonic() + SLOT_PATIENCE_S
        taken = 0
        while taken < MOST_SLOTS:
            found = await self._board.slot(relay, patience_s)
            if isinstance(found, TooBusy):
                wait_s = max(SHORTEST_REST_S, found.wait_s - patience_s)
                if time.monotonic() + wait_s > until:
                    raise Busy("its rate is used up", found.wait_s)
                await _rest(wait_s, let_in)
                continue
            taken += 1
            if await _rest(found, let_in) < OVERSLEPT_S:
                return

    async def _tell(self, name: str, found: Try) -> None:
        """What the relay did, to all who share it."""
        if found.shared:
            return
        faults = {rule.row: (rule, answer) for rule, answer in _faults(found)}
        for rule, answer in faults.values():
            said = Reply(answer.reply.code, without_addresses(answer.reply.text), answer.reply.enhanced)
            trouble = Trouble(0, rule.row, answer.phase, said)
            if rule.then.alert:
                self._board.alert(name, trouble)
            await self._board.faulted(name, rule.then.effect, rule.then.pace, trouble)
        if not any(rule.then.effect is not Effect.NONE for rule, _ in faults.values()):
            self._board.succeeded(name)


async def _rest(seconds: float, let_in: Callable[[], None]) -> float:
    """How much too late it was over. Raises what `let_in` does, which is asked each second."""
    due_at = time.monotonic() + seconds
    while (left_s := due_at - time.monotonic()) > 0:
        await asyncio.sleep(min(left_s, LOOK_EACH_S))
        let_in()
    return time.monotonic() - due_at


def _waiting(pool: Pool, standing: Barred | Probe) -> Waiting:
    busy = _busy(standing)
    return Waiting(f"{pool.relay.name}: {busy}", busy.wait_s)


def _busy(standing: Barred | Probe) -> Busy:
    if isinstance(standing, Probe):
        return Busy("half open", ASK_AGAIN_S, elsewhere=True)
    return Busy(standing.reason, LOOK_AGAIN_S if standing.wait_s is None else standing.wait_s, elsewhere=True)


def _faults(found: Try) -> list[tuple[Rule, Answer]]:
    return [(decide(answer), answer) for answer in found.verdicts.answers.values() if not answer.is_accepted]
