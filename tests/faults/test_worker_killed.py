"""A worker dies by kill -9: its mail stays in the queue, and what was sent is not sent again."""

from pathlib import Path

from mailer.store.connection import RedisClient
from tests.support.processes import api_process, environment, worker_process
from tests.support.smtp import HANG, ScriptedRelay
from tests.support.waiting import until

INLINE = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi"}


async def test_a_killed_workers_mail_is_sent_by_the_next_one(
    redis: RedisClient, queue_url: str, relay: ScriptedRelay, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    env = environment(redis_url=queue_url, smtp_url=relay.url, from_="hello@postroom.example", auth="off")
    relay.script["RCPT"] = [HANG, "250 ok"]
    async with api_process(env, log) as api:
        async with worker_process(env, log) as worker:
            job_id = (await api.post("/jobs", json=INLINE)).json()["id"]

            async def is_stuck() -> bool:
                return any(command.startswith("RCPT") for command in relay.commands)

            await until(is_stuck, what="a stuck conversation")
            assert (await api.get(f"/jobs/{job_id}")).json()["status"] == "sending"
            worker.kill()
            await worker.wait()
        async with worker_process(env, log):

            async def is_sent() -> bool:
                return bool((await api.get(f"/jobs/{job_id}")).json()["status"] == "sent")

            await until(is_sent, what="the mail of the killed worker")
    assert len(relay.received) == 1
