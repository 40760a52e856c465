"""The truth about mails at an unruly relay: what it said of each of them and what it took, in its own words."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random


@dataclass
class Line:
    """A connection. It `lied` where it gave a reply too many or one too few, which may cross a command on its way: then
    no client can tell which answer is whose, and only the weaker promises can be asked of it. It is `spent` where it
    said something that its client has to notice: no mail may be offered to it any more. It `owes` a reply that was left
    out; another one may be taken for it."""

    lied: bool = False
    owes: bool = False
    spent: bool = False


@dataclass
class Dealing:
    """A mail on one connection, from MAIL on. Codes are of replies that were valid and said to their end."""

    line: Line
    mail: int
    is_open: bool = False
    taken: list[str] = field(default_factory=list)
    content: bytes | None = None
    """Once its final dot has come."""
    early: int | None = None
    """A refusal in the midst of the content."""
    is_barred: bool = False
    """The client has heard something in the midst of the content, so that no dot may come."""
    verdict: int | None = None
    """The first reply after the dot."""
    said: list[int] = field(default_factory=list)
    """Since the go-ahead, or since MAIL where it lied before it; asked or not."""

    @property
    def is_accepted(self) -> bool:
        return self.verdict is not None and self.verdict // 100 == 2

    def __str__(self) -> str:
        has_dot = self.content is not None
        words = f"taken {self.taken}, dot {has_dot}, early {self.early}, verdict {self.verdict}, {self.line}"
        return f"{words}, said {self.said[:20]}"


@dataclass
class Record:
    """Of all connections of one relay. `calm`: from now on it does as any relay does."""

    random: Random
    calm: bool = False
    dealings: list[Dealing] = field(default_factory=list)
    modes: Counter[str] = field(default_factory=Counter)
    """How often it did what."""
    misuse: list[str] = field(default_factory=list)
    """What no client may do to it, and where it failed itself."""
    past_journal: set[int] = field(default_factory=set)
    """Mails whose final dot may be on its way."""
    connections: int = 0
    open: set[asyncio.Task[None]] = field(default_factory=set)
    """A task for each open connection."""
    port: int = 0

    def of(self, mail: int) -> list[Dealing]:
        return [dealing for dealing in self.dealings if dealing.mail == mail]
