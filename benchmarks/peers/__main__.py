"""`python -m benchmarks.peers NAME [--mails 2000] [--processes 1]`: one peer, filled and drained once.

Counted from the first look at which the sink has mails until it has all, so that no interpreter's start is in it; CPU
is that of the peer's processes in the same time, without queue server and sink.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from benchmarks.peers import PEERS
from benchmarks.peers.peer import Arena, Peer
from benchmarks.peers.processes import PeerFailed, at_work, listens
from cli.embedded import find_engine
from tests.peers.smtp_sink import Sink, smtp_sink
from tests.support.processes import free_port
from tests.support.waiting import until

LOOK_EACH_S = 0.02
PATIENCE_S = 600.0
TICKS = os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def queue_server(folder: Path) -> AsyncIterator[str]:
    port = free_port()
    durable = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")
    command = (str(find_engine().binary), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), *durable)
    async with at_work([command], os.environ, folder / "server.log"):
        await until(partial(listens, port), what="the start of the queue server")
        yield f"redis://127.0.0.1:{port}/0"


def cpu_s(pids: list[int]) -> float:
    """Of these and of what they have waited for."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))
    return total / TICKS


async def drained(sink: Sink, mails: int, pids: Callable[[], list[int]]) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while (first := sink.counts().mails) == 0:
        pids()
        _check(time.monotonic() < deadline, "no mail arrived")
        await asyncio.sleep(LOOK_EACH_S)
    began, cpu = time.monotonic(), cpu_s(pids())
    while (now := sink.counts().mails) < mails:
        pids()
        _check(time.monotonic() < deadline, f"{now} of {mails} mails arrived")
        await asyncio.sleep(LOOK_EACH_S)
    elapsed, spent = time.monotonic() - began, cpu_s(pids()) - cpu
    await asyncio.sleep(1)
    _check(sink.counts().mails == mails, f"the sink has {sink.counts().mails} mails, {mails} were on the queue")
    counted = mails - first
    return f"{counted / elapsed:.0f} mails/s, {spent / counted * 1000:.2f} s of CPU per 1,000 mails"


def _check(fine: bool, trouble: str) -> None:
    if not fine:
        raise PeerFailed(trouble)


async def measure(peer: Peer, mails: int, processes: int) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("server", "arena"):
            (folder / name).mkdir()
        redis_url = await stack.enter_async_context(queue_server(folder / "server"))
        sink = await stack.enter_async_context(smtp_sink(keeps=False))
        arena = Arena(redis_url, sink.port, folder / "arena", mails, processes)
        began = time.monotonic()
        await peer.fill(arena)
        print(f"{peer.name}: filled in {time.monotonic() - began:.1f} s")
        async with peer.drain(arena) as pids:
            print(f"{peer.name}, {processes} process(es): {await drained(sink, mails, pids)}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument("name", help="; ".join(peer.name for peer in PEERS))
    parser.add_argument("--mails", type=int, default=2000)
    parser.add_argument("--processes", type=int, choices=(1, 2), default=1)
    options = parser.parse_args()
    peer = next((peer for peer in PEERS if peer.name.casefold() == options.name.casefold()), None)
    if peer is None:
        parser.error(f"there is no peer {options.name!r}; there are: {', '.join(peer.name for peer in PEERS)}")
    if (reason := peer.lacks()) is not None:
        sys.exit(reason)
    peer.install()
    try:
        asyncio.run(measure(peer, options.mails, options.processes))
    except PeerFailed as failure:
        sys.exit(f"{peer.name}: {failure}")


if __name__ == "__main__":
    main()
