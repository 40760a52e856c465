"""How our jobs look to arq: the function's name, the queue, the blob and its serializer pair.

The blob carries one argument, the job's id. arq's own default is pickle, which would let anyone who can write to the
queue server run code in the worker: both sides use JSON.
"""

from typing import Any

import orjson
from arq.connections import RedisSettings
from arq.constants import default_queue_name, health_check_key_suffix
from arq.jobs import serialize_job
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mailer.server import QueueServer

QUEUE = default_queue_name
HEALTH_CHECK_KEY = QUEUE + health_check_key_suffix
DELIVER = "deliver"
"""Name of the arq function that delivers a job."""


def serialize(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value)


def deserialize(raw: bytes) -> dict[str, Any]:
    value: dict[str, Any] = orjson.loads(raw)
    return value


def blob(job_id: str, enqueue_time_ms: int) -> bytes:
    """arq's job, as `ArqRedis.enqueue_job(DELIVER, job_id)` would write it."""
    return serialize_job(DELIVER, (job_id,), {}, None, enqueue_time_ms, serializer=serialize)


def arq_settings(server: QueueServer) -> RedisSettings:
    """arq's form of the address, riding out an absence of the server of about half a minute.

    A command that was under way when the server left is tried for longer, up to some minutes.

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
        retry=Retry(ExponentialBackoff(cap=1, base=0.05), 30),
        # OSError: redis-py lets a refused connection out of its retries unless it is named.
        retry_on_error=[RedisConnectionError, RedisTimeoutError, OSError],
    )
