"""Who waits for something to happen to a job hears of it at once: by one connection, open while anybody waits."""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator

from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.listening import listen

MOST_WATCHERS = 1000


class Moves:
    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._watchers: set[tuple[frozenset[str], asyncio.Event]] = set()
        self._listening: asyncio.Task[None] | None = None
        self.are_over = False
        """This process ends: nobody should wait any longer."""

    @contextlib.contextmanager
    def watching(self, job_ids: Iterable[str]) -> Iterator[asyncio.Event | None]:
        """An event that is set whenever one of the jobs may have moved: look at them first, then each time that it is
        set. None where MOST_WATCHERS wait already."""
        if len(self._watchers) >= MOST_WATCHERS:
            yield None
            return
        watcher = (frozenset(job_ids), asyncio.Event())
        self._watchers.add(watcher)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(
                listen(self._redis, keys.MOVED, self._heard, lambda: bool(self._watchers))
            )
        try:
            yield watcher[1]
        finally:
            self._watchers.discard(watcher)

    def end(self) -> None:
        """Everybody who waits is woken, and finds that it is over."""
        self.are_over = True
        for _, event in self._watchers:
            event.set()

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    def _heard(self, word: bytes) -> None:
        moved = frozenset(word.decode().split())
        for job_ids, event in self._watchers:
            if not moved or not moved.isdisjoint(job_ids):
                event.set()
