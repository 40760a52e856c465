"""Peers that are a queue on Redis and workers: a program that fills it, and commands that drain it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from benchmarks.peers.environments import Node, OurPython, PeersPython, environment
from benchmarks.peers.peer import Arena
from benchmarks.peers.processes import at_work, run


@dataclass(frozen=True, slots=True)
class Queued:
    """`filler` and what `workers` says, for so many processes, are the arguments of the interpreter of `home`."""

    name: str
    home: OurPython | PeersPython | Node
    filler: tuple[str, ...]
    workers: Callable[[int], Sequence[tuple[str, ...]]]
    scales: bool = True

    def lacks(self) -> str | None:
        return self.home.lacks()

    def install(self) -> None:
        self.home.install()

    async def fill(self, arena: Arena) -> None:
        await run((self.home.executable, *self.filler), environment(arena), arena.folder / "fill.log")

    def drain(self, arena: Arena) -> AbstractAsyncContextManager[Callable[[], list[int]]]:
        commands = [(self.home.executable, *arguments) for arguments in self.workers(arena.processes)]
        return at_work(commands, environment(arena), arena.folder / "drain.log")
