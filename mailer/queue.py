"""How our jobs look to arq: the function's name, the queue, the blob and its serializer pair.

The blob carries one argument, the job's id. arq's own default is pickle, which would let anyone who can write to the
queue server run code in the worker: both sides use JSON.
"""

from typing import Any
from urllib.parse import urlsplit

import orjson
from arq.connections import RedisSettings
from arq.constants import default_queue_name, health_check_key_suffix
from arq.jobs import serialize_job
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

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


def arq_settings(url: str) -> RedisSettings:
    """arq's form of a `redis://`, `rediss://` or `unix://` address, riding out a short restart of the server.

    arq repeats no command by itself: one cut connection would end the worker.
    """
    settings = RedisSettings.from_dsn(url)
    if urlsplit(url).scheme == "rediss":
        settings.ssl_check_hostname = True
    settings.conn_timeout = 2
    settings.conn_retries = 10
    settings.retry = Retry(ExponentialBackoff(cap=1, base=0.05), 10)
    # OSError: redis-py lets a refused connection out of its retries unless it is named.
    settings.retry_on_error = [RedisConnectionError, RedisTimeoutError, OSError]
    return settings
