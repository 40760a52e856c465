"""How a relay of a run feels: which of its replies come late, not at all, or are a 4xx, by a seeded choice."""

from collections import Counter
from dataclasses import dataclass
from random import Random

STALLED = 0.25
DROPPED = 0.008
REFUSED = 0.015
"""Share of the replies that are late, that are a cut line instead, and that are a 4xx."""
REFUSED_AT = {"BANNER": 0.001, "MAIL": 0.001, "DOT": 0.03}
"""The first two say that a relay is asked for too much, and halve the pace of all workers."""
LONG_STALL = 0.08
"""Share of the stalls that take one to two seconds."""


@dataclass(frozen=True, slots=True)
class Mood:
    stall_s: float = 0.0
    drop: bool = False
    refuse: bool = False


class Moods:
    """`calm`: no more of them. `had` counts those that there were."""

    def __init__(self, random: Random) -> None:
        self.calm = False
        self.had: Counter[str] = Counter()
        self._random = random

    def next(self, phase: str) -> Mood:
        if self.calm:
            return Mood()
        random = self._random
        stall_s = 0.0
        if random.random() < STALLED:
            stall_s = random.uniform(1.0, 2.0) if random.random() < LONG_STALL else random.uniform(0.02, 0.6)
        turn, refused = random.random(), REFUSED_AT.get(phase, REFUSED)
        mood = Mood(stall_s, drop=turn < DROPPED, refuse=DROPPED <= turn < DROPPED + refused)
        word = "stalled" if mood.stall_s else None
        word = "dropped" if mood.drop else "refused" if mood.refuse else word
        if word:
            self.had[word] += 1
        return mood
