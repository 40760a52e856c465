"""What all workers share about relays: who is set up with which, what state each is in, and whose turn it is.

Raises QueueUnavailable. The trap: a change is a function, which may be called several times before it counts.
"""

import itertools
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson

from mailer.errors import QueueUnavailable
from mailer.jobs import Phase, Reply
from mailer.relays import OpenedBy, RelayDescription, RelayState, Trouble
from mailer.store import keys
from mailer.store.connection import RedisClient, answered
from mailer.store.gather import Gatherer
from mailer.store.records import known
from mailer.store.scripts import Script

KEPT_MS = 24 * 3600 * 1000
"""How long a state is kept after its last change (while paused: for good), and a description after it was last told."""
MOST_PATIENCE_MS = 60_000
MOST_TRIES = 100
"""Of one change. Each that fails lost to another one that counted."""

Transition = Callable[[RelayState, int], RelayState]
"""The state after a change, from the state before it and the server's time (ms). Pure but for what its caller notes."""


@dataclass(frozen=True, slots=True)
class KnownRelay:
    """`told_at`: when a worker last said that it is set up so (ms by the server's clock)."""

    description: RelayDescription
    state: RelayState
    told_at: int


@dataclass(frozen=True, slots=True)
class SlotVerdict:
    """`at`: the slot's time, in microseconds by the server's clock. Not reserved: the next free one, which is too far
    away."""

    is_reserved: bool
    at: int
    wait_us: int


@dataclass(frozen=True, slots=True)
class _Change:
    name: str
    transition: Transition


@dataclass(frozen=True, slots=True)
class _Wish:
    name: str
    interval_us: int
    patience_us: int


class RelayStore:
    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._swap = Script(redis, "swap")
        self._slot = Script(redis, "slot")
        self._tell = Script(redis, "tell")
        self._writer = secrets.token_hex(8)
        self._writes = itertools.count()
        self._changes = Gatherer(self._change_all)
        self._wishes = Gatherer(self._reserve_all)
        self._free: dict[str, int] = {}
        """The next free slot of a relay (us), as the newest reply tells it."""

    async def states(self, names: Sequence[str]) -> tuple[dict[str, RelayState], int]:
        """And the server's time (ms)."""
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            pipe.get(keys.relay(name))
        pipe.time()
        *raws, (seconds, microseconds) = await answered(self._redis, pipe.execute())
        states = {name: decode_state(raw) for name, raw in zip(names, raws, strict=True)}
        return states, seconds * 1000 + microseconds // 1000

    async def change(self, name: str, transition: Transition) -> RelayState:
        """The state as it is then. Nothing is written where it stays as it was; nobody else's change is lost."""
        return await self._changes.ask(_Change(name, transition))

    async def tell(self, descriptions: Sequence[RelayDescription]) -> None:
        await self._tell([keys.RELAYS], [KEPT_MS, *(orjson.dumps(each) for each in descriptions)])

    async def overview(self) -> tuple[tuple[KnownRelay, ...], int]:
        """Every relay that workers are set up with, in order, as it was told last; and the server's time (ms)."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.zrange(keys.RELAYS, 0, -1, withscores=True)
        (told,) = await answered(self._redis, pipe.execute())
        newest = {each.name: (each, int(score)) for each, score in ((_decode_description(raw), at) for raw, at in told)}
        states, now = await self.states(list(newest))
        relays = (KnownRelay(each, states[name], at) for name, (each, at) in newest.items())
        return tuple(sorted(relays, key=lambda relay: (relay.description.order, relay.description.name))), now

    async def slot(self, name: str, interval_us: int, patience_ms: int) -> SlotVerdict:
        """The next mail's turn at a relay, `interval_us` microseconds (see mailer.relays.spacing_us) after the one
        before it, whichever worker sends that. Nothing is reserved where it is more than `patience_ms` away, 60 s at
        the most: so whoever has more patience never waits behind all those who have less.
        """
        return await self._wishes.ask(_Wish(name, interval_us, 1000 * min(patience_ms, MOST_PATIENCE_MS)))

    async def _change_all(self, changes: Sequence[_Change]) -> list[RelayState]:
        transitions: dict[str, list[Transition]] = {}
        for change in changes:
            transitions.setdefault(change.name, []).append(change.transition)
        states = {name: await self._apply(name, each) for name, each in transitions.items()}
        return [states[change.name] for change in changes]

    async def _apply(self, name: str, transitions: Sequence[Transition]) -> RelayState:
        key = keys.relay(name)
        pipe = self._redis.pipeline(transaction=False)
        pipe.get(key)
        pipe.time()
        raw, (seconds, microseconds) = await answered(self._redis, pipe.execute())
        now = seconds * 1000 + microseconds // 1000
        for _ in range(MOST_TRIES):
            before = after = decode_state(raw)
            for transition in transitions:
                after = transition(after, now)
            if after == before:
                return before
            new = orjson.dumps({"write": f"{self._writer}:{next(self._writes)}", "state": after})
            kept = KEPT_MS if after.paused_at is None else ""
            is_changed, raw, now = cast(tuple[int, bytes, int], await self._swap([key], [raw or b"", new, kept]))
            if is_changed:
                return after
        raise QueueUnavailable(f"The state of the relay {name} could not be changed: others change it all the time")

    async def _reserve_all(self, wishes: Sequence[_Wish]) -> list[SlotVerdict]:
        names = [keys.slot(wish.name) for wish in wishes]
        args = [part for wish in wishes for part in (wish.interval_us, wish.patience_us, self._free.get(wish.name, 0))]
        replies = cast(list[list[int]], await self._slot(names, [1000 * MOST_PATIENCE_MS, *args]))
        for wish, (is_reserved, at, _) in zip(wishes, replies, strict=True):
            self._free[wish.name] = at + is_reserved * wish.interval_us
        return [SlotVerdict(bool(is_reserved), at, wait) for is_reserved, at, wait in replies]


def decode_state(raw: bytes | None) -> RelayState:
    """What is no state counts for none, it is built up again. A word of a newer version costs no more than itself: a
    relay that is paused stays so."""
    try:
        item: dict[str, Any] = orjson.loads(raw)["state"] if raw else {}
        return known(RelayState, item, opened_by=_opened_by(item), trouble=_trouble(item))
    except (ValueError, TypeError, KeyError, AttributeError):
        return RelayState()


def _opened_by(item: dict[str, Any]) -> OpenedBy | None:
    word = item.get("opened_by")
    return None if word is None else OpenedBy(word) if word in set(OpenedBy) else OpenedBy.CONNECTION


def _trouble(item: dict[str, Any]) -> Trouble | None:
    trouble = item.get("trouble")
    if trouble is None or trouble["phase"] not in set(Phase):
        return None
    return known(Trouble, trouble, phase=Phase(trouble["phase"]), reply=known(Reply, trouble["reply"]))


def _decode_description(raw: bytes) -> RelayDescription:
    item: dict[str, Any] = orjson.loads(raw)
    return known(RelayDescription, item, senders=tuple(item.get("senders", ())))
