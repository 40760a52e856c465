"""What the workers made of their relays during a run: how often each breaker opened, and when nothing could be sent."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mailer.errors import QueueUnavailable
from mailer.relays import RelayState
from mailer.store.relays import RelayStore

LOOK_EVERY_S = 0.1
"""Breakers stay open for longer."""


@dataclass(slots=True)
class Breakers:
    """`openings`: by relay and cause. `slowest`: the least pace that each relay was used at."""

    store: RelayStore
    names: Sequence[str]
    openings: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    barred: list[tuple[float, float]] = field(default_factory=list)
    """When no relay was usable, by the monotonic clock."""
    _open_until: dict[str, int | None] = field(default_factory=dict)

    async def watch(self) -> None:
        """Never returns."""
        while True:
            try:
                states, _ = await self.store.states(self.names)
            except QueueUnavailable:
                pass
            else:
                self._note(states)
            await asyncio.sleep(LOOK_EVERY_S)

    def were_open(self, began: float, ended: float) -> bool:
        """All of them, at any moment of this time."""
        return any(start <= ended and end >= began for start, end in self.barred)

    def _note(self, states: dict[str, RelayState]) -> None:
        now = time.monotonic()
        for name, state in states.items():
            if state.open_until is not None and state.open_until != self._open_until.get(name):
                self.openings[f"{name} ({state.opened_by})"] += 1
            self._open_until[name] = state.open_until
            self.slowest[name] = min(state.pace, self.slowest.get(name, 1.0))
        if all(state.open_until is not None for state in states.values()):
            if self.barred and now - self.barred[-1][1] < 1.0:
                self.barred[-1] = (self.barred[-1][0], now)
            else:
                self.barred.append((now, now))
