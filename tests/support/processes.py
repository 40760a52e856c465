"""Postroom's real processes, as a user starts them, on ports of their own."""

import asyncio
import itertools
import json
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


_PORTS = range(10_000, 32_000)
"""Below those that a system gives to outgoing connections: such a one could take a port between our look and its use.
So could another process of a test run that looks at the same moment; each begins somewhere else."""
_ports = itertools.cycle(random.SystemRandom().sample(_PORTS[::4], len(_PORTS[::4])))


def free_port(together: int = 1) -> int:
    """The first of so many free ports in a row, four at the most."""
    return next(port for port in _ports if all(_is_free(port + n) for n in range(together)))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without its POSTROOM_* variables, with `redis_url=...` as POSTROOM_REDIS_URL."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
    own = {f"POSTROOM_{name.rstrip(chr(95)).upper()}": value for name, value in settings.items()}
    return clean | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)} | own


@asynccontextmanager
async def process(
    *command: str, env: Mapping[str, str], log: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs until the context ends, then SIGTERM and, after 20 s, SIGKILL. Output goes to `log`."""
    output = log.open("ab") if log else None
    child = await asyncio.create_subprocess_exec(
        *command, env=dict(env), cwd=ROOT, stdout=output or asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.STDOUT
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(20):
                    await child.wait()
            except TimeoutError:
                child.kill()
                await child.wait()
        if output:
            output.close()


@asynccontextmanager
async def api_process(env: Mapping[str, str], log: Path | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """`uvicorn service.main:app`, ready, and a client for it."""
    async with mortal_api(env, log) as (_, client):
        yield client


@asynccontextmanager
async def mortal_api(
    env: Mapping[str, str], log: Path | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    """The same, with its process."""
    port = free_port()
    command = (str(BIN / "uvicorn"), "service.main:app", "--port", str(port))
    async with (
        process(*command, env=env, log=log) as child,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client,
    ):

        async def is_up() -> bool:
            assert child.returncode is None, f"the API ended; see {log}"
            try:
                return (await client.get("/healthz")).is_success
            except httpx.TransportError:
                return False

        await until(is_up, what="the API's start")
        yield child, client


@asynccontextmanager
async def worker_process(env: Mapping[str, str], log: Path | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """`arq worker.WorkerSettings`."""
    async with process(str(BIN / "arq"), "worker.WorkerSettings", env=env, log=log) as child:
        yield child


@asynccontextmanager
async def workers_at_work(
    number: int, env: Mapping[str, str], log: Path
) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """So many, and all of them have started. They have to log JSON, nobody else starts any."""
    log.touch()  # noqa: ASYNC240 - a test's own file
    before = len(logged(log, "worker.started"))
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(worker_process(env, log)) for _ in range(number)]
        await said(log, "worker.started", before + number)
        yield workers


@asynccontextmanager
async def supervised_workers(
    env: Mapping[str, str], log: Path | None = None, processes: int = 1
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`postroom worker --processes N`."""
    command = (str(BIN / "postroom"), "worker", "--processes", str(processes))
    async with process(*command, env=env, log=log) as child:
        yield child


def children(pid: int) -> list[int]:
    """Of a process's main thread. Linux only."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_gone(pid: int) -> bool:
    """Ended, be it that nobody has asked for its exit code yet. Linux only."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def logged(log: Path, event: str) -> list[dict[str, Any]]:
    """The lines that processes have logged under this name so far, oldest first."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
    return [line for line in lines if line.get("event") == event]


async def said(log: Path, event: str, times: int) -> None:
    """Until processes have logged this so often."""

    async def look() -> bool:
        return len(logged(log, event)) == times

    await until(look, what=f"{event}, {times} times")
