"""A relay that takes its time for each mail, which no CPU makes up for: what counts is how many wait for it at once."""

from dataclasses import asdict
from functools import partial

from benchmarks.draining import of_peer, postroom
from benchmarks.peers import PEERS
from benchmarks.peers.processes import PeerFailed
from benchmarks.plan import POSTROOM, Plan
from benchmarks.relay import slow_relay
from benchmarks.section import LeftOut, Run, Runs, Section

DELAY_MS = 50
OURS = f"{POSTROOM}, default settings"
(NAIVE,) = (peer for peer in PEERS if peer.name == "naive arq")


async def _runs(plan: Plan) -> Runs:
    """A peer that fails is out of this round and all others."""
    relay, fit = partial(slow_relay, DELAY_MS), [NAIVE]
    for _ in range(plan.rounds):
        yield Run(OURS, asdict(await postroom(plan.slow, 1, relay)))
        for peer in tuple(fit):
            try:
                yield Run(peer.name, asdict(await of_peer(peer, plan.slow_others, 1, relay)))
            except PeerFailed as failure:
                fit.remove(peer)
                yield LeftOut(peer.name, str(failure))


WAITING = Section("slow_relay", f"A relay that takes {DELAY_MS} ms for each mail, 1 worker process", _runs)
