"""One attempt, from relay to relay: what each said of whom, and whether the next one is asked.

The trap: after a final dot whose answer was lost, or at which the mail was taken for anybody, no other relay is asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mailer.jobs import Phase, RecipientStatus, Reply
from worker.relays.answers import Answer, Kind
from worker.relays.effects import SHUTS
from worker.relays.pool import Try
from worker.relays.replies import Fate, Wait, decide, queue_id_of
from worker.relays.transaction import Envelope


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
    row: str | None = None


@dataclass(frozen=True, slots=True)
class Routed:
    """The relays that were tried, the deciding one last. `in_doubt`: its answer to the final dot was lost.
    `greylisted_at`: the one that somebody has to come back to. `uncounted`: each was shut for all mail, or refused
    for good whoever is left, and only one that is shut or could not be asked may still take the mail."""

    tries: tuple[Tried, ...]
    results: Mapping[str, Result]
    in_doubt: bool = False
    greylisted_at: str | None = None
    uncounted: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """No relay could be asked: no attempt was made. `wait_s`: until it may be otherwise."""

    detail: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class Place:
    """`first`: relays that are asked before the others. `bound`: those who must not have the mail from any other than
    this one, which may have sent it already. `all_bound`: there is nobody else."""

    first: tuple[str, ...] = ()
    bound: Mapping[str, str] = field(default_factory=dict)
    all_bound: bool = False


ANYWHERE = Place()
_DECIDED = frozenset({RecipientStatus.SENT, RecipientStatus.FAILED})


class Journal(Protocol):
    """Kept by whoever has a mail sent."""

    async def write(self, relay: str, results: Mapping[str, Result]) -> None:
        """Before a final dot, with what is known for each recipient by then. It raises where no dot may be written."""

    async def refused(self) -> None:
        """The relay did not take the mail, at that dot or before it; another relay is asked."""


@dataclass(slots=True)
class Attempt:
    """One attempt, from relay to relay. `envelope` has those who are still to be asked for. `_may_take`: those whom a
    relay would not have now, and may have later; `_put_off`: those of whom one said so that was open for mail."""

    envelope: Envelope
    _journal: Journal
    _relays: int
    _bound: Mapping[str, str]
    results: dict[str, Result] = field(default_factory=dict)
    tries: list[Tried] = field(default_factory=list)
    obstacles: list[Waiting] = field(default_factory=list)
    in_doubt: bool = False
    _last: Mapping[str, Answer] = field(default_factory=dict)
    _may_take: set[str] = field(default_factory=set)
    _put_off: set[str] = field(default_factory=set)
    _greylisted_at: str | None = None
    _found_shut: bool = False
    _is_journaled: bool = False

    def envelope_for(self, relay: str) -> Envelope | None:
        """None where nobody is left whom this relay may have."""
        allowed = tuple(item for item in self.envelope.recipients if self._bound.get(item.email, relay) == relay)
        if len(allowed) == len(self.envelope.recipients):
            return self.envelope
        return replace(self.envelope, recipients=allowed) if allowed else None

    async def journal(self, relay: str, replies: Mapping[str, Reply]) -> None:
        """Those whom this relay took wait for its answer to the dot; the others have theirs."""
        said = {email: Answer(Phase.RCPT, Kind.REPLY, reply) for email, reply in replies.items()}
        known = {email: self._kept_open(email, answer, len(self.tries) + 1) for email, answer in said.items()}
        await self._journal.write(relay, {**self.results, **known})
        self._is_journaled = True

    async def goes_on(self, relay: str, found: Try) -> bool:
        """Take note of what a relay said. Whether the next one is to be asked, for those to whom it may make a
        difference."""
        verdicts = found.verdicts
        said = verdicts.decisive
        queue_id = queue_id_of(verdicts.accepted.reply) if verdicts.accepted is not None else None
        row = None if said.is_accepted else decide(said).row
        self.tries.append(Tried(said.phase, said.reply, relay, queue_id, found.timings, found.conversation, row))
        self.results |= {email: _result(answer) for email, answer in verdicts.answers.items()}
        if verdicts.accepted is not None and all(answer.is_accepted for answer in verdicts.answers.values()):
            self._last = verdicts.answers
            return False
        refused = {email: decide(answer) for email, answer in verdicts.answers.items() if not answer.is_accepted}
        put_off = {email for email, rule in refused.items() if rule.then.fate is Fate.DEFER}
        if verdicts.accepted is None and all(rule.then.effect in SHUTS for rule in refused.values()):
            self._found_shut = True
        else:
            self._put_off |= put_off
        self.in_doubt = any(rule.then.fate is Fate.UNKNOWN for rule in refused.values())
        could_go_on = [email for email, rule in refused.items() if rule.then.elsewhere and email not in self._bound]
        self._last = verdicts.answers
        self._may_take |= put_off.intersection(could_go_on)
        if any(rule.then.wait is Wait.GREYLIST for rule in refused.values()):
            self._greylisted_at = self._greylisted_at or relay
        left = tuple(
            item for item in self.envelope.recipients if item.email in could_go_on or item.email not in verdicts.answers
        )
        if not left or self.in_doubt or verdicts.accepted is not None:
            return False
        self.envelope = replace(self.envelope, recipients=left)
        if self._is_journaled:
            await self._journal.refused()
            self._is_journaled = False
        return True

    def end(self) -> Routed | Waiting:
        """A relay that was not asked this time, or was in trouble, may still take what another one will not."""
        if not self.tries:
            return soonest(self.obstacles)
        self.results |= {email: self._kept_open(email, answer, len(self.tries)) for email, answer in self._last.items()}
        return Routed(tuple(self.tries), self.results, self.in_doubt, self._greylisted_at, self._is_uncounted())

    def _is_uncounted(self) -> bool:
        left = {email for email, result in self.results.items() if result.status not in _DECIDED}
        return bool(left and (self._found_shut or self.obstacles)) and not left & self._put_off

    def _kept_open(self, email: str, answer: Answer, tried: int) -> Result:
        """Not failed, while a relay that was not asked yet, or was in trouble, might take what this one will not."""
        result = _result(answer)
        if result.status is not RecipientStatus.FAILED or not decide(answer).then.elsewhere:
            return result
        is_open = email not in self._bound and (tried < self._relays or email in self._may_take)
        return replace(result, status=RecipientStatus.DEFERRED) if is_open else result


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


def soonest(waits: Sequence[Waiting]) -> Waiting:
    return Waiting("; ".join(wait.detail for wait in waits), min(wait.wait_s for wait in waits))
