"""A queue server that is tried out: whether mail would be lost on it, in words with the fix."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cli.check_queue import check_queue
from cli.findings import Section, State
from mailer.relays import RelayDescription
from mailer.settings import MailerSettings
from mailer.store.connection import RedisClient
from mailer.store.relays import RelayStore


async def found(settings: MailerSettings) -> Section:
    return (await check_queue(settings))[0]


def lines(section: Section) -> dict[str, str]:
    return {finding.name: f"{finding.state} {finding.detail}" for finding in section.findings}


@asynccontextmanager
async def configured(redis: RedisClient, name: str, value: str) -> AsyncIterator[None]:
    before = (await redis.config_get(name))[name]
    await redis.config_set(name, value)
    try:
        yield
    finally:
        await redis.config_set(name, before)


async def test_a_server_that_loses_nothing_is_told_line_by_line(
    redis: RedisClient, mailer_settings: MailerSettings
) -> None:
    async with configured(redis, "appendfsync", "always"):
        seen = lines(await found(mailer_settings))
    assert list(seen) == ["version", "persistence", "eviction", "writes"]
    assert seen["version"].startswith(("ok Valkey ", "ok Redis "))
    assert seen["persistence"] == "ok append-only file, appendfsync always"


async def test_a_server_that_syncs_once_a_second_is_a_warning_unless_we_have_it_synced(
    redis: RedisClient, mailer_settings: MailerSettings
) -> None:
    async with configured(redis, "appendfsync", "everysec"):
        section = await found(mailer_settings)
        synced = await found(mailer_settings.model_copy(update={"durability": "fsync"}))
    assert section.state is State.WARNING
    assert "up to a second" in lines(section)["persistence"]
    assert "synced to it" in lines(synced)["persistence"]


async def test_a_server_that_evicts_is_a_warning(redis: RedisClient, mailer_settings: MailerSettings) -> None:
    async with configured(redis, "appendfsync", "always"), configured(redis, "maxmemory-policy", "allkeys-lru"):
        section = await found(mailer_settings)
    assert section.state is State.WARNING
    assert "maxmemory-policy noeviction" in lines(section)["eviction"]


async def test_a_server_that_takes_no_writes_is_broken(redis: RedisClient, mailer_settings: MailerSettings) -> None:
    async with configured(redis, "appendfsync", "always"), configured(redis, "maxmemory", "1"):
        section = await found(mailer_settings)
    assert section.state is State.BROKEN
    assert lines(section)["writes"].startswith("broken The queue server refuses writes (OOM)")


async def test_a_user_without_the_rights_to_look_is_told_what_could_be_seen(
    redis: RedisClient, mailer_settings: MailerSettings, queue_url: str
) -> None:
    if not queue_url.startswith("unix://"):
        pytest.skip("the user is written into the socket's URL")
    await redis.execute_command("ACL", "SETUSER", "seer", "on", ">hunter2", "~*", "&*", "+@all", "-info", "-config")
    try:
        url = queue_url.replace("unix://", "unix://seer:hunter2@")
        settings = MailerSettings.load({"POSTROOM_REDIS_URL": url})
        seen = lines(await found(settings))
    finally:
        await redis.execute_command("ACL", "DELUSER", "seer")
    assert list(seen) == ["setup", "writes"]
    assert seen["setup"].startswith("warning How the queue server is set up cannot be seen: allow INFO")


async def test_nobody_there_and_a_name_that_leads_nowhere_are_broken() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        section = await found(MailerSettings.load({"POSTROOM_REDIS_URL": f"redis://127.0.0.1:{port}"}))
    (finding,) = section.findings
    assert (finding.state, finding.name) == (State.BROKEN, "connection")
    assert "POSTROOM_REDIS_URL" in (finding.fix or "")
    (finding,) = (await found(MailerSettings.load({"POSTROOM_REDIS_URL": "redis://queue.invalid"}))).findings
    assert (finding.state, finding.name) == (State.BROKEN, "name")
    assert "queue.invalid cannot be resolved" in finding.detail


async def test_what_workers_told_of_relays_is_known_then(redis: RedisClient, mailer_settings: MailerSettings) -> None:
    await RelayStore(redis).tell([RelayDescription("ses", 0, "mail.example", 587, "starttls", 30)])
    _, shared = await check_queue(mailer_settings)
    assert list(shared.relays) == ["ses"]
    assert shared.now > 0
