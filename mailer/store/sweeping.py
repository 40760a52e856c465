"""Indexes rid of jobs whose records have ended: nothing tells when a record does."""

from collections.abc import Sequence

from mailer.jobs import Status
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.scripts import Script

LOOKED_AT = 200
"""Jobs of an index at a call."""
MOST_CALLS = 100
"""For an index at a step. Where most are gone, it shrinks as fast as it grows."""
MOST_CALLS_FOR_RECIPIENTS = 20


class Sweeper:
    """Looks at the oldest jobs of each status, which are gone first; and, so that old ones that stay shield no others,
    walks through all of them, a part at a step."""

    def __init__(self, redis: RedisClient) -> None:
        self._sweep = Script(redis, "sweep")
        self._places = dict.fromkeys(Status, 0)

    async def step(self, recipients: Sequence[str]) -> None:
        """All indexes of statuses, and these of recipients. Raises QueueUnavailable."""
        for status in Status:
            await self._walk(keys.jobs(status), 0)
            self._places[status] = await self._walk(keys.jobs(status), self._places[status])
        calls = 0
        for index in recipients:
            place = 0
            while calls < MOST_CALLS_FOR_RECIPIENTS:
                calls += 1
                seen, gone = await self._sweep([index], [keys.JOB, place, LOOKED_AT])
                place += seen - gone
                if seen < LOOKED_AT:
                    break

    async def _walk(self, index: str, place: int) -> int:
        """From a rank on for as long as most are gone. The rank to go on from; 0 at the end."""
        for _ in range(MOST_CALLS):
            seen, gone = await self._sweep([index], [keys.JOB, place, LOOKED_AT])
            place += seen - gone
            if seen < LOOKED_AT:
                return 0
            if gone < LOOKED_AT / 2:
                break
        return place
