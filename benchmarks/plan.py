"""How much is measured: the counts of a full run, in which each measurement takes seconds, and of a quick look."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

POSTROOM = "Postroom"
OTHERS_MAILS = 1000
_DRAINED = {
    POSTROOM: 12_000,
    "naive arq": 800,
    "Dramatiq": 2000,
    "Dramatiq, tuned": 16_000,
    "Celery": 2000,
    "BullMQ + nodemailer": 8000,
    "Postfix as a queue": 10_000,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Numbers of mails or jobs, but for `rounds`, and `turns` of a measurement within one process."""

    rounds: int = 3
    quick: bool = False
    turns: int = 5
    in_a_turn: int = 200
    large_mails: int = 5
    singles: int = 5000
    one_by_one: int = 500
    batched: int = 20_000
    end_to_end: int = 5000
    paced: int = 300
    stored: int = 20_000
    short_queue: int = 10_000
    long_queue: int = 1_000_000
    claims: int = 500
    slow: int = 2000
    slow_others: int = 120
    _drained: Mapping[str, int] = field(default_factory=lambda: _DRAINED)

    def drained(self, name: str) -> int:
        """So many that a tool of this name takes seconds for them."""
        return self._drained.get(name, OTHERS_MAILS)

    def with_rounds(self, rounds: int | None) -> "Plan":
        return self if rounds is None else replace(self, rounds=rounds)


FULL = Plan()
QUICK = Plan(
    rounds=1,
    quick=True,
    turns=2,
    in_a_turn=50,
    large_mails=1,
    singles=500,
    one_by_one=100,
    batched=2000,
    end_to_end=500,
    paced=20,
    stored=1000,
    short_queue=2000,
    long_queue=20_000,
    claims=50,
    slow=300,
    slow_others=30,
    _drained={
        **dict.fromkeys(_DRAINED, 150),
        **dict.fromkeys((POSTROOM, "Dramatiq, tuned", "BullMQ + nodemailer", "Postfix as a queue"), 1000),
    },
)
