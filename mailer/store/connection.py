"""The connection to the queue server, and the one edge where redis exceptions become ours."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from mailer.errors import QueueUnavailable

RedisClient = Redis

CONNECT_TIMEOUT_S = 0.5
REPLY_TIMEOUT_S = 1.5
CALL_TIMEOUT_S = 1.8
"""Bound of one call with all its repeats: the API promises its 503 within 2 s."""


def connect(url: str) -> RedisClient:
    """A client for `url`; no connection is made before the first command.

    A command whose connection breaks is repeated a few times. That is safe because every script of ours is idempotent.
    """
    client: RedisClient = Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=REPLY_TIMEOUT_S,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), 4),
        retry_on_error=[RedisConnectionError],
        health_check_interval=15,
    )
    return client


@asynccontextmanager
async def guarded(timeout_s: float = CALL_TIMEOUT_S) -> AsyncIterator[None]:
    """Run commands within `timeout_s` seconds; what the server or the network does wrong is QueueUnavailable."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except (RedisError, TimeoutError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise QueueUnavailable(f"The queue server does not answer: {reason}") from error
