"""`arq worker.WorkerSettings`: the leased worker under arq's command line.

Every attribute is spelled out, for arq ignores inherited ones; a test compares them with arq's own signature.
"""

import asyncio
import contextlib
import os
import random
import secrets
from contextlib import AsyncExitStack
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import arq.worker
import structlog
import uvloop
from arq.worker import func, run_worker

from mailer import queue
from mailer.catalogue import TemplateLibrary
from mailer.errors import QueueUnavailable
from mailer.http import GuardedClient
from mailer.observability.logging import configure
from mailer.settings import MailerSettings, unknown_variables
from mailer.store.connection import connect
from mailer.store.leases import LeaseStore
from mailer.store.relays import RelayStore
from mailer.store.watch import ServerWatch
from worker.delivery import LONGEST_ATTEMPT_S
from worker.engine import POLL_S, LeasedWorker
from worker.fetch import Fetcher
from worker.health import health_port
from worker.heartbeat import HEALTH_S
from worker.preparation import Deps
from worker.relays.board import Board, RelayBoard
from worker.relays.pool import Pool
from worker.relays.relay import relays_from
from worker.relays.router import Router
from worker.settings import WorkerProcessSettings, read_secrets, read_sources
from worker.tasks import deliver
from worker.watchdog import watchdog

log = structlog.get_logger()

GRACE_S = 60
arq.worker.Worker = LeasedWorker  # type: ignore[misc]  # arq's command line looks its Worker up by this name
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # by which arq makes its loop

_mailer_settings = MailerSettings.load(os.environ)
_settings = WorkerProcessSettings.load(os.environ)
_relays = relays_from(_settings)
_sources = read_sources(os.environ)
_secret_values = read_secrets(os.environ)


async def open_deps(stack: AsyncExitStack, board: RelayBoard) -> Deps:
    """What deliveries need, closed in reverse when the stack is."""
    hosts = [urlsplit(url).hostname or "" for url in _sources.values()]
    client = await stack.enter_async_context(GuardedClient(hosts))
    router = Router([Pool(relay, share=partial(board.pace, relay.name)) for relay in _relays], board)
    stack.push_async_callback(router.close)
    return Deps(
        templates=TemplateLibrary(_mailer_settings.templates_dir, reload=_mailer_settings.templates_reload),
        fetcher=Fetcher(client, _sources, _secret_values),
        router=router,
        settings=_settings,
        default_from=_mailer_settings.from_,
        random=random.random,
    )


async def startup(ctx: dict[str, Any]) -> None:
    configure(_mailer_settings.log_level, _mailer_settings.log_format, "worker")
    for warning in unknown_variables(os.environ):
        log.warning("settings.unknown_variable", detail=warning)
    stack = AsyncExitStack()
    ctx["stack"] = stack
    redis = await stack.enter_async_context(connect(_mailer_settings.queue_server))
    durability, lease_ms = _mailer_settings.durable, int(_settings.lease_s * 1000)
    watch = ServerWatch(redis, durability)
    await watch.look()
    watch.require_version()
    board = Board(RelayStore(redis), _relays, secrets.token_hex(8))
    with contextlib.suppress(QueueUnavailable):
        await board.look()  # before the first claim: a paused relay must not be asked
    deps = await open_deps(stack, board)
    leases = LeaseStore(redis, _mailer_settings.retention, durability, lease_ms)
    ctx.update(deps=deps, redis=redis, leases=leases, watch=watch, board=board, lease_s=_settings.lease_s)
    await stack.enter_async_context(watchdog(_settings.lease_s))
    if _settings.worker_port is not None:
        await stack.enter_async_context(health_port(watch, _settings.worker_host, _settings.worker_port))
    catalogue = deps.templates.catalogue(deps.monotonic())
    for name, trouble in catalogue.broken.items():
        log.error("template.broken", template=name, detail=trouble)
    log.info(
        "worker.started",
        slots=_settings.worker_slots,
        templates=len(catalogue.templates),
        relays=[relay.name for relay in _relays],
    )


async def shutdown(ctx: dict[str, Any]) -> None:
    if "stack" in ctx:
        await ctx.pop("stack").aclose()
    log.info("worker.stopped")


class WorkerSettings:
    """Read by arq. The queue server and the relay come from the environment."""

    functions = (func(deliver, name=queue.DELIVER),)
    queue_name = queue.QUEUE
    cron_jobs = None
    redis_settings = queue.arq_settings(_mailer_settings.queue_server)
    redis_pool = None
    burst = False
    on_startup = startup
    on_shutdown = shutdown
    on_job_start = None
    on_job_end = None
    after_job_end = None
    handle_signals = True
    job_completion_wait = GRACE_S  # for mails whose final dot is written; the others are given back at once
    max_jobs = _settings.worker_slots
    job_timeout = LONGEST_ATTEMPT_S  # told, not used: each step of a run has a bound of its own
    keep_result = 0  # the record tells how a job ended
    keep_result_forever = False
    poll_delay = POLL_S
    queue_read_limit = None
    max_tries = 2**31 - 1  # not used: attempts and crashes are counted in the record
    health_check_interval = HEALTH_S
    health_check_key = queue.HEALTH_CHECK_KEY
    ctx = None
    retry_jobs = True
    allow_abort_jobs = False
    max_burst_jobs = -1
    job_serializer = queue.serialize  # the default is pickle
    job_deserializer = queue.deserialize
    expires_extra_ms = 2**53  # blobs are written without a TTL; this would only matter for arq's own enqueue
    timezone = None
    log_results = False


def run() -> None:
    """Run a worker in this process until a signal ends it."""
    run_worker(WorkerSettings)  # type: ignore[arg-type]  # arq's own protocol is narrower than what it accepts
