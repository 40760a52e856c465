"""Who takes part in a run: queue server, relays, application, API and worker processes; built up and taken down."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from mailer.jobs import Stream, UnknownPolicy
from mailer.server import parse_queue_url
from mailer.store.connection import RedisClient, connect
from mailer.store.relays import RelayStore
from tests.chaos.breakers import Breakers
from tests.chaos.mails import write_templates
from tests.chaos.moods import Moods
from tests.chaos.plan import Settings
from tests.chaos.posting import Application
from tests.chaos.queue_server import KillableServer
from tests.chaos.recovery import Recoveries
from tests.chaos.sink import Sink
from tests.chaos.source import changing_source
from tests.chaos.supervised import Supervised
from tests.support.processes import BIN, environment, free_port

SIGTERM_CODE = -15
BACKOFF = {"base_s": 0.2, "cap_s": 1, "give_up_s": 3600}
CONNECTIONS = {"first": 30, "second": 400}
"""By relay, in order. Half as many failures open a breaker: that of the first opens with most outages, that of the
second with a long one. If both did each time, nothing would be sent for half of the run."""


@dataclass(slots=True)
class Cast:
    server: KillableServer
    redis: RedisClient
    sinks: Sequence[Sink]
    application: Application
    apis: list[Supervised]
    workers: list[Supervised]
    breakers: Breakers
    recoveries: Recoveries

    @property
    def processes(self) -> list[Supervised]:
        return [*self.apis, *self.workers]

    async def are_ready(self) -> bool:
        return all(process.is_ready for process in self.processes)

    def calm_down(self) -> None:
        for sink in self.sinks:
            sink.moods.calm = True


@asynccontextmanager
async def cast(settings: Settings, folder: Path) -> AsyncIterator[Cast]:
    """All at work, until the context ends. Logs and data are in `folder`."""
    write_templates(folder / "templates")
    (folder / "logs").mkdir()
    async with AsyncExitStack() as stack:
        server = KillableServer(folder)
        stack.push_async_callback(server.end)
        await server.start()
        redis = await stack.enter_async_context(connect(parse_queue_url(server.url)))
        sinks = [await stack.enter_async_context(_sink(name, settings)) for name in CONNECTIONS]
        source = await stack.enter_async_context(changing_source())
        env = _environment(settings, folder, server.url, _relays(folder, sinks), source)
        ports = [free_port() for _ in range(settings.apis)]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        application = Application(urls, Random(f"application {settings.seed}"))
        stack.push_async_callback(application.end)
        apis = [_api(number, port, env, folder) for number, port in enumerate(ports)]
        workers = [_worker(number, env, folder) for number in range(settings.workers)]
        for process in (*apis, *workers):
            await stack.enter_async_context(_running(process))
        breakers = Breakers(RelayStore(redis), list(CONNECTIONS))
        await stack.enter_async_context(_watched(breakers))
        yield Cast(server, redis, sinks, application, apis, workers, breakers, Recoveries(server, breakers))


@asynccontextmanager
async def _sink(name: str, settings: Settings) -> AsyncIterator[Sink]:
    sink = Sink(name, Moods(Random(f"{name} {settings.seed}")), pipelining=name == "first")
    await sink.start()
    try:
        yield sink
    finally:
        await sink.end()


@asynccontextmanager
async def _watched(breakers: Breakers) -> AsyncIterator[None]:
    task = asyncio.create_task(breakers.watch())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def _running(process: Supervised) -> AsyncIterator[None]:
    task = asyncio.create_task(process.run())
    try:
        yield
    finally:
        await process.end()
        await task


def _api(number: int, port: int, env: dict[str, str], folder: Path) -> Supervised:
    command = (str(BIN / "uvicorn"), "service.main:app", "--port", str(port))
    # uvicorn shuts down in order, and then raises the signal again.
    codes = {0, SIGTERM_CODE}
    return Supervised(f"api-{number}", command, env, folder / "logs", ready=b"api.started", stopped_codes=codes)


def _worker(number: int, env: dict[str, str], folder: Path) -> Supervised:
    command = (str(BIN / "arq"), "worker.WorkerSettings")
    return Supervised(f"worker-{number}", command, env, folder / "logs", ready=b"worker.started", stopped_codes={0})


def _relays(folder: Path, sinks: Sequence[Sink]) -> Path:
    tables = [
        f'[[relays]]\nname = "{sink.name}"\nurl = "smtp://127.0.0.1:{sink.port}?tls=none"\n'
        f"connections = {CONNECTIONS[sink.name]}\n"
        for sink in sinks
    ]
    path = folder / "postroom.toml"
    path.write_text("\n".join(tables))
    return path


def _environment(settings: Settings, folder: Path, url: str, relays: Path, source: str) -> dict[str, str]:
    policy = UnknownPolicy.RESEND if settings.resend else UnknownPolicy.HOLD
    return environment(
        redis_url=url,
        config=str(relays),
        source_app=source,
        templates_dir=str(folder / "templates"),
        from_="Postroom <hello@postroom.example>",
        auth="off",
        log_format="json",
        lease_s=f"{settings.lease_s:g}",
        backoff=json.dumps(dict.fromkeys(Stream, BACKOFF)),
        unknown_policy=json.dumps(dict.fromkeys(Stream, policy)),
    )
