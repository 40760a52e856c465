"""`postroom check` at the queue server: does it answer and take writes, and is it set up so that nothing is lost."""

import asyncio
import contextlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cli.findings import Finding, Section, State, broken, ok, warning
from cli.resolving import resolve
from mailer.errors import QueueUnavailable
from mailer.server import QueueServer
from mailer.settings import MailerSettings
from mailer.store.connection import RedisClient, command, connect
from mailer.store.relays import KnownRelay, RelayStore
from mailer.store.watch import Alarm, ServerWatch

RESOLVE_S = 10.0
PLACES = {
    "queue.too_old": "version",
    "queue.no_append_only_file": "persistence",
    "queue.no_waitaof": "persistence",
    "queue.evicts": "eviction",
    "queue.not_inspected": "setup",
}
"""The line of each of the watch's alarms; all others are about writes."""
ORDER = ("setup", "version", "persistence", "eviction", "writes")


@dataclass(frozen=True, slots=True)
class Shared:
    """What workers told of relays, by their names, and the queue server's time (ms)."""

    relays: Mapping[str, KnownRelay] = field(default_factory=dict)
    now: int = 0


async def check_queue(settings: MailerSettings) -> tuple[Section, Shared]:
    server = settings.queue_server
    if (unresolved := await _unresolved(server)) is not None:
        return Section((unresolved,)), Shared()
    async with connect(server) as redis:
        watch = ServerWatch(redis, settings.durable)
        await watch.look()
        if (unavailable := watch.alarms.get("queue.unavailable")) is not None:
            fix = "Start the queue server, or correct its address, user and password in POSTROOM_REDIS_URL."
            return Section((broken("connection", unavailable.detail, fix),)), Shared()
        well = [*await _setup(redis, synced=settings.durable.fsync), ok("writes", "taken")]
        ill = [_alarm(name, alarm) for name, alarm in watch.alarms.items()]
        told = {finding.name for finding in ill}
        findings = [*(finding for finding in well if finding.name not in told), *ill]
        return Section(tuple(sorted(findings, key=lambda finding: ORDER.index(finding.name)))), await _shared(redis)


async def _unresolved(server: QueueServer) -> Finding | None:
    """Asked for here, so that a name server that does not answer is told as such."""
    if server.socket_path is not None:
        return None
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(server.host)
        return None
    try:
        async with asyncio.timeout(RESOLVE_S):
            await resolve(server.host, server.port)
    except TimeoutError:
        detail = f"The name server does not say within {RESOLVE_S:g} s where {server.host} is."
        return broken("name", detail, "Look at this machine's network and its name servers.")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        return broken("name", f"{server.host} cannot be resolved: {reason}", "Correct the host in POSTROOM_REDIS_URL.")
    return None


def _alarm(name: str, alarm: Alarm) -> Finding:
    return Finding(State.BROKEN if alarm.blocks else State.WARNING, PLACES.get(name, "writes"), alarm.detail)


def _persistence(appendfsync: str | None, *, synced: bool) -> Finding:
    if synced:
        return ok("persistence", "append-only file, and what is accepted is synced to it (POSTROOM_DURABILITY=fsync)")
    if appendfsync in {"everysec", "no"}:
        lost = "up to a second of accepted mail" if appendfsync == "everysec" else "accepted mail"
        return warning(
            "persistence",
            f"A crash of the queue server's machine loses {lost}: appendfsync is {appendfsync}.",
            "Set `appendfsync always` there, or POSTROOM_DURABILITY=fsync here.",
        )
    return ok("persistence", f"append-only file, appendfsync {appendfsync or 'is not shown to us'}")


async def _setup(redis: RedisClient, *, synced: bool) -> tuple[Finding, ...]:
    """As it should be, where no alarm says otherwise. Nothing where the server does not tell, which is an alarm."""
    try:
        info: dict[str, Any] = await command(redis, "INFO")
    except QueueUnavailable:
        return ()
    return (
        ok("version", _version(info)),
        _persistence(await _appendfsync(redis), synced=synced),
        ok("eviction", "none (maxmemory-policy noeviction)"),
    )


async def _appendfsync(redis: RedisClient) -> str | None:
    """None where the server does not let us ask, as managed ones do."""
    with contextlib.suppress(QueueUnavailable):
        answer = await command(redis, "CONFIG", "GET", "appendfsync")
        pairs = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
        return next((_text(value) for name, value in pairs.items() if _text(name) == "appendfsync"), None)
    return None


def _version(info: Mapping[str, Any]) -> str:
    name = str(info.get("server_name", "redis")).capitalize()
    return f"{name} {info.get(f'{name.lower()}_version') or info.get('redis_version')}"


async def _shared(redis: RedisClient) -> Shared:
    with contextlib.suppress(QueueUnavailable):
        known, now = await RelayStore(redis).overview()
        return Shared({relay.description.name: relay for relay in known}, now)
    return Shared()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
