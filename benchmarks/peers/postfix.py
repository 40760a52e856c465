"""Postfix as a queue. It renders nothing: it is given finished bytes by SMTP, before the clock runs.

Its spool lies in the arena's folder. Filled by one Postfix that has no queue manager, so that nothing is delivered and
each mail waits where new mail waits; drained by another one that has no SMTP server.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import family
from benchmarks.peers.environments import environment
from benchmarks.peers.peer import Arena
from benchmarks.peers.processes import PeerFailed, listens, run, until_gone
from tests.peers.private_root import lacking, lacking_root, private_root
from tests.support.processes import free_port

PACKAGE = "postfix"
START_TIMEOUT_S = 30.0
_SCRIPT = Path(__file__).with_name("postfix.sh")
_FILLER = "benchmarks.peers.programs.postfix_fill"


@dataclass(frozen=True, slots=True)
class Postfix:
    """It starts as many processes as its own limits allow."""

    name: str = "Postfix as a queue"
    scales: bool = False

    def lacks(self) -> str | None:
        return lacking(PACKAGE) or lacking_root()

    def install(self) -> None:
        print(f"Postfix: unpacked in .peers/{PACKAGE}")

    async def fill(self, arena: Arena) -> None:
        port = free_port()
        async with _server(arena, "fill", port) as child:
            await _until_it_listens(child, port, arena.folder)
            env = environment(arena) | {"ARENA_SUBMISSION_PORT": str(port)}
            await run((sys.executable, "-m", _FILLER), env, arena.folder / "fill.log")

    @asynccontextmanager
    async def drain(self, arena: Arena) -> AsyncIterator[Callable[[], list[int]]]:
        async with _server(arena, "drain", 0) as child:
            try:
                yield lambda: family([child.pid])
            finally:
                started = family([child.pid])
        await until_gone(started)


@asynccontextmanager
async def _server(arena: Arena, phase: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """`scratch` of a private root has to be new; what the last one left there is an empty folder."""
    if (scratch := arena.folder / "scratch").exists():
        scratch.rmdir()
    env = {"PHASE": phase, "PORT": str(port), "SINK_PORT": str(arena.smtp_port)}
    async with private_root(PACKAGE, _SCRIPT.read_text(), arena.folder, env) as child:
        yield child


async def _until_it_listens(child: asyncio.subprocess.Process, port: int, folder: Path) -> None:
    log = folder / "log"
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not await listens(port):
                if child.returncode is not None:
                    raise PeerFailed(f"Postfix ended with {child.returncode}: {log.read_text()}")
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise PeerFailed(f"Postfix did not start within {START_TIMEOUT_S:g} s; see {log}") from None
