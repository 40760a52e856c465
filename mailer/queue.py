"""How our jobs look to arq: the function's name, the queue, the blob and its serializer pair.

The blob carries one argument, the job's id. arq's own default is pickle, which would let anyone who can write to the
queue server run code in the worker: both sides use JSON.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import orjson
from arq.connections import RedisSettings
from arq.constants import default_queue_name, health_check_key_suffix
from arq.jobs import serialize_job
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mailer.server import QueueServer

QUEUE = default_queue_name
HEALTH_CHECK_KEY = QUEUE + health_check_key_suffix
DELIVER = "deliver"
"""Name of the arq function that delivers a job."""

PATIENCE_S = 25.0
T = TypeVar("T")


def serialize(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value)


def deserialize(raw: bytes) -> dict[str, Any]:
    value: dict[str, Any] = orjson.loads(raw)
    return value


def blob(job_id: str, enqueue_time_ms: int) -> bytes:
    """arq's job, as `ArqRedis.enqueue_job(DELIVER, job_id)` would write it."""
    return serialize_job(DELIVER, (job_id,), {}, None, enqueue_time_ms, serializer=serialize)


class _Patience(Retry):
    """Repeats for PATIENCE_S seconds in all. redis-py nests its retries, of the command and of the connecting in it, so
    that counting alone would multiply: a worker told to stop would look for a dead server for a quarter of an hour."""

    def __init__(self) -> None:
        super().__init__(ExponentialBackoff(cap=1, base=0.05), -1)
        self._until: float | None = None

    async def call_with_retry(self, do: Callable[[], Awaitable[T]], fail: Callable[[RedisError], Any]) -> T:
        outermost = self._until is None
        until = self._until = self._until or time.monotonic() + PATIENCE_S

        async def fail_in_time(error: RedisError) -> None:
            await fail(error)
            if time.monotonic() > until:
                raise error

        try:
            return await super().call_with_retry(do, fail_in_time)
        finally:
            if outermost:
                self._until = None


def arq_settings(server: QueueServer) -> RedisSettings:
    """arq's form of the address, riding out an absence of the server of PATIENCE_S seconds.

    arq repeats no command by itself: one cut connection would end the worker.
    """
    return RedisSettings(
        host=server.host,
        port=server.port,
        unix_socket_path=server.socket_path,
        database=server.database,
        username=server.username,
        password=server.password,
        ssl=server.tls,
        ssl_check_hostname=server.tls,
        conn_timeout=2,
        conn_retries=0,
        retry=_Patience(),
        # OSError: redis-py lets a refused connection out of its retries unless it is named.
        retry_on_error=[RedisConnectionError, RedisTimeoutError, OSError],
    )
