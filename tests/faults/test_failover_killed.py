"""A worker dies by kill -9 on a mail's way from one relay to the next: what the first refused at its final dot is no
doubt, and what the second may have goes nowhere else."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from mailer.store.connection import RedisClient
from tests.faults.conftest import faulty
from tests.integration.two_relays import named
from tests.support.jobs import at_relay, come_due, copies, job, post, reached
from tests.support.processes import api_process, worker_process
from tests.support.smtp import HANG, ScriptedRelay, scripted_relay
from tests.support.waiting import until

LATER = "451 4.3.0 Later"
TO_TWO = ["ada@example.com", "bob@example.com"]


@dataclass(frozen=True, slots=True)
class World:
    env: dict[str, str]
    log: Path
    redis: RedisClient
    first: ScriptedRelay
    second: ScriptedRelay

    def mails(self) -> tuple[list[list[str]], list[list[str]]]:
        """Whom each relay took them for."""
        return [mail.recipients for mail in self.first.received], [mail.recipients for mail in self.second.received]


@pytest.fixture
async def world(redis: RedisClient, queue_url: str, tmp_path: Path, log: Path) -> AsyncIterator[World]:
    """The first relay takes all recipients and their mail, and refuses it at the dot; the second says nothing."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(scripted_relay(ScriptedRelay({"DOT": [LATER, LATER, LATER]})))
        second = await stack.enter_async_context(scripted_relay())
        tables = [named("first", first), named("second", second)]
        lines = ["\n".join(["[[relays]]", *(f'{key} = "{value}"' for key, value in each.items())]) for each in tables]
        config = tmp_path / "postroom.toml"
        config.write_text("\n\n".join(lines))
        env = faulty(queue_url, first, config=str(config))
        del env["POSTROOM_SMTP_URL"]
        yield World(env, log, redis, first, second)


async def killed_at(world: World, api: httpx.AsyncClient, moment: str) -> str:
    """A job whose worker was killed while the second relay had not answered at this moment."""
    async with worker_process(world.env, world.log) as worker:
        job_id = await post(api, to=TO_TWO)
        if moment == "DOT":

            async def is_taken() -> bool:
                return world.second.dots == 1

            await until(is_taken, what="the final dot at the second relay")
        else:
            await at_relay(world.second, moment)
        assert world.first.dots == 1
        worker.kill()
        await worker.wait()
    return job_id


@pytest.mark.parametrize("moment", ["EHLO", "DATA"])
async def test_killed_before_the_dot_at_the_second_relay_the_mail_is_in_no_doubt_and_may_go_to_either(
    world: World, moment: str
) -> None:
    world.second.script[moment] = [HANG, {"EHLO": "250 relay.test", "DATA": "354 go on"}[moment]]
    async with api_process(world.env, world.log) as api:
        job_id = await killed_at(world, api, moment)
        world.first.script["DOT"] = ["250 2.0.0 ok"]
        async with worker_process(world.env, world.log):
            sent = await reached(api, job_id, "sent")
    assert (sent["attempt_count"], sent["unknown_outcomes"], sent["partial"]) == (1, 0, False)
    assert world.mails() == ([TO_TWO], [])


async def test_killed_after_the_dot_at_the_second_relay_a_second_copy_goes_to_that_one_only(world: World) -> None:
    world.second.script["DOT"] = ["250 taken, but", HANG, "250 2.0.0 ok"]
    async with api_process(world.env, world.log) as api:
        job_id = await killed_at(world, api, "DOT")
        world.first.script["DOT"] = ["250 2.0.0 ok"]
        async with worker_process(world.env, world.log):
            deferred = await reached(api, job_id, "deferred")
            assert [(each["relay"], each["outcome"]) for each in deferred["attempts"]] == [("second", "unknown")]
            await come_due(world.redis, job_id)
            sent = await reached(api, job_id, "sent")
    assert (sent["attempt_count"], sent["unknown_outcomes"]) == (2, 1)
    assert world.mails() == ([], [TO_TWO, TO_TWO])
    assert set(copies(world.second).values()) == {2}
    assert world.second.received[0].content == world.second.received[1].content


async def test_killed_after_the_dot_only_those_whom_the_second_relay_took_are_in_doubt(world: World) -> None:
    """Bob was taken by the first, which then refused the mail; the second puts him off, so any relay may have his."""
    world.second.script |= {
        "RCPT bob@example.com": ["450 4.2.1 Mailbox busy", "450 4.2.1 Mailbox busy"],
        "DOT": ["250 taken, but", HANG, "250 2.0.0 ok"],
    }
    async with api_process(world.env, world.log) as api:
        job_id = await killed_at(world, api, "DOT")
        world.first.script["DOT"] = ["250 2.0.0 ok"]
        async with worker_process(world.env, world.log):
            await reached(api, job_id, "deferred")
            await come_due(world.redis, job_id)
            await tried(api, job_id, times=2)
            await come_due(world.redis, job_id)
            sent = await reached(api, job_id, "sent")
    assert (sent["partial"], sent["unknown_outcomes"]) == (False, 1)
    assert world.mails() == ([["bob@example.com"]], [["ada@example.com"], ["ada@example.com"]])


async def tried(api: httpx.AsyncClient, job_id: str, times: int) -> None:
    async def look() -> bool:
        return bool((await job(api, job_id))["attempt_count"] == times)

    await until(look, what=f"attempt {times}")
