"""People of a run, who cancel, move and retry jobs, and pause streams, while everything else goes wrong."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import httpx

CONTROLLED = 0.15
"""Share of the jobs that somebody does something to."""
WITHIN_S = 1.0
LATER_S = 0.5
"""Jobs of killed workers are waited for: a job must not be moved far away."""
PAUSED_S = (0.05, 0.5)
EVERY_S = (0.5, 4.0)
ALL_AGAIN = 0.05
"""Share of these moments at which somebody retries all that was cancelled, instead of pausing a stream."""
STREAMS = ("critical", "normal", "bulk")
PATIENCE_S = 120.0
PAUSE_S = (0.05, 0.3)
ANSWERED = frozenset({200, 409})
"""Else nobody knows what became of it, and it is said again."""


class People:
    """`done`: how often each control was answered how. `surprises`: answers that no promise covers."""

    def __init__(self, client: httpx.AsyncClient, urls: Sequence[str], random: Random) -> None:
        self.done: Counter[str] = Counter()
        self.surprises: list[str] = []
        self._client = client
        self._urls = urls
        self._random = random

    async def look_at(self, job_id: str) -> None:
        if self._random.random() >= CONTROLLED:
            return
        await asyncio.sleep(self._random.uniform(0, WITHIN_S))
        if self._random.random() < 1 / 3:
            await self._move(job_id)
            return
        cancelled = await self._say("cancel", "POST", f"/jobs/{job_id}/cancel")
        if cancelled == httpx.codes.OK and self._random.random() < 1 / 2:
            await asyncio.sleep(self._random.uniform(0, LATER_S))
            await self._say("retry", "POST", f"/jobs/{job_id}/retry")

    async def _move(self, job_id: str) -> None:
        if self._random.random() < 1 / 2:
            await self._say("move", "PATCH", f"/jobs/{job_id}", {"stream": self._random.choice(STREAMS)})
        else:
            soon = datetime.now(UTC) + timedelta(seconds=self._random.uniform(0, LATER_S))
            await self._say("reschedule", "PATCH", f"/jobs/{job_id}", {"send_at": soon.isoformat()})

    @contextlib.asynccontextmanager
    async def at_the_streams(self) -> AsyncIterator[None]:
        """Meanwhile somebody pauses streams and resumes them. In the end none is paused."""
        meddling = asyncio.create_task(self._meddle())
        try:
            yield
        finally:
            meddling.cancel()
            await asyncio.gather(meddling, return_exceptions=True)
            for stream in STREAMS:
                await self._say("resume", "POST", f"/streams/{stream}/resume")

    async def _meddle(self) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(*EVERY_S))
            if self._random.random() < ALL_AGAIN:
                await self._say("retry all", "POST", "/jobs/retry", {"status": "cancelled"})
                continue
            stream = self._random.choice(STREAMS)
            await self._say("pause", "POST", f"/streams/{stream}/pause")
            await asyncio.sleep(self._random.uniform(*PAUSED_S))
            await self._say("resume", "POST", f"/streams/{stream}/resume")

    async def _say(self, name: str, method: str, path: str, body: dict[str, Any] | None = None) -> int | None:
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while asyncio.get_running_loop().time() < deadline:
            url = self._random.choice(self._urls)
            try:
                answer = await self._client.request(method, f"{url}{path}", json=body)
            except httpx.TransportError:
                pass  # that API has been killed
            else:
                if answer.status_code in ANSWERED:
                    self.done[f"{name} {answer.status_code}"] += 1
                    return answer.status_code
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    self.surprises.append(f"{method} {path} was answered {answer.status_code}: {answer.text[:200]}")
                    return None
            await asyncio.sleep(self._random.uniform(*PAUSE_S))
        self.surprises.append(f"{method} {path} was not answered within {PATIENCE_S:g} s")
        return None
