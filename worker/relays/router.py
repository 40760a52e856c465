"""Several relays, in order: who may send through which, which of them are usable now, and when the next one is asked.

The trap: after a final dot whose answer was lost, or at which the mail was taken for anybody, no other relay is asked.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import structlog

from mailer.addresses import Address
from mailer.jobs import Phase, RecipientStatus, Reply
from mailer.relays import Trouble
from worker.relays.answers import Answer, Kind
from worker.relays.board import RelayBoard, TooBusy
from worker.relays.breaker import Barred, Probe, Usable
from worker.relays.effects import Effect
from worker.relays.gate import Busy
from worker.relays.pool import Pool, Try
from worker.relays.relay import Relay
from worker.relays.replies import Fate, Rule, Wait, decide, queue_id_of
from worker.relays.timeouts import SLOT_PATIENCE_S
from worker.relays.transaction import Envelope

log = structlog.get_logger()

OVERSLEPT_S = 0.1
"""What mailer.relays.SPARE makes up for in two seconds."""
MOST_SLOTS = 3
"""Of one mail. A machine that is always late must not use the rate up for nothing."""
LOOK_AGAIN_S = 10.0
"""For a relay that is paused, or a sender that none is for: somebody has to do something, and nobody knows when."""


@dataclass(frozen=True, slots=True)
class Result:
    """For one recipient. `status` None: nothing was decided, all is as it was."""

    status: RecipientStatus | None
    reply: Reply | None
    wait: Wait = Wait.BACKOFF


@dataclass(frozen=True, slots=True)
class Tried:
    """One relay, or the sources before it: what an attempt's record tells of it."""

    phase: Phase
    reply: Reply
    relay: str | None = None
    queue_id: str | None = None
    timings: Mapping[str, int] = field(default_factory=dict)
    conversation: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Routed:
    """The relays that were tried, the deciding one last. `in_doubt`: its answer to the final dot was lost.
    `greylisted_at`: the one that somebody has to come back to."""

    tries: tuple[Tried, ...]
    results: Mapping[str, Result]
    in_doubt: bool = False
    greylisted_at: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """No relay could be asked: no attempt was made. `wait_s`: until it may be otherwise."""

    detail: str
    wait_s: float


class Journal(Protocol):
    """Kept by whoever has a mail sent."""

    async def write(self, relay: str, results: Mapping[str, Result]) -> None:
        """Before a final dot, with what is known for each recipient by then. It raises where no dot may be written."""

    def refused(self) -> None:
        """The relay did not take the mail, at that dot or before it; another relay is asked."""


class Router:
    """`pools` in order of preference. `close` when done."""

    def __init__(self, pools: Sequence[Pool], board: RelayBoard) -> None:
        self._pools = tuple(pools)
        self._board = board

    async def close(self) -> None:
        for pool in self._pools:
            await pool.close()

    def obstacle(self, stays_at: str | None = None, author: Address | None = None) -> Waiting | None:
        """What keeps every relay from being asked now, as far as is known without asking."""
        found = []
        for pool in self._allowed(stays_at, author):
            standing = self._board.standing(pool.relay.name)
            if not isinstance(standing, Barred):
                return None
            found.append(_waiting(pool, standing))
        return _soonest(found) if found else _nobody_for(author)

    async def send(
        self,
        envelope: Envelope,
        author: Address,
        journal: Journal,
        *,
        critical: bool = False,
        stays_at: str | None = None,
    ) -> Routed | Waiting:
        """Hand over one mail. `author`: its From, which not every relay may send for. `stays_at`: the one relay that
        may have it. Raises what `journal` raises, and QueueUnavailable."""
        allowed = self._allowed(stays_at, author)
        if not allowed:
            return _nobody_for(author)
        attempt = _Attempt(envelope, journal, len(allowed))
        for pool in allowed:
            if (obstacle := await self._obstacle(pool)) is not None:
                attempt.obstacles.append(obstacle)
                continue
            try:
                found = await self._try(pool, attempt, critical=critical)
            except Busy as busy:
                attempt.obstacles.append(Waiting(f"{pool.relay.name}: {busy}", busy.wait_s))
                if busy.elsewhere:
                    continue
                break
            if not attempt.goes_on(pool.relay.name, found):
                break
        return attempt.end()

    def _allowed(self, stays_at: str | None, author: Address | None) -> Sequence[Pool]:
        """A relay that is set up no more binds nobody."""
        bound = [pool for pool in self._pools if pool.relay.name == stays_at] or self._pools
        return [pool for pool in bound if author is None or pool.relay.allows(author)]

    async def _obstacle(self, pool: Pool) -> Waiting | None:
        name = pool.relay.name
        standing = self._board.standing(name)
        if isinstance(standing, Probe) and not await self._board.may_probe(name):
            standing = self._board.standing(name)
        return _waiting(pool, standing) if isinstance(standing, Barred) else None

    async def _try(self, pool: Pool, attempt: "_Attempt", *, critical: bool) -> Try:
        relay, was_usable = pool.relay, isinstance(self._board.standing(pool.relay.name), Usable)
        try:
            found = await pool.send(
                attempt.envelope,
                lambda replies: attempt.journal(relay.name, replies),
                critical=critical,
                let_in=partial(self._raise_if_barred, pool) if was_usable else None,
                before_mail=None if relay.rate is None else lambda: self._slot(relay),
            )
        except BaseException:
            if not was_usable:
                self._board.undecided(relay.name)
            raise
        await self._tell(relay.name, found)
        return found

    def _raise_if_barred(self, pool: Pool) -> None:
        """For a mail that has waited for a connection: by now the relay may be known to be in trouble. Raises Busy."""
        standing = self._board.standing(pool.relay.name)
        if isinstance(standing, Barred):
            raise Busy(standing.reason, _waiting(pool, standing).wait_s, elsewhere=True)

    async def _slot(self, relay: Relay) -> None:
        """Until the relay's rate lets a mail pass. A process that stood still meanwhile has overslept its slots: its
        mails would all go at once, beside those of the others. Raises Busy."""
        for _ in range(MOST_SLOTS):
            wait_s = await self._board.slot(relay, SLOT_PATIENCE_S)
            if isinstance(wait_s, TooBusy):
                raise Busy("its rate is used up", wait_s.wait_s)
            due_at = time.monotonic() + wait_s
            await asyncio.sleep(wait_s)
            if time.monotonic() - due_at < OVERSLEPT_S:
                return

    async def _tell(self, name: str, found: Try) -> None:
        """What the relay did, to all who share it."""
        if found.shared:
            return
        faults = {rule.row: (rule, answer) for rule, answer in _faults(found)}
        for rule, answer in faults.values():
            trouble = Trouble(0, rule.row, answer.phase, answer.reply)
            if rule.then.alert:
                self._board.alert(name, trouble)
            await self._board.faulted(name, rule.then.effect, rule.then.pace, trouble)
        if not any(rule.then.effect is not Effect.NONE for rule, _ in faults.values()):
            self._board.succeeded(name)


@dataclass(slots=True)
class _Attempt:
    """One attempt, from relay to relay. `envelope` has those who are still to be asked for. `_may_take`: those whom a
    relay would not have now, and may have later."""

    envelope: Envelope
    _journal: Journal
    _relays: int
    results: dict[str, Result] = field(default_factory=dict)
    tries: list[Tried] = field(default_factory=list)
    obstacles: list[Waiting] = field(default_factory=list)
    in_doubt: bool = False
    _could_go_on: tuple[str, ...] = ()
    _may_take: set[str] = field(default_factory=set)
    _greylisted_at: str | None = None
    _is_journaled: bool = False

    async def journal(self, relay: str, replies: Mapping[str, Reply]) -> None:
        """Those whom this relay took wait for its answer to the dot; the others have theirs."""
        known = {email: _result(Answer(Phase.RCPT, Kind.REPLY, reply)) for email, reply in replies.items()}
        await self._journal.write(relay, {**self.results, **known})
        self._is_journaled = True

    def goes_on(self, relay: str, found: Try) -> bool:
        """Take note of what a relay said. Whether the next one is to be asked, for those to whom it may make a
        difference."""
        verdicts = found.verdicts
        said = verdicts.decisive
        queue_id = queue_id_of(verdicts.accepted.reply) if verdicts.accepted is not None else None
        self.tries.append(Tried(said.phase, said.reply, relay, queue_id, found.timings, found.conversation))
        self.results |= {email: _result(answer) for email, answer in verdicts.answers.items()}
        refused = {email: decide(answer) for email, answer in verdicts.answers.items() if not answer.is_accepted}
        self.in_doubt = any(rule.then.fate is Fate.UNKNOWN for rule in refused.values())
        self._could_go_on = tuple(email for email, rule in refused.items() if rule.then.elsewhere)
        self._may_take |= {email for email in self._could_go_on if refused[email].then.fate is Fate.DEFER}
        if any(rule.then.wait is Wait.GREYLIST for rule in refused.values()):
            self._greylisted_at = self._greylisted_at or relay
        if not self._could_go_on or self.in_doubt or verdicts.accepted is not None:
            return False
        recipients = tuple(item for item in self.envelope.recipients if item.email in self._could_go_on)
        self.envelope = replace(self.envelope, recipients=recipients)
        if self._is_journaled:
            self._journal.refused()
            self._is_journaled = False
        return True

    def end(self) -> Routed | Waiting:
        """A relay that was not asked this time, or was in trouble, may still take what another one will not."""
        if not self.tries:
            return _soonest(self.obstacles)
        for email in () if self.in_doubt else self._could_go_on:
            is_open = len(self.tries) < self._relays or email in self._may_take
            if is_open and self.results[email].status is RecipientStatus.FAILED:
                self.results[email] = replace(self.results[email], status=RecipientStatus.DEFERRED)
        return Routed(tuple(self.tries), self.results, self.in_doubt, self._greylisted_at)


def _nobody_for(author: Address | None) -> Waiting:
    sender = author.email if author is not None else "anybody"
    log.error("relay.none_for_sender", sender=sender)
    return Waiting(f"No relay is set up to send for {sender}.", LOOK_AGAIN_S)


def _waiting(pool: Pool, barred: Barred) -> Waiting:
    wait_s = LOOK_AGAIN_S if barred.wait_s is None else barred.wait_s
    return Waiting(f"{pool.relay.name}: {barred.reason}", wait_s)


def _faults(found: Try) -> list[tuple[Rule, Answer]]:
    return [(decide(answer), answer) for answer in found.verdicts.answers.values() if not answer.is_accepted]


def _result(answer: Answer) -> Result:
    """Before the relay talks of mail, or where it says nothing, nothing is decided for a recipient."""
    if answer.is_accepted:
        return Result(RecipientStatus.SENT, answer.reply)
    if answer.is_positive:
        return Result(RecipientStatus.PENDING, answer.reply)
    then = decide(answer).then
    if then.fate is Fate.FAIL:
        return Result(RecipientStatus.FAILED, answer.reply, then.wait)
    decided = answer.kind is Kind.REPLY and answer.phase in {Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DOT}
    if then.fate is Fate.DEFER and decided:
        return Result(RecipientStatus.DEFERRED, answer.reply, then.wait)
    return Result(None, None, then.wait)


def _soonest(waits: Sequence[Waiting]) -> Waiting:
    return Waiting("; ".join(wait.detail for wait in waits), min(wait.wait_s for wait in waits))
