"""The wake channel: whoever puts a job into a queue says so, and idle workers look at once."""

import asyncio
import contextlib
from collections.abc import Callable

from redis.exceptions import RedisError

from mailer.store import keys
from mailer.store.connection import RedisClient

LISTEN_S = 5.0
PAUSE_S = 0.5


async def listen(redis: RedisClient, woken: Callable[[], None]) -> None:
    """Call `woken` for each word on the channel, and whenever a new connection may have missed one. Never returns;
    while the server is away, it looks for it twice a second."""
    while True:
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with redis.pubsub() as channel:
                await channel.subscribe(keys.WAKE)
                while True:
                    # The confirmation of a subscription is a message too.
                    if await channel.get_message(timeout=LISTEN_S) is not None:
                        woken()
        await asyncio.sleep(PAUSE_S)
