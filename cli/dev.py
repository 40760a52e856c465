"""`postroom dev`: queue server, API, worker, mailbox and demo application from one terminal, stopped in order."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from cli.children import end_with_parent
from cli.children import stop as stop_child
from cli.demo import DemoApplication
from cli.embedded import embedded_server
from cli.mailbox import serve_mailbox
from cli.ports import require_free
from cli.settings import DevSettings
from mailer import __version__
from mailer.catalogue import load_catalogue
from mailer.errors import PostroomError
from mailer.observability.logging import configure
from mailer.server import parse_queue_url
from mailer.settings import MailerSettings
from mailer.store.connection import connect
from mailer.store.jobs import JobStore
from mailer.store.mailbox import MailboxStore
from service.settings import ServiceSettings

LOOPBACK = "127.0.0.1"
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 80.0
"""Longer than `postroom worker` waits for its processes, which is longer than their grace time."""

EXAMPLE = """curl -s localhost:{port}/jobs -H 'content-type: application/json' \\
        -d '{{"event": "user.signed_up", "data": {{"id": 42}}}}'"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What dev mode will run, checked before anything starts."""

    mailer: MailerSettings
    service: ServiceSettings
    dev: DevSettings
    own_queue: str | None

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Plan":
        mailer = MailerSettings.load(environ)
        named = environ.get("POSTROOM_REDIS_URL") or environ.get("POSTROOM_REDIS_URL_FILE")
        plan = cls(
            mailer=mailer,
            own_queue=mailer.redis_url.get_secret_value() if named else None,
            service=ServiceSettings.load(environ),
            dev=DevSettings.load(environ),
        )
        for port, variable in (
            (plan.service.port, "POSTROOM_PORT"),
            (plan.dev.mailbox_smtp_port, "POSTROOM_MAILBOX_SMTP_PORT"),
            (plan.dev.demo_port, "POSTROOM_DEMO_PORT"),
        ):
            require_free(LOOPBACK, port, variable)
        return plan

    def environment(self, redis_url: str) -> dict[str, str]:
        """For API and worker: mail is captured here, whatever relay the terminal's environment names."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("POSTROOM_SMTP_", "POSTROOM_API_", "POSTROOM_REDIS_")) and name != "POSTROOM_CONFIG"
        }
        return {
            "POSTROOM_SOURCE_APP": f"http://{LOOPBACK}:{self.dev.demo_port}",
            "POSTROOM_FROM": "Postroom Demo <hello@postroom.example>",
            "POSTROOM_LOG_FORMAT": "console",
            **inherited,
            "POSTROOM_REDIS_URL": redis_url,
            "POSTROOM_SMTP_URL": f"smtp://{LOOPBACK}:{self.dev.mailbox_smtp_port}?tls=none&name=mailbox",
            "POSTROOM_AUTH": "off",
            "POSTROOM_HOST": LOOPBACK,
            "POSTROOM_TEMPLATES_RELOAD": "on",
            "PYTHONUNBUFFERED": "1",
        }


async def run_dev(environ: Mapping[str, str]) -> None:
    """Start everything, say where it is, run until Ctrl-C. Raises PostroomError when a part does not start, or ends."""
    began = time.monotonic()
    plan = Plan.read(environ)
    configure(plan.mailer.log_level, plan.mailer.log_format, "dev")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    async with AsyncExitStack() as stack:
        if plan.own_queue is None:
            server = await stack.enter_async_context(embedded_server(plan.dev.data_dir))
            redis_url, engine = server.url, server.engine
            queue_line = f"{engine.name.capitalize()} {engine.version} (embedded, AOF)  {_short(server.data_dir)}"
        else:
            redis_url, queue_line = plan.own_queue, "POSTROOM_REDIS_URL"
        redis = await stack.enter_async_context(connect(parse_queue_url(redis_url)))
        demo = DemoApplication(LOOPBACK, plan.dev.demo_port)
        stack.callback(demo.close)
        await stack.enter_async_context(serve_mailbox(MailboxStore(redis), LOOPBACK, plan.dev.mailbox_smtp_port))
        environment = plan.environment(redis_url)
        # Stopped in reverse: the API first, so that nothing new comes in, then the worker, which finishes its mail.
        worker = await stack.enter_async_context(_child("worker", "--processes", "1", environment=environment))
        api = await stack.enter_async_context(_child("serve", environment=environment))
        children = {"worker": worker, "API": api}

        await _until_ready(
            children, stop, plan.service.port, JobStore(redis, plan.mailer.durable, plan.mailer.retention)
        )
        if not stop.is_set():
            _say_where(plan, queue_line, time.monotonic() - began)
            await _until_stopped(children, stop)
        print("\nStopping: API, worker, mailbox, demo application, queue server ...", flush=True)  # noqa: T201 - dev mode talks to a terminal
    print("Stopped. The queue's data is kept.", flush=True)  # noqa: T201 - dev mode talks to a terminal


@asynccontextmanager
async def _child(*command: str, environment: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", *command),
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )
    try:
        yield process
    finally:
        await stop_child(process, STOP_TIMEOUT_S)


async def _until_ready(
    children: dict[str, asyncio.subprocess.Process], stop: asyncio.Event, port: int, jobs: JobStore
) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    async with httpx.AsyncClient(trust_env=False, timeout=1) as client:
        while not stop.is_set():
            for name, process in children.items():
                if process.returncode is not None:
                    raise PostroomError(f"The {name} ended with code {process.returncode}; its log above says why.")
            if time.monotonic() > deadline:
                raise PostroomError(f"Not ready within {READY_TIMEOUT_S:g} s; the log above says why.")
            try:
                answer = await client.get(f"http://{LOOPBACK}:{port}/readyz")
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.is_success and await jobs.worker_is_alive():
                return
            await asyncio.sleep(0.02)


async def _until_stopped(children: dict[str, asyncio.subprocess.Process], stop: asyncio.Event) -> None:
    waits = {asyncio.create_task(process.wait()): name for name, process in children.items()}
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({stopped, *waits}, return_when=asyncio.FIRST_COMPLETED)
        ended = [waits[task] for task in done if task in waits]
        if ended and not stop.is_set():
            raise PostroomError(f"The {ended[0]} ended by itself; its log above says why.")
    finally:
        for task in (stopped, *waits):
            task.cancel()


def _say_where(plan: Plan, queue_line: str, seconds: float) -> None:
    port = plan.service.port
    catalogue = load_catalogue(plan.mailer.templates_dir)
    base = f"http://localhost:{port}"
    lines = [
        f"Postroom {__version__} - dev mode: mail is captured here, nothing leaves this machine",
        f"  queue    {queue_line}",
        f"  mailbox  SMTP {LOOPBACK}:{plan.dev.mailbox_smtp_port}         templates  {len(catalogue.templates)}",
        f"  demo     http://localhost:{plan.dev.demo_port}/users/42",
        f"  api      {base}       ready in {seconds:.1f} s",
        *(f"  broken   template {name}: {trouble}" for name, trouble in catalogue.broken.items()),
        f"  Mailbox {base}/mailbox    API docs {base}/docs",
        "Try:  " + EXAMPLE.format(port=port),
        "Ctrl-C stops everything; what is queued stays.",
    ]
    print("\n".join(lines), flush=True)  # noqa: T201 - dev mode talks to a terminal


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
