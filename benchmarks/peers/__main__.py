"""`python -m benchmarks.peers NAME [--mails 2000] [--processes 1]`: one peer, filled and drained once. `--install`: all
of them installed, and nothing measured.

Counted as in all of `benchmarks`: not before some mails have come, so that no interpreter's start is in it.
"""

import argparse
import asyncio
import sys

from benchmarks.draining import of_peer
from benchmarks.peers import PEERS
from benchmarks.peers.peer import Peer
from benchmarks.peers.processes import PeerFailed
from benchmarks.section import Stopped
from tests.peers.smtp_sink import lacking_sink


async def measure(peer: Peer, mails: int, processes: int) -> None:
    drain = await of_peer(peer, mails, processes)
    print(
        f"{peer.name}, {processes} process(es): {drain.mails_per_s:.0f} mails/s; s of CPU per 1,000 mails: "
        f"workers {drain.worker_cpu_ms:.2f}, queue server {drain.queue_server_cpu_ms:.2f}"
    )


def install_all() -> None:
    """What this machine lacks for one is said, and leaves it out."""
    for peer in PEERS:
        if (reason := peer.lacks()) is not None:
            print(f"{peer.name}: left out: {reason}")
        else:
            peer.install()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument("name", nargs="?", default="", help="; ".join(peer.name for peer in PEERS))
    parser.add_argument("--install", action="store_true", help="install all of them, and measure nothing")
    parser.add_argument("--mails", type=int, default=2000)
    parser.add_argument("--processes", type=int, choices=(1, 2), default=1)
    options = parser.parse_args()
    if options.install:
        install_all()
        return
    peer = next((peer for peer in PEERS if peer.name.casefold() == options.name.casefold()), None)
    if peer is None:
        parser.error(f"there is no peer {options.name!r}; there are: {', '.join(peer.name for peer in PEERS)}")
    if (reason := peer.lacks() or lacking_sink()) is not None:
        sys.exit(reason)
    peer.install()
    try:
        asyncio.run(measure(peer, options.mails, options.processes))
    except (PeerFailed, Stopped) as failure:
        sys.exit(f"{peer.name}: {failure}")


if __name__ == "__main__":
    main()
