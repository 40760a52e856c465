"""The connection to the queue server, and the one edge where redis exceptions become ours."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

import hiredis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from mailer.errors import QueueRefused, QueueUnavailable, WritesRefused
from mailer.server import QueueServer

RedisClient = Redis
T = TypeVar("T")

CONNECT_TIMEOUT_S = 0.5
WRITES_REFUSED = frozenset({"READONLY", "OOM", "MISCONF"})
"""Words that stand in an error for as long as the server takes no writes; a script's error has them in the middle."""
REPLY_TIMEOUT_S = 1.7
"""Longer than a sync may take (scripts.py): else what the server says of it would not be heard."""
CALL_TIMEOUT_S = 1.8
"""Bound of one call with all its repeats: the API promises its 503 within 2 s."""


class _Connection:
    """Redis-py's, but for two things. It packs a command in one go, where redis-py copies what it has of it for each
    further word: eight times as long for a batch. And it understands uvloop's word for a connection that was lost."""

    def pack_command(self, name: str, *words: str | bytes | float) -> list[bytes]:
        packed = hiredis.pack_command((*name.split(), *words))  # type: ignore[arg-type]  # its stub has one word only
        return [packed]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        try:
            await super().send_packed_command(command, check_health)  # type: ignore[misc]  # of the class beside it
        except RuntimeError as error:
            raise RedisConnectionError(str(error)) from error


def connect(server: QueueServer) -> RedisClient:
    """A client; no connection is made before the first command.

    A command whose connection breaks is repeated a few times. That is safe because every script of ours is idempotent.
    One that gets no answer in time is not: redis-py would wait REPLY_TIMEOUT_S for each repeat, and under uvloop it can
    swallow the cancellation that should bound them all.
    """
    options: dict[str, Any] = {"unix_socket_path": server.socket_path}
    if server.socket_path is None:
        options = {"host": server.host, "port": server.port}
        if server.tls:
            options |= {"ssl": True, "ssl_check_hostname": True}
    client: RedisClient = Redis(
        **options,
        db=server.database,
        username=server.username,
        password=server.password,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=REPLY_TIMEOUT_S,
        lib_name=None,  # else each new connection asks for two more replies
        lib_version=None,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), 4, supported_errors=(RedisConnectionError,)),
        retry_on_error=[RedisConnectionError],  # for subscriptions, which look at this list instead
    )
    pool = client.connection_pool
    pool.connection_class = type("Connection", (_Connection, pool.connection_class), {})
    return client


async def answered(redis: RedisClient, call: Coroutine[Any, Any, T], timeout_s: float = CALL_TIMEOUT_S) -> T:
    """The result of commands within `timeout_s` seconds; what the server or the network does wrong is QueueUnavailable.

    A call that is late is cancelled and left to itself: waiting for its end could take as long as the call.
    """
    task = asyncio.get_running_loop().create_task(call)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(_forget)
    if not task.done():
        raise QueueUnavailable(f"The queue server did not answer within {timeout_s:g} s")
    try:
        return task.result()
    except ResponseError as error:
        if isinstance(error, ReadOnlyError):
            await _let_go(redis)
        words = _words(error)
        refused = WritesRefused if WRITES_REFUSED.intersection(words.split()) else QueueRefused
        raise refused(words) from error
    except (RedisError, TimeoutError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise QueueUnavailable(f"The queue server does not answer: {reason}") from error


async def command(client: RedisClient, *words: str | int) -> Any:
    """One command and its answer, as `answered`."""
    return await answered(client, client.execute_command(*words))  # type: ignore[no-untyped-call]  # redis-py leaves it untyped


async def _let_go(redis: RedisClient) -> None:
    """After a failover the address may lead to the new primary: what is open leads to the old one. A dead peer may make
    even closing fail."""
    with contextlib.suppress(RedisError, OSError, TimeoutError):
        await redis.connection_pool.disconnect(inuse_connections=False)


def _words(error: ResponseError) -> str:
    """What the server said. redis-py cuts the first word off where it has a class for it."""
    prefix = {"OutOfMemoryError": "OOM ", "NoScriptError": "NOSCRIPT ", "ReadOnlyError": "READONLY "}
    return prefix.get(type(error).__name__, "") + str(error)


def _forget(task: asyncio.Task[Any]) -> None:
    """Take note of what became of a call that nobody waits for."""
    if not task.cancelled():
        task.exception()
