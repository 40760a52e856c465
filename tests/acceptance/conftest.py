"""Postroom as a user runs it: real processes, on the session's queue server."""

from pathlib import Path

import pytest

from mailer.store.connection import RedisClient
from tests.support.processes import environment
from tests.support.smtp import ScriptedRelay
from tests.support.source import Application

QUICK_BACKOFF = '{"normal": {"base_s": 0.4, "cap_s": 0.8, "give_up_s": 60}}'


@pytest.fixture
def settings(redis: RedisClient, queue_url: str, relay: ScriptedRelay, app_source: Application) -> dict[str, str]:
    """Environment of API and worker. A short backoff, so that a test need not wait for half a minute."""
    return environment(
        redis_url=queue_url,
        smtp_url=relay.url,
        source_app=app_source.url,
        from_="Postroom <hello@postroom.example>",
        auth="off",
        backoff=QUICK_BACKOFF,
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "processes.log"
