"""Words on a channel of the queue server, for as long as somebody wants to hear them."""

import asyncio
import contextlib
from collections.abc import Callable

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from mailer.store.connection import RedisClient

LISTEN_S = 5.0
PONG_S = 2.0
PAUSE_S = 0.5


async def listen(redis: RedisClient, name: str, heard: Callable[[bytes], None], goes_on: Callable[[], bool]) -> None:
    """Call `heard` for each word on the channel, and with an empty one whenever a new connection may have missed some.
    Returns, within LISTEN_S seconds, once `goes_on` is False.

    A line that stays silent is asked whether it lives, and replaced; while the server is away, it is looked for twice a
    second.
    """
    while goes_on():
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with redis.pubsub() as channel:
                await channel.subscribe(name)
                while goes_on() and (word := await _word(channel)) is not None:
                    _leave_if_cancelled()
                    heard(word)
        if goes_on():
            await asyncio.sleep(PAUSE_S)


def _leave_if_cancelled() -> None:
    """wait_for of Python 3.11, through which redis-py writes, can swallow a cancellation: nobody would cancel again."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _word(channel: PubSub) -> bytes | None:
    """The next word. The confirmation of a subscription, and a sign of life, are empty; None: the line is dead."""
    message = await channel.get_message(timeout=LISTEN_S)
    if message is None:
        await channel.ping()
        message = await channel.get_message(timeout=PONG_S)
    if message is None:
        return None
    word: bytes = message["data"] if message["type"] == "message" else b""
    return word
