"""`postroom worker`: one worker process for each core, kept alive; their end is ours, and ours is theirs.

The trap: a job can bring down its worker again and again, so a new one comes after a pause that grows.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from cli.children import end_with_parent
from cli.ports import require_free
from mailer.errors import SettingsError
from mailer.observability.logging import configure
from mailer.settings import MailerSettings
from worker.settings import WorkerProcessSettings

log = structlog.get_logger()

COMMAND = (sys.executable, "-m", "cli", "worker-process")
WRONG_SETTINGS = 2
"""Exit code of a worker that cannot begin; a new one could not either."""
KILLED = 1
"""Our exit code where a worker did not end by itself."""
HIGHEST_PORT = 65535
ABOVE_GRACE_S = 15.0


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds before a new worker comes: doubled with each death, from the start again once a worker lived for long."""

    first_s: float = 0.5
    longest_s: float = 30.0
    long_life_s: float = 60.0

    def after(self, pause_s: float | None, lived_s: float) -> float:
        """The next pause, after a worker that lived for `lived_s` and followed on `pause_s`."""
        if pause_s is None or lived_s >= self.long_life_s:
            return self.first_s
        return min(self.longest_s, pause_s * 2)


class Supervisor:
    """Runs `command` once in each of `environments`."""

    def __init__(
        self,
        command: Sequence[str],
        environments: Sequence[Mapping[str, str]],
        *,
        patience_s: float,
        pauses: Pauses | None = None,
    ) -> None:
        self._command = command
        self._environments = environments
        self._patience_s = patience_s
        self._pauses = pauses or Pauses()
        self._running: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        """Until told to stop, or wrong settings; the exit code."""
        async with asyncio.TaskGroup() as group:
            kept = [group.create_task(self._keep(environment)) for environment in self._environments]
            await self._stopping.wait()
            await asyncio.wait(kept, timeout=self._patience_s)
            for process in self._running:
                log.error("worker.killed", pid=process.pid, after_s=self._patience_s)
                self._code = self._code or KILLED
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        return self._code

    def stop(self, signum: signal.Signals) -> None:
        """Tell every worker; no new ones come. Told again, the workers are told again: they then wait for nothing."""
        log.info("supervisor.stopping", signal=signum.name, workers=len(self._running))
        self._stopping.set()
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                process.send_signal(signum)

    async def _keep(self, environment: Mapping[str, str]) -> None:
        pause_s: float | None = None
        while not self._stopping.is_set():
            try:
                process, began = await self._start(environment), time.monotonic()
            except OSError as error:  # no memory or no process to be had
                pause_s = self._pauses.after(pause_s, 0.0)
                log.error("worker.not_begun", detail=str(error), again_in_s=pause_s)
                await self._stopped_within(pause_s)
                continue
            log.info("worker.begun" if pause_s is None else "worker.restarted", pid=process.pid)
            code = await process.wait()
            self._running.discard(process)
            if self._stopping.is_set():
                log.info("worker.ended", pid=process.pid, exit_code=code)
            elif code == WRONG_SETTINGS and pause_s is None:
                self._code = WRONG_SETTINGS
                self.stop(signal.SIGTERM)
            else:
                pause_s = self._pauses.after(pause_s, time.monotonic() - began)
                log.error("worker.died", pid=process.pid, exit_code=code, again_in_s=pause_s)
                await self._stopped_within(pause_s)

    async def _start(self, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
        """In a session of its own, so that Ctrl-C in a terminal reaches us only, and we pass it on."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        self._running.add(process)
        if self._stopping.is_set():  # told while it was being started
            process.terminate()
        return process

    async def _stopped_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def usable_cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environments(environ: Mapping[str, str], settings: WorkerProcessSettings, processes: int) -> list[dict[str, str]]:
    """One for each worker: what differs is the health port. Raises SettingsError where a port cannot be used."""
    first = settings.worker_port
    if first is None:
        return [dict(environ) for _ in range(processes)]
    variable = WorkerProcessSettings.variable("worker_port")
    if first + processes - 1 > HIGHEST_PORT:
        raise SettingsError(f"{variable}: {first} leaves too few ports for {processes} processes")
    for port in range(first, first + processes):
        require_free(settings.worker_host, port, variable)
    return [{**environ, variable: str(port)} for port in range(first, first + processes)]


def supervise(environ: Mapping[str, str], processes: int | None) -> int:
    """Run workers until told to stop; the exit code. Raises SettingsError before anything starts."""
    from worker.main import GRACE_S  # noqa: PLC0415 - reads the settings, and so finds what is wrong in them

    mailer = MailerSettings.load(environ)
    each = environments(environ, WorkerProcessSettings.load(environ), processes or usable_cores())
    configure(mailer.log_level, mailer.log_format, "supervisor")

    async def run() -> int:
        supervisor = Supervisor(COMMAND, each, patience_s=GRACE_S + ABOVE_GRACE_S)
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, supervisor.stop, signum)
        return await supervisor.run()

    return asyncio.run(run())
