"""How fast a full queue is drained, and what CPU that takes by process: Postroom and its peers in turn."""

import asyncio
import subprocess
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import asdict, dataclass

from benchmarks.figures import cpu_s, family
from benchmarks.peers import PEERS
from benchmarks.peers.peer import Arena, Peer
from benchmarks.peers.processes import PeerFailed
from benchmarks.plan import POSTROOM, Plan
from benchmarks.relay import LOOK_EVERY_S, Relay, RelayMaker, counting_relay
from benchmarks.section import LeftOut, Run, Runs, Section, Stopped
from benchmarks.stage import fill, stage, workers

WARM_PART, WARM_S, WARM_AT_MOST = 0.1, 1.0, 0.5
"""A process that has just started compiles, forks and connects: so many of the mails come before the clock runs, and
those of so long a time from the first one on, but no more than so many."""
PROCESSES = (1, 2)
OURS, OURS_TWICE = (f"{POSTROOM}, {processes}" for processes in ("1 process", "2 processes"))


@dataclass(frozen=True, slots=True)
class Drain:
    """`..._cpu_ms`: per mail."""

    mails_per_s: float
    worker_cpu_ms: float
    queue_server_cpu_ms: float
    relay_cpu_ms: float


async def timed(relay: Relay, mails: int, worker_pids: Callable[[], list[int]], server_pid: int) -> Drain:
    """From the end of the warm-up until so many have come."""
    begun_with = relay.look()
    await _warm(relay, mails)

    def spent() -> list[float]:
        return [cpu_s(worker_pids()), cpu_s([server_pid]), cpu_s([relay.pid])]

    first, began, before = relay.counted, time.perf_counter(), spent()
    if first >= begun_with + mails:
        raise Stopped(f"All of {mails} mails came at once, before the clock ran: more of them have to be queued")
    await relay.until(begun_with + mails)
    elapsed, after, counted = time.perf_counter() - began, spent(), relay.counted - first
    return Drain(counted / elapsed, *((now - then) * 1000 / counted for now, then in zip(after, before, strict=True)))


async def _warm(relay: Relay, mails: int) -> None:
    """Until the larger of WARM_PART of the mails, and what came in WARM_S; that one within WARM_AT_MOST."""
    begun_with = relay.counted
    await relay.until(begun_with + 1)
    ends = relay.arrivals[begun_with] + WARM_S
    await relay.until(begun_with + max(1, int(mails * WARM_PART)))
    while relay.counted < begun_with + mails * WARM_AT_MOST and time.perf_counter() < ends:
        await asyncio.sleep(LOOK_EVERY_S)
        relay.look()


async def watched(relay: Relay, mails: int, worker_pids: Callable[[], list[int]], server_pid: int) -> Drain:
    """All mails of a queue. Raises Stopped where more or fewer come."""
    drain = await timed(relay, mails, worker_pids, server_pid)
    await relay.settle(mails)
    return drain


async def postroom(mails: int, processes: int, make_relay: RelayMaker = counting_relay) -> Drain:
    async with stage() as place, make_relay() as relay:
        env = place.environment(relay.url)
        await fill(env, mails)
        async with workers(env, processes) as pids:
            return await watched(relay, mails, family_of(pids), place.server.pid)


async def of_peer(peer: Peer, mails: int, processes: int, make_relay: RelayMaker = counting_relay) -> Drain:
    """Raises PeerFailed where a process of the peer ends by itself."""
    async with stage() as place, make_relay() as relay:
        arena = Arena(place.redis_url, relay.port, place.folder, mails, processes)
        await peer.fill(arena)
        async with peer.drain(arena) as pids:
            try:
                return await watched(relay, mails, pids, place.server.pid)
            except Stopped:
                pids()  # says so where a worker has died
                raise


def family_of(pids: list[int]) -> Callable[[], list[int]]:
    return lambda: family(pids)


def unfit(peer: Peer) -> str | None:
    """Why a peer is left out; else it is installed."""
    if (reason := peer.lacks()) is not None:
        return reason
    try:
        peer.install()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"it could not be installed: {error}"
    return None


def name_of(tool: str, processes: int) -> str:
    return f"{tool}, {processes} process{'es' if processes > 1 else ''}"


async def _runs(plan: Plan) -> Runs:
    fit: list[Peer] = []
    for peer in PEERS:
        if (reason := unfit(peer)) is None:
            fit.append(peer)
        else:
            yield LeftOut(peer.name, reason)
    for _ in range(plan.rounds):
        async with aclosing(_round(plan, fit)) as runs:
            async for run in runs:
                yield run


async def _round(plan: Plan, fit: list[Peer]) -> Runs:
    """A peer that fails is out of this round and all others."""
    for processes in PROCESSES:
        drain = await postroom(plan.drained(POSTROOM), processes)
        yield Run(name_of(POSTROOM, processes), asdict(drain))
    for peer in tuple(fit):
        for processes in PROCESSES if peer.scales else (0,):
            try:
                drain = await of_peer(peer, plan.drained(peer.name), processes)
            except PeerFailed as failure:
                fit.remove(peer)
                yield LeftOut(peer.name, str(failure))
                break
            yield Run(name_of(peer.name, processes) if peer.scales else peer.name, asdict(drain))


DRAINING = Section("drain", "A full queue drained, by 1 and by 2 worker processes", _runs)
