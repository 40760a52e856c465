"""How fast a full queue is drained, and what CPU that takes by process."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.figures import cpu_s, with_children
from benchmarks.relay import Relay, counting_relay
from benchmarks.stage import fill, stage, workers

WARM_PART = 0.1
"""Of the mails, which come before the clock runs: a process that has just started compiles and connects."""


@dataclass(frozen=True, slots=True)
class Drain:
    """`ms_each`: CPU per mail, which are seconds per 1,000 mails."""

    mails_per_s: float
    worker_ms: float
    queue_server_ms: float
    relay_ms: float


async def watched(relay: Relay, mails: int, worker_pids: Callable[[], list[int]], server_pid: int) -> Drain:
    """From WARM_PART of the mails on until the last one has come. Raises RuntimeError where more or fewer come."""
    warm = max(1, int(mails * WARM_PART))
    await relay.until(warm)

    def spent() -> list[float]:
        return [cpu_s(worker_pids()), cpu_s([server_pid]), cpu_s([relay.pid])]

    first, began, before = relay.counted, time.perf_counter(), spent()
    await relay.until(mails)
    elapsed, after = time.perf_counter() - began, spent()
    each = [(now - then) * 1000 / (mails - first) for now, then in zip(after, before, strict=True)]
    await relay.settle(mails)
    return Drain((mails - first) / elapsed, *each)


async def postroom(mails: int, processes: int) -> Drain:
    async with stage() as place, counting_relay() as relay:
        env = place.environment(relay.url)
        await fill(env, mails)
        async with workers(env, processes) as pids:
            return await watched(
                relay, mails, lambda: [one for pid in pids for one in with_children(pid)], place.server.pid
            )
