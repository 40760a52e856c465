"""The leased worker in this process: what is due it takes at once, what it does not understand it leaves to others."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from arq.worker import func

from mailer import queue
from mailer.errors import QueueUnavailable
from mailer.jobs import Status, Stream
from mailer.settings import Durability, MailerSettings
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobStore
from mailer.store.leases import LeaseStore
from mailer.store.relays import RelayStore
from mailer.store.runs import Claim, Held
from mailer.store.watch import ServerWatch
from tests.support.smtp import HANG, ScriptedRelay
from tests.support.waiting import until
from tests.support.workers import Workers, ids
from worker import engine, heartbeat
from worker.engine import LeasedWorker
from worker.preparation import Deps
from worker.relays.board import Board
from worker.relays.relay import relays_from
from worker.tasks import deliver


class LosesAnAnswer(LeaseStore):
    """The answer to the first claim that takes something does not come; `lost` is called then."""

    lost: Callable[[], None] | None = None

    async def claim(self, *args: Any, **options: Any) -> Claim:
        claim = await super().claim(*args, **options)
        if self.lost is not None and claim.jobs:
            lost, self.lost = self.lost, None
            lost()
            raise QueueUnavailable("the answer does not come")
        return claim


class GoesAway(LeaseStore):
    """Once a sign of life came through, the server is away: for the next claim, and for four signs of life."""

    tries: int | None = None
    said: list[str]
    """From then on."""

    async def claim(self, *args: Any, **options: Any) -> Claim:
        if self.tries is not None:
            self.said.append("claim")
        if self.tries:
            raise QueueUnavailable("away")
        return await super().claim(*args, **options)

    async def beat(self, *args: Any, **options: Any) -> frozenset[Held]:
        if self.said and self.tries:
            self.tries -= 1
            raise QueueUnavailable("away")
        if self.said:
            self.said.append("lives")
        lost = await super().beat(*args, **options)
        if self.tries is None:
            self.tries = 4
        return lost


@dataclass
class Engines:
    """Starts workers in this process."""

    redis: RedisClient
    leases: LeaseStore
    deps: Deps

    def make(self, **options: Any) -> LeasedWorker:
        ctx = {
            "redis": self.redis,
            "leases": self.leases,
            "deps": self.deps,
            "watch": ServerWatch(self.redis, Durability()),
            "board": Board(RelayStore(self.redis), relays_from(self.deps.settings), "this worker"),
            "lease_s": 10.0,
        }
        functions = options.pop("functions", [func(deliver, name=queue.DELIVER)])
        return LeasedWorker(functions=functions, ctx=ctx, handle_signals=False, **options)

    async def burst(self, **options: Any) -> None:
        """Until the queues are empty."""
        async with asyncio.timeout(10):
            await self.make(burst=True, **options).async_run()

    @asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator[LeasedWorker]:
        worker = self.make(**options)
        running = asyncio.create_task(worker.async_run())
        try:
            yield worker
        finally:
            await worker.close()
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

    async with engines.running(max_jobs=400, functions=[func(hold, name=queue.DELIVER)]):
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


async def test_a_worker_that_is_stopped_gives_back_what_a_claim_took_though_it_never_heard_of_it(
    engines: Engines, workers: Workers, store: JobStore, relay: ScriptedRelay, mailer_settings: MailerSettings
) -> None:
    names = ["a", "b", "c"]
    await workers.accept(*names)
    leases = LosesAnAnswer(engines.redis, mailer_settings.retention, Durability(), lease_ms=60_000)
    worker = Engines(engines.redis, leases, engines.deps).make()
    leases.lost = lambda: worker.handle_sig(signal.SIGTERM)
    async with asyncio.timeout(20):
        await worker.async_run()
    assert leases.lost is None, "no claim took anything"
    assert await all_are(store, names, "queued")
    assert [await workers.due_in_ms(job_id) <= 0 for job_id in names] == [True] * 3
    assert sorted(ids(await workers.claim("bert"))) == names
    assert [await workers.crashes(job_id) for job_id in names] == [0, 0, 0]
    assert relay.connections == 0


async def test_a_worker_that_goes_on_runs_what_it_did_not_hear_of(
    engines: Engines, workers: Workers, store: JobStore, relay: ScriptedRelay, mailer_settings: MailerSettings
) -> None:
    await workers.accept("a", "b")
    leases = LosesAnAnswer(engines.redis, mailer_settings.retention, Durability(), lease_ms=60_000)
    leases.lost = lambda: None

    async def are_sent() -> bool:
        return await all_are(store, ["a", "b"], Status.SENT)

    async with Engines(engines.redis, leases, engines.deps).running():
        await until(are_sent, what="both mails")
    assert len(relay.received) == 2


async def test_when_the_server_is_back_a_worker_says_that_it_lives_before_it_claims(
    engines: Engines, mailer_settings: MailerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so does each other, so that nobody's job is taken away because the server was gone."""
    for module in (engine, heartbeat):
        monkeypatch.setattr(module, "AWAY_S", 0.02)  # 0.5 s, shortened
    leases = GoesAway(engines.redis, mailer_settings.retention, Durability(), lease_ms=10_000)
    leases.said = []

    async def claims_again() -> bool:
        return leases.said.count("claim") >= 2

    async with Engines(engines.redis, leases, engines.deps).running():
        await until(claims_again, what="a claim after the outage")
    assert leases.said[:3] == ["claim", "lives", "claim"]


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


async def test_quarantined_jobs_take_turns_with_the_streams(engines: Engines, workers: Workers) -> None:
    """A code for a login does not wait for each job that may bring its worker down."""
    order: list[str] = []

    async def note(ctx: dict[str, Any], job_id: str) -> None:
        order.append(job_id)
        await ctx["lease"].drop()

    suspects = ("bad", "worse", "worst")
    await workers.accept(*suspects)
    for place, job_id in enumerate(suspects):
        await workers.redis.zrem(queue.QUEUE, job_id)
        await workers.redis.zadd(queue.QUARANTINE, {job_id: place})
    await workers.accept("code", stream=Stream.CRITICAL)
    await engines.burst(functions=[func(note, name=queue.DELIVER)])
    assert order == ["bad", "code", "worse", "worst"]


@pytest.mark.parametrize("field", ["v", "crashes", "starts"])
async def test_a_job_with_an_odd_number_in_its_record_stops_nobody_elses_mail(
    engines: Engines, workers: Workers, store: JobStore, field: str
) -> None:
    await workers.accept("odd", "a")
    await workers.redis.hset(keys.job("odd"), field, "many")

    async def is_sent() -> bool:
        return await all_are(store, ["a"], Status.SENT)

    async with engines.running():
        await until(is_sent, what="the other mail")
    assert await workers.redis.exists(keys.job("odd"))
