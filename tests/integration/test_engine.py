"""The leased worker in this process: what is due it takes at once, what it does not understand it leaves to others."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from arq.worker import func

from mailer import queue
from mailer.jobs import Status
from mailer.settings import Durability
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobStore
from mailer.store.leases import LeaseStore
from mailer.store.watch import ServerWatch
from tests.support.smtp import HANG, ScriptedRelay
from tests.support.waiting import until
from tests.support.workers import Workers
from worker.engine import LeasedWorker
from worker.preparation import Deps
from worker.tasks import deliver


@dataclass
class Engines:
    """Starts workers in this process."""

    redis: RedisClient
    leases: LeaseStore
    deps: Deps

    def make(self, **options: Any) -> LeasedWorker:
        watch = ServerWatch(self.redis, Durability())
        ctx = {"redis": self.redis, "leases": self.leases, "deps": self.deps, "watch": watch, "lease_s": 10.0}
        functions = options.pop("functions", [func(deliver, name=queue.DELIVER)])
        return LeasedWorker(functions=functions, ctx=ctx, handle_signals=False, **options)

    async def burst(self, **options: Any) -> None:
        """Until the queues are empty."""
        async with asyncio.timeout(10):
            await self.make(burst=True, **options).async_run()

    @asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator[LeasedWorker]:
        engine = self.make(**options)
        running = asyncio.create_task(engine.async_run())
        try:
            yield engine
        finally:
            await engine.close()
            await running


@pytest.fixture
def engines(redis: RedisClient, leases: LeaseStore, make_deps: Callable[..., Deps]) -> Engines:
    return Engines(redis, leases, make_deps())


async def all_are(store: JobStore, job_ids: list[str], status: str) -> bool:
    views = [await store.view(job_id) for job_id in job_ids]
    return all(view is not None and view.status == status for view in views)


async def test_in_burst_mode_it_ends_when_the_queues_are_empty(
    engines: Engines, workers: Workers, store: JobStore, relay: ScriptedRelay, redis: RedisClient
) -> None:
    names = [f"{number:03}" for number in range(40)]
    await workers.accept(*names)
    await engines.burst(max_jobs=10)
    assert await all_are(store, names, Status.SENT)
    assert (len(relay.received), await redis.keys("arq:queue"), await redis.keys("arq:job:*")) == (40, [], [])


async def test_a_worker_with_many_slots_fills_them_at_once(engines: Engines, workers: Workers) -> None:
    """A claim brings a hundred at most; the next does not wait for anything."""
    running, go_on = set(), asyncio.Event()

    async def hold(ctx: dict[str, Any], job_id: str) -> None:
        running.add(job_id)
        await go_on.wait()

    await workers.accept(*(f"{number:03}" for number in range(250)))

    async def all_run() -> bool:
        return len(running) == 250

    async with engines.running(max_jobs=300, functions=[func(hold, name=queue.DELIVER)]):
        await until(all_run, what="250 runs", within_s=0.9)
        go_on.set()


async def test_an_idle_worker_begins_at_once(engines: Engines, workers: Workers, relay: ScriptedRelay) -> None:
    async def is_alive() -> bool:
        return bool(await workers.redis.exists(queue.HEALTH_CHECK_KEY)) and await is_listening()

    async def is_listening() -> bool:
        ((_, listeners),) = await workers.redis.pubsub_numsub(keys.WAKE)
        return int(listeners) == 1

    async def has_mail() -> bool:
        return len(relay.received) == 1

    async with engines.running():
        await until(is_alive, what="the worker")
        await workers.accept("a")
        await until(has_mail, what="the mail", within_s=0.5)


@pytest.mark.parametrize(
    ("blob", "why"),
    [
        (b"\x80\x04]\x94.", "a pickle"),
        (b"", "nothing"),
        ({"f": "digest", "a": ["a"], "k": {}}, "a function of a newer version"),
        ({"f": "deliver", "a": [], "k": {}}, "no argument"),
        ({"f": "deliver", "a": ["a", 1], "k": {}}, "one too many"),
        ({"f": "deliver", "a": ["a"], "k": {"again": True}}, "an argument of a newer version"),
        ({"f": "deliver", "a": ["a"], "k": {"ctx": {}}}, "an argument that is ours"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_it_does_not_understand_is_pushed_back_and_stops_nobody_elses_mail(
    engines: Engines, workers: Workers, store: JobStore, relay: ScriptedRelay, blob: object, why: str
) -> None:
    await workers.accept("a", "b")
    raw = blob if isinstance(blob, bytes) else orjson.dumps({"t": 1, "et": 1, **blob})  # type: ignore[dict-item]  # a dict
    await workers.redis.set(keys.arq_job("a"), raw)

    async def is_sent() -> bool:
        return await all_are(store, ["b"], Status.SENT)

    async def is_back() -> bool:
        return not await workers.redis.exists(keys.arq_in_progress("a"))

    async with engines.running():
        await until(is_sent, what="the other mail")
        await until(is_back, what="the end of its lease")
    assert 50_000 < await workers.due_in_ms("a") <= 60_000, why
    assert await workers.redis.get(keys.arq_job("a")) == raw
    assert (await workers.crashes("a"), len(relay.received)) == (0, 1)


async def test_without_its_blob_a_job_is_run_from_its_record(
    engines: Engines, workers: Workers, store: JobStore
) -> None:
    await workers.accept("a")
    await workers.redis.delete(keys.arq_job("a"))
    await engines.burst()
    assert await all_are(store, ["a"], Status.SENT)


async def test_a_worker_that_is_stopped_gives_back_what_no_relay_has(
    engines: Engines, workers: Workers, store: JobStore, relay: ScriptedRelay
) -> None:
    relay.script["RCPT"] = [HANG]
    names = ["a", "b", "c"]
    await workers.accept(*names)

    async def talks() -> bool:
        return any(command.startswith("RCPT") for command in relay.commands)

    async with engines.running():
        await until(talks, what="a conversation")
        assert await all_are(store, names, "sending")
    assert await all_are(store, names, "queued")
    assert [await workers.crashes(job_id) for job_id in names] == [0, 0, 0]
    assert [await workers.due_in_ms(job_id) <= 0 for job_id in names] == [True] * 3


async def test_a_quarantined_job_runs_alone(engines: Engines, workers: Workers) -> None:
    together: dict[str, int] = {}
    now = 0

    async def note(ctx: dict[str, Any], job_id: str) -> None:
        nonlocal now
        now += 1
        await asyncio.sleep(0.02)
        together[job_id] = max(together.get(job_id, 0), now)
        now -= 1
        await ctx["lease"].drop()

    await workers.accept("bad", "worse", *(f"{number:03}" for number in range(20)))
    for job_id in ("bad", "worse"):
        await workers.redis.hset(keys.job(job_id), "crashes", 2)
    await engines.burst(max_jobs=8, functions=[func(note, name=queue.DELIVER)])
    assert len(together) == 22
    assert (together["bad"], together["worse"]) == (1, 1)
    assert max(together.values()) > 1
