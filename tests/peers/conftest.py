"""Real mail servers for the tests, each started once, and the runs of jobs of tests/integration."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mailer.store.connection import RedisClient
from mailer.store.jobs import JobStore
from mailer.store.leases import LeaseStore
from tests.integration.conftest import Run
from tests.peers.private_root import lacking, lacking_root
from tests.peers.servers import SERVERS, MailServer, mail_server
from worker.preparation import Deps


@pytest.fixture(scope="session", params=SERVERS)
async def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MailServer]:
    if (reason := lacking(request.param) or lacking_root()) is not None:
        pytest.skip(reason)
    async with mail_server(request.param, tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture
def make_run(
    store: JobStore, leases: LeaseStore, redis: RedisClient, make_deps: Callable[..., Deps]
) -> Callable[..., Run]:
    def make(**options: Any) -> Run:
        return Run(store, leases, redis, make_deps(**options))

    return make
