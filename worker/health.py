"""/healthz and /readyz of a worker, for orchestrators: the process runs; its queue server takes writes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mailer.store.watch import ServerWatch

STOP_S = 2


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals stay the worker's."""
        yield


def _application(watch: ServerWatch) -> Starlette:
    async def healthz(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> JSONResponse:
        await watch.fresh_look()
        blocked_by = watch.blocked_by
        body = {
            "status": "ready" if blocked_by is None else "not ready",
            "queue": blocked_by or "ok",
            "alarms": {name: alarm.detail for name, alarm in watch.alarms.items()},
        }
        return JSONResponse(body, HTTPStatus.OK if blocked_by is None else HTTPStatus.SERVICE_UNAVAILABLE)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz)])


@contextlib.asynccontextmanager
async def health_port(watch: ServerWatch, host: str, port: int) -> AsyncIterator[None]:
    """Answers while the context lasts. Raises OSError where the port cannot be used."""
    config = uvicorn.Config(
        _application(watch),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=STOP_S,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve())
    try:
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn has a flag, no event
            await asyncio.sleep(0.01)
        if task.done():
            task.result()
        yield
    finally:
        server.should_exit = True
        await task
