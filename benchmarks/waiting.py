"""A relay that takes its time for each mail, which no CPU makes up for: what counts is how many wait for it at once."""

from dataclasses import asdict
from functools import partial

from benchmarks.draining import of_peer, postroom
from benchmarks.peers import PEERS
from benchmarks.plan import POSTROOM, Plan
from benchmarks.relay import slow_relay
from benchmarks.section import Run, Runs, Section

DELAY_MS = 50
OURS = f"{POSTROOM}, default settings"
(NAIVE,) = (peer for peer in PEERS if peer.name == "naive arq")


async def _runs(plan: Plan) -> Runs:
    relay = partial(slow_relay, DELAY_MS)
    for _ in range(plan.rounds):
        yield Run(OURS, asdict(await postroom(plan.slow, 1, relay)))
        yield Run(NAIVE.name, asdict(await of_peer(NAIVE, plan.slow_others, 1, relay)))


WAITING = Section("slow_relay", f"A relay that takes {DELAY_MS} ms for each mail, 1 worker process", _runs)
