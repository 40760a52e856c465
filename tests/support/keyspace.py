"""Every key on the queue server against the table in mailer/store/keys.py: known, of its type, and bound to end?"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mailer import queue
from mailer.jobs import Status
from mailer.store import keys
from mailer.store.connection import RedisClient, answered
from mailer.store.relays import decode_state

MAY_STAY = frozenset({keys.EPOCH, keys.MAILBOX, keys.MAILBOX_COUNTER, keys.PAUSED_STREAMS, keys.WORKERS})
"""Single keys without a TTL."""
BOUNDED = keys.mailbox_message("")
"""Keys without a TTL that are removed when there are too many."""
GONE_AT_REST = (keys.ARQ_JOB, keys.ARQ_IN_PROGRESS)
QUEUES = frozenset({*queue.QUEUES.values(), queue.QUARANTINE})
AT_A_STEP = 1000
NO_TTL, NO_KEY = -1, -2
FOR_GOOD = "has no TTL"
_ROW = re.compile(r"^\| ((?:arq|postroom):[^|]*?) \| (hash|string|list|sorted set|as above)\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Kind:
    pattern: re.Pattern[str]
    type: str


def _kinds() -> Iterator[_Kind]:
    """The rows of the table; a row may name several keys, and refer to the type of the row above."""
    kind = ""
    for names, word in _ROW.findall(keys.__doc__ or ""):
        kind = kind if word == "as above" else word
        for name in names.split(", "):
            literals = re.split(r"\{\w+\}", name)
            pattern = ".+".join(re.escape(part) for part in literals)
            yield _Kind(re.compile(pattern), {"sorted set": "zset"}.get(kind, kind))


KINDS = tuple(_kinds())


async def leaks(redis: RedisClient) -> list[str]:
    """What is wrong with the keys of a server on which no job is unfinished, and no worker is at work."""
    found, cursor = [], 0
    while True:
        cursor, names = await answered(redis, redis.scan(cursor, count=AT_A_STEP))
        pipe = redis.pipeline(transaction=False)
        for name in names:
            pipe.type(name)
            pipe.pttl(name)
        answers = await answered(redis, pipe.execute(), 10.0)
        for name, kind, ttl in zip(names, answers[::2], answers[1::2], strict=True):
            trouble = _trouble(name.decode(), kind.decode(), ttl)
            if trouble == FOR_GOOD and await _is_a_paused_relay(redis, name.decode()):
                continue
            if trouble is not None and ttl != NO_KEY:
                found.append(f"{name.decode()} {trouble}")
        if cursor == 0:
            return sorted({*found, *await wrongly_indexed(redis)})


async def wrongly_indexed(redis: RedisClient) -> list[str]:
    """Jobs that stand in another index than that of their status, or in none."""
    indexed: dict[bytes, list[str]] = {}
    for status in Status:
        for job_id in await answered(redis, redis.zrange(keys.jobs(status), 0, -1), 10.0):
            indexed.setdefault(job_id, []).append(status)
    records = [name async for name in redis.scan_iter(match=keys.job("*"), count=AT_A_STEP, _type="HASH")]
    job_ids = sorted({name.removeprefix(keys.JOB.encode()) for name in records} | indexed.keys())
    pipe = redis.pipeline(transaction=False)
    for job_id in job_ids:
        pipe.hget(keys.job(job_id.decode()), "status")
    statuses = [(status or b"gone").decode() for status in await answered(redis, pipe.execute(), 60.0)]
    return [
        f"{job_id.decode()} is {status}, and in the indexes of {', '.join(indexed.get(job_id, ['none']))}"
        for job_id, status in zip(job_ids, statuses, strict=True)
        if indexed.get(job_id) != [status]
    ]


async def contents(redis: RedisClient) -> dict[bytes, bytes | None]:
    """Each key's value as the server dumps it, but for what looking at the server leaves there."""
    names = {*await redis.keys("*")} - {keys.PROBE.encode(), keys.EPOCH.encode()}
    return {name: await redis.dump(name) for name in sorted(names)}


async def _is_a_paused_relay(redis: RedisClient, name: str) -> bool:
    """What somebody paused stays so until somebody resumes it."""
    if not name.startswith(keys.relay("")):
        return False
    return decode_state(await answered(redis, redis.get(name))).paused_at is not None


def _trouble(name: str, kind: str, ttl: int) -> str | None:
    known = [item for item in KINDS if item.pattern.fullmatch(name)]
    if not known:
        return "is in no row of mailer/store/keys.py"
    if all(item.type != kind for item in known):
        return f"is a {kind}"
    if name in QUEUES:
        return "is a queue that is not empty"
    if name.startswith(GONE_AT_REST):
        return "belongs to an unfinished job"
    if ttl == NO_TTL and name not in MAY_STAY and not name.startswith((BOUNDED, keys.JOBS)):
        return FOR_GOOD
    return None
