"""The scripts in lua/, run by their digest and, where it is asked for, synced to disk before they count as done.

A server that was restarted knows no scripts: they are sent again, once.
"""

from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from importlib import resources
from typing import Any

from redis.exceptions import NoScriptError

from mailer.errors import QueueUnavailable
from mailer.settings import Durability
from mailer.store import keys as keys_of
from mailer.store.connection import RedisClient, answered

SYNCED_KEPT_MS = 60_000
SYNC_TIMEOUT_S = 1.5
"""How long a sync may take; under `appendfsync everysec` the server begins one each second."""


@cache
def _source(name: str) -> str:
    return (resources.files("mailer.store") / "lua" / f"{name}.lua").read_text()


class Script:
    """One script. `durability`: None where a loss costs nothing but a repetition."""

    def __init__(self, redis: RedisClient, name: str, durability: Durability | None = None) -> None:
        self._redis = redis
        self._source = _source(name)
        self._digest = sha1(self._source.encode(), usedforsecurity=False).hexdigest()
        self._durability = durability if durability is not None and durability.fsync else None

    async def __call__(self, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Its reply. Raises QueueUnavailable; the call may then be repeated with the same arguments."""
        return await answered(self._redis, self._run(keys, args))

    async def _run(self, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        try:
            return await self._once("EVALSHA", self._digest, keys, args)
        except NoScriptError:
            return await self._once("EVAL", self._source, keys, args)

    async def _once(self, command: str, script: str, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        words = (command, script, len(keys), *keys, *args)
        if self._durability is None:
            return await self._redis.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        pipe = self._redis.pipeline(transaction=False)  # one connection: WAITAOF looks at what this one wrote
        pipe.execute_command(*words)
        pipe.execute_command("EVAL", _source("sync"), 1, keys_of.SYNCED, SYNCED_KEPT_MS)
        pipe.execute_command("WAITAOF", 1, self._durability.replicas, int(SYNC_TIMEOUT_S * 1000))
        reply, written, synced = await pipe.execute(raise_on_error=False)
        for item in (reply, written, synced):
            if isinstance(item, Exception):
                raise item
        here, elsewhere = synced
        if here < 1 or elsewhere < self._durability.replicas:
            raise QueueUnavailable(
                f"Not synced to disk within {SYNC_TIMEOUT_S:g} s (appendfsync must be everysec or always): "
                f"here {here} of 1, on replicas {elsewhere} of {self._durability.replicas}"
            )
        return reply
