"""Faults are made for real: processes killed, servers stopped, connections cut. Leases are short, to be quick."""

from pathlib import Path

import pytest

from mailer.store.connection import RedisClient
from tests.support.processes import environment
from tests.support.smtp import ScriptedRelay

LEASE_S = 2


@pytest.fixture
def env(redis: RedisClient, queue_url: str, relay: ScriptedRelay) -> dict[str, str]:
    """Environment of API and worker on the session's queue server."""
    return faulty(queue_url, relay)


def faulty(url: str, relay: ScriptedRelay, **settings: str) -> dict[str, str]:
    """The same on any queue server."""
    return environment(
        redis_url=url,
        smtp_url=relay.url,
        from_="hello@postroom.example",
        auth="off",
        **{"lease_s": str(LEASE_S), **settings},
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "processes.log"
