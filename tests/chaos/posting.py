"""The application of a run: posts each job until it is accepted, on whichever API answers, always with the same key."""

import asyncio
import uuid
from collections.abc import Sequence
from random import Random

import httpx

from tests.chaos.controlling import People
from tests.chaos.mails import Post

AT_ONCE = 24
PATIENCE_S = 120.0
PAUSE_S = (0.05, 0.3)
AGAIN = 0.05
"""Share of the jobs that are posted once more after they were accepted: the same job has to come back."""
TRY_AGAIN = frozenset({503})


class Application:
    """`accepted`: the recipients of each job, by its id. `surprises`: answers that no promise covers."""

    def __init__(self, urls: Sequence[str], random: Random) -> None:
        self.accepted: dict[str, tuple[str, ...]] = {}
        self.surprises: list[str] = []
        self.tries = 0
        self._urls = urls
        self._random = random
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._client = httpx.AsyncClient(trust_env=False, timeout=10, limits=httpx.Limits(max_connections=AT_ONCE))
        self.people = People(self._client, urls, random)

    async def end(self) -> None:
        await self._client.aclose()

    async def post_all(self, posts: Sequence[Post], times: Sequence[float]) -> None:
        """Each at its time, in seconds from now."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with self.people.at_the_streams(), asyncio.TaskGroup() as tasks:
            for post, at_s in zip(posts, times, strict=True):
                await asyncio.sleep(max(0.0, began + at_s - loop.time()))
                tasks.create_task(self._post(post))

    async def _post(self, post: Post) -> None:
        async with self._at_once:
            key = uuid.UUID(int=self._random.getrandbits(128)).hex
            first = self._random.randrange(len(self._urls))
            job_id = await self._until_accepted(post, key, first)
            if job_id is None:
                return
            if job_id in self.accepted:
                self.surprises.append(f"two posts with two keys became one job, {job_id}")
            self.accepted[job_id] = post.recipients
            if self._random.random() < AGAIN:
                again = await self._until_accepted(post, key, first + 1)
                if again != job_id:
                    self.surprises.append(f"one key became two jobs, {job_id} and {again}")
            await self.people.look_at(job_id)

    async def _until_accepted(self, post: Post, key: str, api: int) -> str | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_S
        while loop.time() < deadline:
            self.tries += 1
            url = self._urls[api % len(self._urls)]
            api += 1
            try:
                answer = await self._client.post(f"{url}/jobs", json=post.body, headers={"Idempotency-Key": key})
            except httpx.TransportError:
                pass  # that API has been killed: nobody knows whether it accepted
            else:
                if answer.status_code == httpx.codes.ACCEPTED:
                    return str(answer.json()["id"])
                if answer.status_code not in TRY_AGAIN:
                    self.surprises.append(f"a post was answered with {answer.status_code}: {answer.text[:200]}")
                    return None
            await asyncio.sleep(self._random.uniform(*PAUSE_S))
        self.surprises.append(f"a post was not accepted within {PATIENCE_S:g} s")
        return None
