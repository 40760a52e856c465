"""The queue server is away for longer than a lease: what a living worker runs stays its own."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from arq.worker import func

from cli.embedded import Embedded, embedded_server
from mailer import queue
from mailer.jobs import CRASHES_TO_QUARANTINE
from mailer.server import parse_queue_url
from mailer.settings import Durability, MailerSettings
from mailer.store import keys
from mailer.store.connection import RedisClient, connect
from mailer.store.jobs import JobStore
from mailer.store.leases import LeaseStore
from mailer.store.relays import RelayStore
from mailer.store.watch import ServerWatch
from tests.support.waiting import until
from tests.support.workers import Workers
from worker import heartbeat
from worker.engine import LeasedWorker
from worker.preparation import Deps
from worker.relays.board import Board
from worker.relays.relay import relays_from

LEASE_MS = 1500
AWAY_S = 2.0


@dataclass
class Office:
    """Two workers in this process, on a queue server of their own. Each job runs until it is told to end."""

    settings: MailerSettings
    deps: Deps
    folder: Path
    servers: AsyncExitStack
    stack: AsyncExitStack
    server: Embedded
    redis: RedisClient
    workers: Workers
    engines: dict[str, LeasedWorker] = field(default_factory=dict)
    begun: list[tuple[str, str]] = field(default_factory=list)
    end: asyncio.Event = field(default_factory=asyncio.Event)

    async def hire(self, name: str) -> None:
        redis, leases = await connected(self.stack, self.server.url, self.settings)

        async def hold(ctx: dict[str, Any], job_id: str) -> None:
            self.begun.append((name, job_id))
            await self.end.wait()
            await ctx["lease"].drop()

        # lease_s is the rhythm of signs of life: the leases themselves are shorter.
        ctx = {
            "redis": redis,
            "leases": leases,
            "deps": self.deps,
            "watch": ServerWatch(redis, Durability()),
            "board": Board(RelayStore(redis), relays_from(self.deps.settings), name),
            "lease_s": 60.0,
        }
        functions = [func(hold, name=queue.DELIVER)]
        engine = self.engines[name] = LeasedWorker(functions=functions, ctx=ctx, handle_signals=False)
        running = asyncio.create_task(engine.async_run())
        self.stack.push_async_callback(self.dismiss, engine, running)

    async def dismiss(self, engine: LeasedWorker, running: asyncio.Task[None]) -> None:
        self.end.set()
        await engine.close()
        await running

    async def has_begun(self, job_id: str) -> str:
        """Who runs it."""

        async def look() -> str | None:
            return next((name for name, begun in self.begun if begun == job_id), None)

        return str(await until(look, what=f"the run of {job_id}"))

    async def is_looking(self) -> None:
        """Until an idle worker has claimed anew, and found nothing: then all have been back for a while."""
        claims = {name: engine._claims for name, engine in self.engines.items()}

        async def look() -> bool:
            return all(engine._claims > claims[name] + 1 for name, engine in self.engines.items())

        await until(look, what="the workers' next looks")


async def connected(stack: AsyncExitStack, url: str, settings: MailerSettings) -> tuple[RedisClient, LeaseStore]:
    redis = await stack.enter_async_context(connect(parse_queue_url(url)))
    return redis, LeaseStore(redis, settings.retention, Durability(), lease_ms=LEASE_MS)


@pytest.fixture
async def office(
    tmp_path: Path, mailer_settings: MailerSettings, make_deps: Callable[..., Deps], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Office]:
    monkeypatch.setattr(heartbeat, "AT_MOST_EVERY_S", LEASE_MS / 3000)
    async with AsyncExitStack() as servers, AsyncExitStack() as stack:
        server = await servers.enter_async_context(embedded_server(tmp_path))
        redis, leases = await connected(servers, server.url, mailer_settings)
        workers = Workers(JobStore(redis, Durability(), MailerSettings().retention), leases, redis)
        yield Office(mailer_settings, make_deps(), tmp_path, servers, stack, server, redis, workers)


async def killed(office: Office) -> None:
    """And started anew after a while."""
    os.kill(office.server.pid, signal.SIGKILL)
    await asyncio.sleep(AWAY_S)  # the fault itself
    await office.servers.enter_async_context(embedded_server(office.folder))


async def stopped(office: Office) -> None:
    """As with its machine: what is sent to it meanwhile it finds when it goes on, be it that nobody waits any more."""
    os.kill(office.server.pid, signal.SIGSTOP)
    with contextlib.ExitStack() as always:
        always.callback(os.kill, office.server.pid, signal.SIGCONT)
        for engine in office.engines.values():
            engine._wake()  # there is a claim among it
        await asyncio.sleep(AWAY_S)  # the fault itself


@pytest.mark.parametrize("outage", [killed, stopped])
async def test_what_a_living_worker_runs_stays_its_own(office: Office, outage: Callable[..., Any]) -> None:
    for name in ("anna", "bert"):
        await office.hire(name)
    await office.workers.accept("a")
    whose = await office.has_begun("a")
    await office.workers.redis.hset(keys.job("a"), "crashes", CRASHES_TO_QUARANTINE - 1)
    await outage(office)
    await office.is_looking()
    assert office.begun == [(whose, "a")]
    assert await office.workers.crashes("a") == CRASHES_TO_QUARANTINE - 1, "nobody died"
    assert await office.redis.exists(keys.arq_in_progress("a"))
    assert await office.workers.places("a") == [queue.QUEUE]
