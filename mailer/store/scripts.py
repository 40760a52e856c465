"""The scripts in lua/, run by their digest and, where it is asked for, synced to disk before they count as done.

A server that was restarted knows no scripts: all of them are sent again, so that no call has to wait twice for the disk
because its script is not there yet.
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
def _sources() -> dict[str, str]:
    folder = resources.files("mailer.store") / "lua"
    return {item.name.removesuffix(".lua"): item.read_text() for item in folder.iterdir()}


@cache
def _digest(name: str) -> str:
    return sha1(_sources()[name].encode(), usedforsecurity=False).hexdigest()


class Script:
    """One script. `durability`: None where a loss costs nothing but a repetition."""

    def __init__(self, redis: RedisClient, name: str, durability: Durability | None = None) -> None:
        self._redis = redis
        self._name = name
        self._durability = durability if durability is not None and durability.fsync else None

    async def __call__(self, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Its reply. Raises QueueUnavailable; the call may then be repeated with the same arguments."""
        return await answered(self._redis, self._run(keys, args))

    async def _run(self, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        try:
            return await self._once(keys, args)
        except NoScriptError:
            await self._load_all()
            return await self._once(keys, args)

    async def _load_all(self) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for source in _sources().values():
            pipe.execute_command("SCRIPT LOAD", source)
        await pipe.execute()

    async def _once(self, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        words = ("EVALSHA", _digest(self._name), len(keys), *keys, *args)
        if self._durability is None:
            return await self._redis.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        pipe = self._redis.pipeline(transaction=False)  # one connection: WAITAOF looks at what this one wrote
        pipe.execute_command(*words)
        pipe.execute_command("EVALSHA", _digest("sync"), 1, keys_of.SYNCED, SYNCED_KEPT_MS)
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
