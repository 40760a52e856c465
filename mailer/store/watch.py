"""The queue server under watch: does it take writes, is it set up so that nothing is lost, does it hold what it held.

What is wrong is logged when it begins, again while it lasts, and when it is over; `alarms` is what readiness tells.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from mailer.errors import QueueRefused, QueueUnavailable, SettingsError
from mailer.settings import Durability
from mailer.store import keys
from mailer.store.connection import RedisClient, command
from mailer.store.scripts import Script

log = structlog.get_logger()

LOOK_EVERY_S = 2.0
FRESH_S = 1.0
PROBE_KEPT_MS = 60_000
OLDEST = (7, 0)
OLDEST_WITH_WAITAOF = (7, 2)


@dataclass(frozen=True, slots=True)
class Alarm:
    """`blocks`: nothing can be accepted meanwhile."""

    detail: str
    blocks: bool = True

    @property
    def again_after_s(self) -> float:
        return 60.0 if self.blocks else 3600.0


TOO_OLD = "queue.too_old"
_REFUSALS = {
    "READONLY": ("queue.read_only", "it is a replica: point POSTROOM_REDIS_URL at the primary"),
    "OOM": ("queue.out_of_memory", "raise its maxmemory, or drain the queue"),
    "MISCONF": ("queue.disk_failing", "it cannot write to its disk: free space there, or mend it"),
}


def refusal(error: QueueRefused) -> tuple[str, Alarm]:
    """The alarm for what the server said. A script that ran into it says the word in the middle of its text."""
    text = str(error)
    for word, (name, fix) in _REFUSALS.items():
        if word in text.split():
            return name, Alarm(f"The queue server refuses writes ({word}): {fix}")
    return "queue.refused", Alarm(f"The queue server answers with an error: {text[:300]}")


def memory_share(info: Mapping[str, Any]) -> float | None:
    """What the server uses of the memory that it may use, or of the machine's where it has no bound of its own; from 0
    to 1. None where it does not say."""
    limit = int(info.get("maxmemory") or 0) or int(info.get("total_system_memory") or 0)
    return int(info["used_memory"]) / limit if limit and "used_memory" in info else None


def setup_alarms(info: Mapping[str, Any], durability: Durability) -> dict[str, Alarm]:
    """What INFO shows of a server on which mail could be lost, with what to set."""
    alarms: dict[str, Alarm] = {}
    found = re.match(r"(\d+)\.(\d+)", str(info.get("redis_version")))
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < OLDEST:
        alarms[TOO_OLD] = Alarm(f"The queue server is version {info.get('redis_version')}: use Valkey, or Redis 7")
    # While a server that was restarted still reads its file, it says that it writes none.
    if not int(info.get("aof_enabled", 0)) and not int(info.get("loading", 0)):
        fix = "set `appendonly yes`, and `appendfsync always` or POSTROOM_DURABILITY=fsync"
        alarms["queue.no_append_only_file"] = Alarm(
            f"A restart of the queue server loses accepted mail: {fix}", blocks=durability.fsync
        )
    if str(info.get("maxmemory_policy", "noeviction")) != "noeviction":
        alarms["queue.evicts"] = Alarm(
            f"The queue server may evict accepted mail ({info.get('maxmemory_policy')}): "
            "set `maxmemory-policy noeviction`",
            blocks=False,
        )
    if durability.fsync and version < OLDEST_WITH_WAITAOF:
        alarms["queue.no_waitaof"] = Alarm("POSTROOM_DURABILITY=fsync needs WAITAOF: use Valkey, or Redis 7.2")
    return alarms


class ServerWatch:
    def __init__(
        self, redis: RedisClient, durability: Durability, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._redis = redis
        self._durability = durability
        self._monotonic = monotonic
        self._probe = Script(redis, "probe", durability)
        self._looked_at = -FRESH_S
        self._epoch: bytes | None = None
        self._changed: dict[str, Alarm] = {}
        self._told: dict[str, float] = {}
        self.alarms: Mapping[str, Alarm] = {}
        self.memory_share: float | None = None
        """As last seen: memory_share()."""

    @property
    def blocked_by(self) -> str | None:
        """Why nothing can be accepted now; None where all is well."""
        return next((alarm.detail for alarm in self.alarms.values() if alarm.blocks), None)

    async def run(self) -> None:
        """Look every LOOK_EVERY_S seconds. Never returns."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def fresh_look(self) -> None:
        """Look, if the last look was not just now: whoever asks for readiness often does not write often."""
        if self._monotonic() - self._looked_at >= FRESH_S:
            await self.look()

    async def look(self) -> None:
        """Look once, and tell what has changed."""
        self._looked_at = self._monotonic()
        alarms: dict[str, Alarm] = {}
        try:
            alarms = await self._look_at_setup()
            await self._look_at_data()
        except QueueRefused as error:
            name, alarm = refusal(error)
            alarms[name] = alarm
        except QueueUnavailable as error:
            alarms = {"queue.unavailable": Alarm(str(error))}
        self._tell({**alarms, **self._changed})

    async def _look_at_setup(self) -> dict[str, Alarm]:
        try:
            info = await command(self._redis, "INFO")
            self.memory_share = memory_share(info)
            return setup_alarms(info, self._durability)
        except QueueRefused as error:  # a user without the right to it
            self.memory_share = None
            detail = f"How the queue server is set up cannot be seen: allow INFO ({error})"
            return {"queue.not_inspected": Alarm(detail, blocks=False)}

    def require_version(self) -> None:
        """Raises SettingsError where the server is too old to work with; not where it just does not answer."""
        if TOO_OLD in self.alarms:
            raise SettingsError(self.alarms[TOO_OLD].detail)

    async def _look_at_data(self) -> None:
        epoch = await self._probe([keys.PROBE, keys.EPOCH], [secrets.token_hex(8), PROBE_KEPT_MS])
        if self._epoch is not None and epoch != self._epoch:
            self._changed["queue.data_set_changed"] = Alarm(
                "The queue server came back with other data: what was accepted before may be lost. Restore its "
                "append-only file, or restart this process to accept the new state",
                blocks=False,
            )
        self._epoch = epoch

    def _tell(self, alarms: Mapping[str, Alarm]) -> None:
        now = self._monotonic()
        for name in self.alarms.keys() - alarms.keys():
            log.warning("queue.recovered", alarm=name)
            self._told.pop(name, None)
        for name, alarm in alarms.items():
            if name not in self._told or now - self._told[name] >= alarm.again_after_s:
                self._told[name] = now
                log.error(name, detail=alarm.detail)
        self.alarms = alarms
