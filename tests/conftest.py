"""Fixtures for all: one real queue server for the session, everything else anew for each test."""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn

from cli.embedded import embedded_server
from mailer.addresses import parse_address
from mailer.catalogue import TemplateLibrary
from mailer.http import GuardedClient
from mailer.server import parse_queue_url
from mailer.settings import Durability, MailerSettings
from mailer.store.connection import RedisClient, connect
from mailer.store.jobs import JobStore
from mailer.store.leases import LeaseStore
from service.app import create_app
from service.settings import ServiceSettings
from tests.support.smtp import ScriptedRelay, scripted_relay
from tests.support.source import Application, application
from worker.fetch import Fetcher
from worker.preparation import Deps
from worker.relays.board import Unshared
from worker.relays.pool import Pool
from worker.relays.relay import relays_from
from worker.relays.router import Router
from worker.relays.timeouts import Timeouts
from worker.settings import WorkerProcessSettings

TEMPLATES = Path(__file__).parents[1] / "templates"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("POSTROOM_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
async def queue_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The embedded server, or the one that TEST_QUEUE_URL names: its data is lost."""
    if url := os.environ.get("TEST_QUEUE_URL"):
        yield url
        return
    async with embedded_server(tmp_path_factory.mktemp("queue")) as server:
        yield server.url


@pytest.fixture
async def redis(queue_url: str) -> AsyncIterator[RedisClient]:
    async with connect(parse_queue_url(queue_url)) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def fsync(redis: RedisClient) -> Durability:
    """POSTROOM_DURABILITY=fsync, where the server knows it: one of TEST_QUEUE_URL may not."""
    if b"waitaof" not in await redis.command_list():
        pytest.skip("this queue server has no WAITAOF: it takes Valkey, or Redis 7.2")
    return Durability(fsync=True)


@pytest.fixture
def mailer_settings(queue_url: str) -> MailerSettings:
    return MailerSettings.load(
        {
            "POSTROOM_REDIS_URL": queue_url,
            "POSTROOM_TEMPLATES_DIR": str(TEMPLATES),
            "POSTROOM_FROM": "Postroom <hello@postroom.example>",
        }
    )


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals stay pytest's."""
        yield


@contextlib.asynccontextmanager
async def served(mailer_settings: MailerSettings, **service: str) -> AsyncIterator[httpx.AsyncClient]:
    """The API on a real socket, and a client for it."""
    settings = ServiceSettings.load({f"POSTROOM_{name.upper()}": value for name, value in service.items()})
    config = uvicorn.Config(create_app(mailer_settings, settings), port=0, log_config=None, access_log=False, ws="none")
    server = _Server(config)
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if task.done():
                await task
            await asyncio.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=70) as client:
            yield client
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def api(redis: RedisClient, mailer_settings: MailerSettings) -> AsyncIterator[httpx.AsyncClient]:
    """The API without authentication."""
    async with served(mailer_settings, auth="off") as client:
        yield client


@pytest.fixture
def store(redis: RedisClient, mailer_settings: MailerSettings) -> JobStore:
    return JobStore(redis, mailer_settings.durable, mailer_settings.retention)


@pytest.fixture
def leases(redis: RedisClient, mailer_settings: MailerSettings) -> LeaseStore:
    return LeaseStore(redis, mailer_settings.retention, mailer_settings.durable, lease_ms=10_000)


@pytest.fixture
async def relay() -> AsyncIterator[ScriptedRelay]:
    async with scripted_relay() as server:
        yield server


@pytest.fixture
def app_source() -> Iterator[Application]:
    """What `sources.app` is: it knows user 42 and order 1042."""
    from cli.demo import order, user

    with application() as source:
        source.answers |= {"/users/42": user(42), "/orders/1042": order(1042)}
        yield source


@pytest.fixture(scope="session")
def library() -> TemplateLibrary:
    """The shipped templates, compiled once."""
    return TemplateLibrary(TEMPLATES)


@pytest.fixture
async def make_deps(
    library: TemplateLibrary, relay: ScriptedRelay, app_source: Application
) -> AsyncIterator[Callable[..., Deps]]:
    """Deps as worker/main.py builds them, on the test's relay, source and templates."""
    async with AsyncExitStack() as stack:
        hosts = [urlsplit(app_source.url).hostname or ""]
        client = await stack.enter_async_context(GuardedClient(hosts))

        def make(*, smtp_url: str | None = None, timeouts: Timeouts | None = None, **worker: str) -> Deps:
            environ = {"POSTROOM_SMTP_URL": smtp_url or relay.url}
            environ |= {f"POSTROOM_{name.upper()}": value for name, value in worker.items()}
            settings = WorkerProcessSettings.load(environ)
            router = Router([Pool(relay, timeouts) for relay in relays_from(settings)], Unshared())
            stack.push_async_callback(router.close)
            return Deps(
                templates=library,
                fetcher=Fetcher(client, {"app": app_source.url}, {}),
                router=router,
                settings=settings,
                default_from=parse_address("Postroom <hello@postroom.example>"),
                random=random.Random(1).random,
            )

        yield make
