"""The wake channel: whoever puts a job into a queue says so, and idle workers look at once."""

import asyncio
import contextlib
from collections.abc import Callable

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from mailer.store import keys
from mailer.store.connection import RedisClient

LISTEN_S = 5.0
PONG_S = 2.0
PAUSE_S = 0.5


async def listen(redis: RedisClient, woken: Callable[[], None]) -> None:
    """Call `woken` for each word on the channel, and whenever a new connection may have missed one. Never returns.

    A line that stays silent is asked whether it lives, and replaced; while the server is away, it is looked for twice a
    second.
    """
    while True:
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with redis.pubsub() as channel:
                await channel.subscribe(keys.WAKE)
                while await _hears(channel):
                    woken()  # the confirmation of a subscription, and a sign of life, count too: a look costs little
        await asyncio.sleep(PAUSE_S)


async def _hears(channel: PubSub) -> bool:
    """Wait for a word; False where the line is dead."""
    if await channel.get_message(timeout=LISTEN_S) is not None:
        return True
    await channel.ping()
    return await channel.get_message(timeout=PONG_S) is not None
