"""A worker with two relays, "first" and "second", and the board that all workers share."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mailer.relays import RelayState
from mailer.store.connection import RedisClient
from mailer.store.relays import RelayStore
from tests.integration.conftest import Run
from tests.support.smtp import ScriptedRelay
from worker.relays.board import Board
from worker.relays.pool import Pool
from worker.relays.relay import Relay, relays_from
from worker.relays.router import Router
from worker.relays.timeouts import Timeouts
from worker.settings import WorkerProcessSettings

QUICK = Timeouts(
    banner_s=0.3, ehlo_s=0.3, tls_s=0.3, auth_s=0.3, tcp_s=0.3, connect_s=2, command_s=0.3, stall_s=0.3, verdict_s=0.3,
    unasked_s=0.3, reset_s=0.3,
)  # fmt: skip


@dataclass
class Relayed:
    """`run` has jobs run; `state` is what all workers know of a relay."""

    run: Run
    board: Board
    store: RelayStore

    async def state(self, name: str = "first") -> RelayState:
        return (await self.store.states([name]))[0][name]


def set_up(folder: Path, *tables: dict[str, str]) -> tuple[Relay, ...]:
    file = folder / "postroom.toml"
    written = [{**table, "senders": [table["senders"]]} if "senders" in table else table for table in tables]
    blocks = [
        "\n".join(["[[relays]]", *(f"{key} = {json.dumps(value)}" for key, value in each.items())]) for each in written
    ]
    file.write_text("\n\n".join(blocks))
    return relays_from(WorkerProcessSettings.load({"POSTROOM_CONFIG": str(file)}))


@asynccontextmanager
async def relayed(
    make_run: Callable[..., Run],
    redis: RedisClient,
    relays: tuple[Relay, ...],
    timeouts: Timeouts = QUICK,
    owner: str = "a worker",
    **settings: str,
) -> AsyncIterator[Relayed]:
    """As worker/main.py sets it up. The board has looked; its `run` is the test's."""
    async with AsyncExitStack() as stack:
        store = RelayStore(redis)
        board = Board(store, relays, owner)
        await board.look()
        router = Router([Pool(relay, timeouts, share=partial(board.pace, relay.name)) for relay in relays], board)
        stack.push_async_callback(router.close)
        run = make_run(**settings)
        run.deps = replace(run.deps, router=router)
        yield Relayed(run, board, store)


def named(name: str, relay: ScriptedRelay, **more: str) -> dict[str, str]:
    return {"name": name, "url": f"smtp://127.0.0.1:{relay.port}?tls=none", **more}
