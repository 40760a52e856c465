"""When jobs that wait for a relay are looked at again: one after another, so that many of them leave a worker room for
mail that need not wait.

The trap: it knows those of one worker only; each worker spreads its own.
"""

import time
from collections.abc import Callable

EVERY_S = 0.01
"""Between two jobs."""
LONGEST_S = 60.0
"""So soon each of them learns that its relay can be had, however many wait."""


class Lookout:
    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last_at = monotonic()

    def next_s(self, wait_s: float) -> float:
        """How long from now the next job that has to wait for `wait_s` is looked at again."""
        now = self._monotonic()
        self._last_at = min(max(self._last_at + EVERY_S, now), now + LONGEST_S)
        return min(max(wait_s, self._last_at - now), LONGEST_S)
