"""People of a run, who cancel, move and retry jobs while everything else goes wrong."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import httpx

CONTROLLED = 0.15
"""Share of the jobs that somebody does something to."""
WITHIN_S = 1.0
LATER_S = 0.5
"""Jobs of killed workers are waited for: a job must not be moved far away."""
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
            await self._say("PATCH", job_id, "", {"stream": self._random.choice(["critical", "normal", "bulk"])})
            return
        cancelled = await self._say("POST", job_id, "/cancel")
        if cancelled == httpx.codes.OK and self._random.random() < 1 / 2:
            await asyncio.sleep(self._random.uniform(0, LATER_S))
            await self._say("POST", job_id, "/retry")

    async def _say(self, method: str, job_id: str, control: str, body: dict[str, Any] | None = None) -> int | None:
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while asyncio.get_running_loop().time() < deadline:
            url = self._random.choice(self._urls)
            try:
                answer = await self._client.request(method, f"{url}/jobs/{job_id}{control}", json=body)
            except httpx.TransportError:
                pass  # that API has been killed
            else:
                if answer.status_code in ANSWERED:
                    self.done[f"{control.strip('/') or 'move'} {answer.status_code}"] += 1
                    return answer.status_code
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    self.surprises.append(f"{method} {control} was answered {answer.status_code}: {answer.text[:200]}")
                    return None
            await asyncio.sleep(self._random.uniform(*PAUSE_S))
        self.surprises.append(f"{method} {control} was not answered within {PATIENCE_S:g} s")
        return None
