"""Connections to one relay, opened, used again and thrown away.

Last in, first out. A connection that had any trouble is not used again. QUIT and RSET are said but not waited for:
nothing that happens after the relay's answer can change the outcome. The trap: an idle connection may still owe the
answer to its RSET, and is nobody's until that has come.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from worker.relays.answers import Answer, Lost, Verdicts
from worker.relays.effects import Pace
from worker.relays.gate import Gate
from worker.relays.opening import Opening
from worker.relays.relay import Relay
from worker.relays.replies import decide
from worker.relays.timeouts import Timeouts
from worker.relays.transaction import Envelope, Journal, Offers, Transaction
from worker.relays.transcript import written_down
from worker.relays.wire import Wire

OPENING_AT_ONCE = 2
MAILS_EACH = 100
AGE_S = 300.0
TURNS = 2
"""A mail has a second one at once, on a fresh connection, where the first was at fault and nothing had happened."""

Noted = list[tuple[float, str, bytes | str]]


@dataclass(slots=True)
class _Connection:
    wire: Wire
    offers: Offers
    opened_at: float
    used_at: float
    mails: int = 0


@dataclass(slots=True)
class Try:
    """What came of a mail at one relay. `conversation` and `timings` as in mailer.jobs.Attempt. `shared`: a connection
    that another mail has told of already. `is_full`: the relay has as many of our connections as it wants."""

    verdicts: Verdicts
    conversation: tuple[str, ...] = ()
    timings: dict[str, int] = field(default_factory=dict)
    shared: bool = False
    is_full: bool = False


class Pool:
    """Hands mail to one relay. `share`: how much of its connections to use, 0 to 1. `close` when done."""

    def __init__(
        self,
        relay: Relay,
        timeouts: Timeouts | None = None,
        *,
        share: Callable[[], float] = lambda: 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.relay = relay
        self._timeouts = timeouts or Timeouts()
        self._monotonic = monotonic
        self._idle: list[_Connection] = []
        self._at_work = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._failure: Answer | None = None
        self._failed_at = 0.0
        self._gate = Gate(lambda: int(relay.connections * share()))
        self._opening = asyncio.Semaphore(OPENING_AT_ONCE)
        self._tls = relay.tls_context()

    async def send(
        self,
        envelope: Envelope,
        journal: Journal,
        *,
        critical: bool = False,
        let_in: Callable[[], None] | None = None,
        before_mail: Callable[[], Awaitable[None]] | None = None,
    ) -> Try:
        """Hand over one mail. `let_in` is called when it is its turn, `before_mail` once a connection is ready. Raises
        what they and `journal` raise, and Busy where no connection became free in time. What the relay does is a
        value."""
        began, noted, timings = self._monotonic(), list[tuple[float, str, bytes | str]](), dict[str, int]()
        await self._gate.enter(critical=critical, within_s=self._timeouts.free_s)
        try:
            if let_in is not None:
                let_in()
            verdicts: Verdicts | None = None
            for turn in range(TURNS):
                try:
                    connection = await self._ready(noted, timings, fresh=turn > 0)
                    if before_mail is not None and turn == 0:
                        connection = await self._wait(before_mail, connection, noted, timings)
                except Lost as broken:
                    verdicts = Verdicts.alike(broken.answer, envelope.emails)
                    is_full = self._at_work > 0 and decide(broken.answer).then.pace is Pace.HALVE
                    return Try(verdicts, written_down(noted, began), timings, broken.shared, is_full)
                verdicts = await self._use(connection, envelope, journal, noted, timings)
                if not _is_the_connections_fault(verdicts):
                    break
            assert verdicts is not None  # noqa: S101 - there is a first turn
            return Try(verdicts, written_down(noted, began), timings)
        finally:
            self._gate.leave(critical=critical)

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self._idle:
            self._idle.pop().wire.part()
        await asyncio.sleep(0)  # lets the transports flush their QUIT

    async def _ready(self, noted: Noted, timings: dict[str, int], *, fresh: bool) -> _Connection:
        """Raises Lost."""
        while True:
            if not fresh and (connection := self._take_idle() or await self._settled()) is not None:
                noted.append((time.monotonic(), "-", f"a connection that carried {connection.mails} mails before"))
                return connection
            opened = await self._open(noted, timings, fresh=fresh)
            if opened is not None:
                return opened

    async def _wait(
        self, before_mail: Callable[[], Awaitable[None]], connection: _Connection, noted: Noted, timings: dict[str, int]
    ) -> _Connection:
        """Where nothing comes of it, the connection is another mail's; where the relay did not wait for so long, the
        mail goes on a fresh one. Raises Lost, and what `before_mail` does."""
        try:
            await before_mail()
        except BaseException:
            self._lay_by(connection)
            raise
        if not connection.wire.has_spoken:
            return connection
        connection.wire.part()
        return await self._ready(noted, timings, fresh=True)

    async def _use(
        self, connection: _Connection, envelope: Envelope, journal: Journal, noted: Noted, timings: dict[str, int]
    ) -> Verdicts:
        wire = connection.wire
        wire.noted = noted
        transaction = Transaction(
            wire, connection.offers, envelope, journal, self._timeouts, connection.mails > 0, timings
        )
        self._at_work += 1
        try:
            verdicts = await transaction.run()
        except BaseException:  # a conversation that was left would pair replies with the wrong commands
            wire.abort()
            raise
        finally:
            self._at_work -= 1
        self._keep(connection, clean=verdicts.clean and not _is_the_connections_fault(verdicts))
        return verdicts

    def _keep(self, connection: _Connection, *, clean: bool) -> None:
        """For the next mail, unless it is worn or something was wrong."""
        wire, now = connection.wire, self._monotonic()
        connection.used_at = now
        connection.mails += 1
        wire.noted = []
        if not clean:
            wire.abort()
        elif connection.mails >= MAILS_EACH or now - connection.opened_at >= AGE_S:
            wire.part()
        else:
            self._lay_by(connection)

    def _lay_by(self, connection: _Connection) -> None:
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._timeouts.idle_s, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for too long: last in, first out never comes to it by itself."""
        now = self._monotonic()
        for connection in [item for item in self._idle if not self._is_fresh(item, now)]:
            self._idle.remove(connection)
            connection.wire.part()
        self._sweeper = (
            asyncio.get_running_loop().call_later(self._timeouts.idle_s / 2, self._sweep) if self._idle else None
        )

    def _is_fresh(self, connection: _Connection, now: float) -> bool:
        return (
            not connection.wire.has_spoken
            and now - connection.used_at < self._timeouts.idle_s
            and now - connection.opened_at < AGE_S
        )

    def _take_idle(self) -> _Connection | None:
        """Not one that still owes an answer: that is left, until it is too old."""
        now = self._monotonic()
        for place in reversed(range(len(self._idle))):
            connection = self._idle[place]
            is_fresh = self._is_fresh(connection, now)
            if is_fresh and connection.wire.owes:
                continue
            del self._idle[place]
            if is_fresh:
                return connection
            connection.wire.part()
        return None

    async def _settled(self) -> _Connection | None:
        """Where all that are idle owe an answer, and one more would be one too many: the first of them, once it has
        answered. If it does not, another may be opened in its place."""
        if not (self._idle and self._gate.is_exceeded(len(self._idle))):
            return None
        connection = self._idle.pop(0)
        left_s = connection.used_at + self._timeouts.reset_s - self._monotonic()
        try:
            if await connection.wire.settled(left_s):
                return connection
        except BaseException:
            connection.wire.abort()
            raise
        connection.wire.part()
        return None

    async def _open(self, noted: Noted, timings: dict[str, int], *, fresh: bool) -> _Connection | None:
        """A new connection. None where one became free meanwhile; a failure is also that of those who waited for it."""
        began_at = self._monotonic()
        async with self._opening:
            if not fresh and not all(item.wire.owes for item in self._idle):
                return None
            if self._failure is not None and self._failed_at >= began_at:
                noted.append((time.monotonic(), "-", f"as for another mail just now: {self._failure.reply.text}"))
                raise Lost(self._failure, shared=True)
            opening = Opening(self.relay, self._tls, self._timeouts, noted=noted, timings=timings)
            try:
                wire, offers = await opening.run()
            except Lost as broken:
                self._failure, self._failed_at = broken.answer, self._monotonic()
                raise
        now = self._monotonic()
        return _Connection(wire, offers, opened_at=now, used_at=now)


def _is_the_connections_fault(verdicts: Verdicts) -> bool:
    return all(not answer.is_accepted and decide(answer).then.afresh for answer in verdicts.answers.values())
