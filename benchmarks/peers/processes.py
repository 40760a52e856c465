"""Processes of peers: run to their end, or at work until a context ends. None outlives us, whatever it has forked."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from benchmarks.figures import family
from cli.children import end_with_parent

RUN_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 5.0
SHOWN = 2000


class PeerFailed(Exception):
    """A program of a peer ended badly; the text has the end of what it printed."""


async def run(command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
    """To its end, which must be a good one."""
    async with _started(command, env, log) as child:
        try:
            async with asyncio.timeout(RUN_TIMEOUT_S):
                status = await child.wait()
        except TimeoutError:
            raise PeerFailed(f"{command[0]} did not end within {RUN_TIMEOUT_S:g} s; see {log}") from None
    if status != 0:
        raise PeerFailed(f"{' '.join(command)} ended with {status}: {_last_words(log)}")


@asynccontextmanager
async def at_work(
    commands: Sequence[Sequence[str]], env: Mapping[str, str], log: Path
) -> AsyncIterator[Callable[[], list[int]]]:
    """All of them, until the context ends. Yields what lists their processes; it raises when one has ended."""
    async with AsyncExitStack() as stack:
        children = [await stack.enter_async_context(_started(command, env, log)) for command in commands]

        def pids() -> list[int]:
            if ended := [child for child in children if child.returncode is not None]:
                raise PeerFailed(f"a worker ended with {ended[0].returncode}: {_last_words(log)}")
            return family([child.pid for child in children])

        yield pids


async def until_gone(pids: Sequence[int]) -> None:
    """Of processes that have been killed by way of others. Linux only."""
    async with asyncio.timeout(STOP_TIMEOUT_S):
        while any(Path(f"/proc/{pid}").exists() for pid in pids):  # noqa: ASYNC110, ASYNC240 - the kernel tells nobody
            await asyncio.sleep(0.01)


async def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def _started(
    command: Sequence[str], env: Mapping[str, str], log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await _start(command, env, log)
    try:
        yield child
    finally:
        await _end(child)


async def _start(command: Sequence[str], env: Mapping[str, str], log: Path) -> asyncio.subprocess.Process:
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )


async def _end(child: asyncio.subprocess.Process) -> None:
    """TERM to it alone, as a supervisor does; KILL to its whole group, which may have outlived it."""
    try:
        if child.returncode is None:
            child.terminate()
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await child.wait()
    except TimeoutError:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-SHOWN:]
