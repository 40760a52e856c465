"""Every key on the queue server against the table in mailer/store/keys.py: known, of its type, and bound to end?"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mailer import queue
from mailer.store import keys
from mailer.store.connection import RedisClient, answered
from mailer.store.relays import decode_state

MAY_STAY = frozenset({keys.EPOCH, keys.MAILBOX, keys.MAILBOX_COUNTER})
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
            return sorted(set(found))


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
    if ttl == NO_TTL and name not in MAY_STAY and not name.startswith(BOUNDED):
        return FOR_GOOD
    return None
