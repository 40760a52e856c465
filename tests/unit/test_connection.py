"""Whatever goes wrong between us and the queue server is one of our errors, with the server's words where it spoke."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from mailer.errors import QueueRefused, QueueUnavailable, WritesRefused
from mailer.server import parse_queue_url
from mailer.store.connection import answered, connect


@dataclass
class Pool:
    """Stands for redis-py's pool of connections."""

    trouble: Exception | None = None
    disconnects: int = 0

    async def disconnect(self, *, inuse_connections: bool) -> None:
        self.disconnects += 1
        if self.trouble is not None:
            raise self.trouble


@dataclass
class Client:
    connection_pool: Pool = field(default_factory=Pool)

    async def raises(self, error: Exception) -> Any:
        """What `answered` makes of it."""

        async def call() -> None:
            await asyncio.sleep(0)
            raise error

        return await answered(self, call())  # type: ignore[arg-type]  # it has what is asked for


@pytest.mark.parametrize(
    "trouble",
    [
        RedisConnectionError("Error while closing"),
        ConnectionResetError("reset by peer"),
        BrokenPipeError("broken pipe"),
        TimeoutError("closing takes too long"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_server_that_became_read_only_refuses_writes_though_even_closing_fails(trouble: Exception) -> None:
    client = Client(Pool(trouble))
    with pytest.raises(WritesRefused, match="READONLY") as caught:
        await client.raises(ReadOnlyError("You can't write against a read only replica."))
    assert isinstance(caught.value, QueueRefused)
    assert client.connection_pool.disconnects == 1


async def test_after_a_failover_the_address_is_looked_up_anew() -> None:
    client = Client()
    with pytest.raises(WritesRefused):
        await client.raises(ReadOnlyError("You can't write against a read only replica."))
    assert client.connection_pool.disconnects == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "OOM command not allowed"),
        (ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), "MISCONF Errors"),
        (ResponseError("Error running script: @user_script: 9: OOM command not allowed"), "OOM command not allowed"),
    ],
)
async def test_a_server_that_takes_no_writes_is_told_from_one_that_did_not_like_ours(
    error: Exception, words: str
) -> None:
    with pytest.raises(WritesRefused, match=words):
        await Client().raises(error)


async def test_a_call_that_the_server_did_not_like_is_no_trouble_of_the_others() -> None:
    client = Client()
    with pytest.raises(QueueRefused, match="BOOM") as caught:
        await client.raises(ResponseError("WRONGTYPE a key named BOOM"))
    assert not isinstance(caught.value, WritesRefused)
    assert client.connection_pool.disconnects == 0


@pytest.mark.parametrize("error", [RedisConnectionError("gone"), TimeoutError(), OSError("no route")])
async def test_a_server_that_does_not_answer_is_unavailable(error: Exception) -> None:
    with pytest.raises(QueueUnavailable) as caught:
        await Client().raises(error)
    assert not isinstance(caught.value, QueueRefused)


def test_a_connection_that_was_lost_just_before_a_command_is_a_lost_connection_on_uvloop_too():
    """Where asyncio says nothing and the answer never comes, uvloop raises a RuntimeError: a retry has to know it."""

    async def lost_before_a_command() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        connection = connect(parse_queue_url(url)).connection_pool.make_connection()
        reader, connection._writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        connection._reader = reader
        connection._writer.transport.abort()
        await asyncio.sleep(0.01)
        with pytest.raises(RedisConnectionError, match="closed"):
            await connection.send_packed_command([b"PING\r\n"], check_health=False)
        server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(lost_before_a_command(), 10))
