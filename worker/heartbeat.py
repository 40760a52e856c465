"""A worker's signs of life: they extend its leases, and tell it which of them it has lost."""

import asyncio
import contextlib

import structlog

from mailer.errors import QueueUnavailable
from mailer.store.leases import LeaseStore
from worker.quarantine import Quarantine
from worker.running import Runs

log = structlog.get_logger()

IN_A_LEASE = 3
AT_MOST_EVERY_S = 3.0
HEALTH_S = 10
"""How long the last one counts for `arq --check`."""
AWAY_S = 0.5
"""Between two tries to reach a queue server that is away."""


class Heartbeat:
    """`beaten`: one came through since that was last set to False."""

    def __init__(self, name: str, leases: LeaseStore, runs: Runs, quarantine: Quarantine, lease_s: float) -> None:
        self._name = name
        self._leases = leases
        self._runs = runs
        self._quarantine = quarantine
        self._every_s = min(AT_MOST_EVERY_S, lease_s / IN_A_LEASE)
        self._now = asyncio.Event()
        self.beaten = False

    def hasten(self) -> None:
        """The next one now."""
        self.beaten = False
        self._now.set()

    async def run(self) -> None:
        """Never returns."""
        while True:
            wait_s = self._every_s
            try:
                await self._beat()
            except QueueUnavailable:
                wait_s = min(AWAY_S, self._every_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._now.wait()
            self._now.clear()

    async def _beat(self) -> None:
        lost = await self._leases.beat(
            self._name,
            self._runs.held(),
            f"runs={len(self._runs)} before_journal={self._runs.before_journal} worker={self._name}",
            HEALTH_S * 1000,
            journaled=self._runs.journaled(),
            is_holder=self._quarantine.is_here,
        )
        self.beaten = True
        if stopped := self._runs.stop(lost):  # not among them: a run whose end overtook this beat
            log.error("job.lease_lost", job_ids=stopped)
