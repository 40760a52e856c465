"""A process that is started again each time that it died, and whose every death is accounted for."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.children import end_with_parent
from tests.support.processes import ROOT

STOPS_WITHIN_S = 75.0
"""The worker's grace time, and some more."""
STARTS_WITHIN_S = 20.0
THAWS_WITHIN_S = 2.0
WATCHDOG_CODE = -signal.SIGALRM
CALM_S = 0.5
"""Before another start of one that died by itself."""


@dataclass(frozen=True, slots=True)
class Death:
    """One that was not asked for, or not as it was asked for."""

    what: str
    code: int
    log: Path

    def __str__(self) -> str:
        return f"{self.what} ended with {self.code}, see {self.log.name}"


class Supervised:
    """`ready`: what its log says once it is at work. `stopped_codes`: how it may end on SIGTERM."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        logs: Path,
        *,
        ready: bytes,
        stopped_codes: Collection[int],
    ) -> None:
        self.name = name
        self.deaths: list[Death] = []
        self.longest_stop_s = 0.0
        self._command, self._env, self._logs = command, env, logs
        self._ready, self._stopped_codes = ready, stopped_codes
        self._lives = 0
        self._child: asyncio.subprocess.Process | None = None
        self._told: signal.Signals | None = None
        self._ending = False

    @property
    def may_be_hit(self) -> bool:
        return self._child is not None and self._child.returncode is None and self._told is None

    @property
    def is_ready(self) -> bool:
        return self.may_be_hit and self._ready in self._log.read_bytes()

    @property
    def _log(self) -> Path:
        return self._logs / f"{self.name}.{self._lives}.log"

    async def run(self) -> None:
        """Until `end`."""
        while not self._ending:
            await self._start()
            assert self._child is not None
            code = await self._child.wait()
            if self._is_strange(code):
                self.deaths.append(Death(f"{self.name} (pid {self._child.pid})", code, self._log))
                await asyncio.sleep(CALM_S)

    async def kill(self) -> int:
        """kill -9. Its pid."""
        child = self._child
        assert child is not None
        self._told = signal.SIGKILL
        child.kill()
        await child.wait()
        return child.pid

    async def stop(self) -> None:
        """SIGTERM, and its end."""
        if self._child is None or self._child.returncode is not None:
            return
        child, began = self._child, time.monotonic()
        self._told = signal.SIGTERM
        child.terminate()
        try:
            async with asyncio.timeout(STOPS_WITHIN_S):
                await child.wait()
        except TimeoutError:
            child.kill()  # and its code says that it did not stop by itself
            await child.wait()
        self.longest_stop_s = max(self.longest_stop_s, time.monotonic() - began)

    async def freeze(self, for_s: float) -> None:
        """SIGSTOP, and SIGCONT later. It may go on, or its watchdog ends it."""
        child = self._child
        assert child is not None
        self._told = signal.SIGSTOP
        child.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(for_s)
        finally:
            child.send_signal(signal.SIGCONT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(THAWS_WITHIN_S):
                await child.wait()
        if child is self._child and child.returncode is None:
            self._told = None

    async def end(self) -> None:
        """Stop it, once it is at work: before that a SIGTERM is what it is for any process."""
        self._ending = True
        deadline = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < deadline:
            if self.is_ready or not self.may_be_hit:
                break
            await asyncio.sleep(0.05)
        await self.stop()

    async def _start(self) -> None:
        self._lives += 1
        with self._log.open("wb") as log:
            child = await asyncio.create_subprocess_exec(
                *self._command,
                env=dict(self._env),
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                preexec_fn=end_with_parent,
            )
        self._child, self._told = child, None

    def _is_strange(self, code: int) -> bool:
        if self._told is signal.SIGKILL:
            return code != -signal.SIGKILL
        if self._told is signal.SIGTERM:
            return code not in self._stopped_codes
        if self._told is signal.SIGSTOP:
            return code != WATCHDOG_CODE
        return True
