"""What a peer is to the harness: something that can be filled with mails, and then drains them."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Arena:
    """Where one run takes place: an empty queue server (`redis://127.0.0.1:port/0`), a sink that takes everything at
    once, and an empty folder."""

    redis_url: str
    smtp_port: int
    folder: Path
    mails: int
    processes: int


class Peer(Protocol):
    """Another tool of this field. What it starts has ended when `drain` is left."""

    @property
    def name(self) -> str:
        """For the table."""
        ...

    @property
    def scales(self) -> bool:
        """Whether it starts as many worker processes as the arena says; else it decides by itself."""
        ...

    def lacks(self) -> str | None:
        """What this machine lacks for it, and the fix, in one line."""
        ...

    def install(self) -> None:
        """Into a folder of its own below .bench, once; prints one line."""
        ...

    async def fill(self, arena: Arena) -> None:
        """All mails onto its queue, while nobody works."""
        ...

    def drain(self, arena: Arena) -> AbstractAsyncContextManager[Callable[[], list[int]]]:
        """Starts the workers, which begin at once. Yields what lists the processes whose CPU is the peer's. Some may
        have ended before one looks: their CPU is in their parents' (cutime, cstime of proc(5))."""
        ...
