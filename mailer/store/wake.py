"""The wake channel: whoever puts a job into a queue says so, and idle workers look at once."""

from collections.abc import Callable

from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.listening import listen


async def listen_for_work(redis: RedisClient, woken: Callable[[], None]) -> None:
    """Call `woken` for each word on the channel, and whenever one may have been missed. Never returns."""
    await listen(redis, keys.WAKE, lambda _: woken(), lambda: True)
