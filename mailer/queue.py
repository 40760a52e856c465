"""How our jobs look to arq: the function's name, the queues, the blob and its serializer pair.

The blob carries one argument, the job's id. arq's own default is pickle, which would let anyone who can write to the
queue server run code in the worker: both sides use JSON.
"""

from dataclasses import dataclass
from typing import Any

import orjson
from arq.connections import RedisSettings
from arq.constants import default_queue_name, health_check_key_suffix
from arq.jobs import DeserializationError, deserialize_job_raw, serialize_job

from mailer.jobs import Stream
from mailer.server import QueueServer

QUEUE = default_queue_name
QUEUES: dict[Stream, str] = {
    Stream.CRITICAL: f"{QUEUE}:critical",
    Stream.NORMAL: QUEUE,
    Stream.BULK: f"{QUEUE}:bulk",
}
"""A queue for each stream, in the order in which workers look for work."""
QUARANTINE = f"{QUEUE}:quarantine"
"""Where jobs wait whose worker died twice: they run alone."""
HEALTH_CHECK_KEY = QUEUE + health_check_key_suffix
DELIVER = "deliver"
"""Name of the arq function that delivers a job."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a blob asks for."""

    function: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def serialize(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value)


def deserialize(raw: bytes) -> dict[str, Any]:
    value: dict[str, Any] = orjson.loads(raw)
    return value


def blob(job_id: str, enqueue_time_ms: int) -> bytes:
    """arq's job, as `ArqRedis.enqueue_job(DELIVER, job_id)` would write it."""
    return serialize_job(DELIVER, (job_id,), {}, None, enqueue_time_ms, serializer=serialize)


def read_blob(raw: bytes) -> Call | None:
    """What a blob asks for; None where nobody here can read it."""
    try:
        content: tuple[Any, ...] = deserialize_job_raw(raw, deserializer=deserialize)
    except DeserializationError:
        return None
    function, args, kwargs, *_ = content
    if isinstance(function, str) and isinstance(args, list) and isinstance(kwargs, dict):
        return Call(function, tuple(args), kwargs)
    return None


def arq_settings(server: QueueServer) -> RedisSettings:
    """arq's form of the address, for `arq --check`. The worker itself uses mailer.store."""
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
    )
