"""What is wrong with the queue server is told once, by name and with its mend, again while it lasts, and at its end."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from mailer.errors import QueueRefused, SettingsError
from mailer.server import parse_queue_url
from mailer.settings import Durability
from mailer.store import keys
from mailer.store.connection import RedisClient, connect
from mailer.store.watch import Alarm, ServerWatch, refusal, setup_alarms

GOOD = {"redis_version": "7.2.4", "aof_enabled": 1, "maxmemory_policy": "noeviction"}
SERVER, FSYNC = Durability(), Durability(fsync=True)


@pytest.mark.parametrize("durability", [SERVER, FSYNC])
@pytest.mark.parametrize("version", ["7.2.4", "8.0.0", "10.1.0"])
def test_a_server_that_loses_nothing_raises_no_alarm(durability, version):
    assert setup_alarms({**GOOD, "redis_version": version}, durability) == {}


@pytest.mark.parametrize(
    ("shown", "durability", "name", "blocks", "mend"),
    [
        ({"aof_enabled": 0}, SERVER, "queue.no_append_only_file", False, "appendonly yes"),
        ({"aof_enabled": 0}, FSYNC, "queue.no_append_only_file", True, "appendonly yes"),
        ({"maxmemory_policy": "allkeys-lru"}, SERVER, "queue.evicts", False, "maxmemory-policy noeviction"),
        ({"redis_version": "6.2.14"}, SERVER, "queue.too_old", True, "Redis 7"),
        ({"redis_version": "7.0.15"}, FSYNC, "queue.no_waitaof", True, "Redis 7.2"),
    ],
)
def test_a_server_on_which_mail_could_be_lost_is_told_with_its_mend(shown, durability, name, blocks, mend):
    alarms = setup_alarms({**GOOD, **shown}, durability)
    assert list(alarms) == [name]
    assert alarms[name].blocks is blocks
    assert mend in alarms[name].detail


def test_a_server_of_7_0_is_new_enough_where_nothing_is_synced():
    assert setup_alarms({**GOOD, "redis_version": "7.0.15"}, SERVER) == {}


def test_a_server_that_tells_nothing_of_itself_is_not_trusted():
    assert {"queue.too_old", "queue.no_append_only_file"} <= set(setup_alarms({}, SERVER))


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("READONLY You can't write against a read only replica.", "queue.read_only"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "queue.out_of_memory"),
        ("MISCONF Errors writing to the AOF file: No space left on device", "queue.disk_failing"),
        ("ERR Error running script: @user_script: 9: OOM command not allowed", "queue.out_of_memory"),
        ("NOPERM this user has no permissions to run the 'evalsha' command", "queue.refused"),
        ("WRONGTYPE a key named BOOM or OOMPH", "queue.refused"),
    ],
)
def test_a_refusal_is_told_by_what_the_operator_has_to_mend(said, name):
    found, alarm = refusal(QueueRefused(said))
    assert (found, alarm.blocks) == (name, True)


def test_what_stops_mail_is_told_each_minute_and_the_rest_each_hour():
    assert (Alarm("x").again_after_s, Alarm("x", blocks=False).again_after_s) == (60, 3600)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(redis: RedisClient, clock: Clock) -> ServerWatch:
    return ServerWatch(redis, SERVER, clock)


async def told(watch: ServerWatch) -> list[str]:
    """The machine names of what a look at the server has logged."""
    with capture_logs() as logs:
        await watch.look()
    return [f"{line['event']} {line.get('alarm', '')}".strip() for line in logs]


async def test_a_server_that_is_well_is_not_talked_of(watch: ServerWatch) -> None:
    assert await told(watch) == []
    assert (dict(watch.alarms), watch.blocked_by) == ({}, None)


async def test_what_is_wrong_is_told_once_and_again_while_it_lasts_and_when_it_is_over(
    watch: ServerWatch, redis: RedisClient, clock: Clock
) -> None:
    await redis.config_set("maxmemory", 1)
    try:
        assert await told(watch) == ["queue.out_of_memory"]
        assert "maxmemory" in (watch.blocked_by or "")
        clock.now += 59
        assert await told(watch) == []
        clock.now += 2
        assert await told(watch) == ["queue.out_of_memory"]
    finally:
        await redis.config_set("maxmemory", 0)
    assert await told(watch) == ["queue.recovered queue.out_of_memory"]
    assert watch.blocked_by is None
    await redis.config_set("maxmemory", 1)
    try:
        assert await told(watch) == ["queue.out_of_memory"], "a new trouble is told at once"
    finally:
        await redis.config_set("maxmemory", 0)


async def test_a_server_that_became_a_replica_blocks(watch: ServerWatch, redis: RedisClient) -> None:
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        assert await told(watch) == ["queue.read_only"]
        assert "primary" in (watch.blocked_by or "")
    finally:
        await redis.execute_command("REPLICAOF", "NO", "ONE")
    assert await told(watch) == ["queue.recovered queue.read_only"]


async def test_a_server_that_may_evict_is_told_and_stops_nobodys_mail(watch: ServerWatch, redis: RedisClient) -> None:
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert await told(watch) == ["queue.evicts"]
        assert watch.blocked_by is None
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")
    assert await told(watch) == ["queue.recovered queue.evicts"]


async def test_a_server_that_came_back_empty_is_told_until_somebody_has_looked(
    watch: ServerWatch, redis: RedisClient
) -> None:
    await watch.look()
    await redis.flushall()
    assert await told(watch) == ["queue.data_set_changed"]
    assert await told(watch) == []
    assert (list(watch.alarms), watch.blocked_by) == (["queue.data_set_changed"], None)


async def test_a_server_that_is_not_there_blocks() -> None:
    async with connect(parse_queue_url("redis://127.0.0.1:1/0")) as client:
        watch = ServerWatch(client, SERVER)
        assert await told(watch) == ["queue.unavailable"]
        assert watch.blocked_by is not None
        watch.require_version()  # it may be new enough once it is there


async def test_a_worker_does_not_start_on_a_server_that_is_too_old(watch: ServerWatch) -> None:
    old: dict[str, Any] = {**GOOD, "redis_version": "6.2.14"}
    watch.alarms = setup_alarms(old, SERVER)
    with pytest.raises(SettingsError, match=r"version 6\.2\.14"):
        watch.require_version()


@pytest.fixture
async def uninformed(redis: RedisClient, queue_url: str) -> AsyncIterator[RedisClient]:
    """A user of the queue server who may do all but look at how it is set up."""
    await redis.execute_command("ACL", "SETUSER", "postroom", "on", ">secret", "~*", "&*", "+@all", "-info")
    try:
        server = replace(parse_queue_url(queue_url), username="postroom", password="secret")
        async with connect(server) as client:
            yield client
    finally:
        await redis.execute_command("ACL", "DELUSER", "postroom")


async def test_a_user_who_may_not_look_at_the_setup_is_told_and_stops_nobodys_mail(uninformed: RedisClient) -> None:
    watch = ServerWatch(uninformed, SERVER)
    assert await told(watch) == ["queue.not_inspected"]
    assert "allow INFO" in watch.alarms["queue.not_inspected"].detail
    assert watch.blocked_by is None
    watch.require_version()


async def test_though_the_setup_is_not_seen_writes_that_are_refused_are(
    uninformed: RedisClient, redis: RedisClient
) -> None:
    watch = ServerWatch(uninformed, SERVER)
    await redis.config_set("maxmemory", 1)
    try:
        assert await told(watch) == ["queue.not_inspected", "queue.out_of_memory"]
        assert "maxmemory" in (watch.blocked_by or "")
    finally:
        await redis.config_set("maxmemory", 0)


async def test_whoever_asks_for_readiness_in_a_loop_writes_once_a_second_at_most(
    watch: ServerWatch, redis: RedisClient, clock: Clock
) -> None:
    await watch.fresh_look()
    assert await redis.delete(keys.PROBE) == 1, "the first who asks is told how it is now"
    for _ in range(3):
        clock.now += 0.3
        await watch.fresh_look()
    assert not await redis.exists(keys.PROBE)
    clock.now += 0.2
    await watch.fresh_look()
    assert await redis.delete(keys.PROBE) == 1
    await watch.fresh_look()
    assert not await redis.exists(keys.PROBE)
    await watch.look()
    assert await redis.exists(keys.PROBE), "the watch itself looks whenever it wants to"


async def test_a_server_that_does_not_sync_what_has_to_be_synced_blocks_and_says_what_to_set(
    redis: RedisClient,
) -> None:
    watch = ServerWatch(redis, FSYNC)
    setting = (await redis.config_get("appendfsync"))["appendfsync"]
    await redis.config_set("appendfsync", "no")
    try:
        assert await told(watch) == ["queue.unavailable"]
        assert "appendfsync must be everysec or always" in (watch.blocked_by or "")
    finally:
        await redis.config_set("appendfsync", setting)
    assert await told(watch) == ["queue.recovered queue.unavailable"]
    assert watch.blocked_by is None
