"""Jobs as a user has them: posted, looked at until they are where they should be, and counted at the relay."""

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import httpx

from mailer import queue
from mailer.store.connection import RedisClient
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until

INLINE = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi"}


async def post(api: httpx.AsyncClient, **fields: Any) -> str:
    """The id of an accepted job: INLINE with other fields, or `template` with its data."""
    body = fields if "template" in fields else INLINE | fields
    answer = await api.post("/jobs", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def job(api: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    answer = await api.get(f"/jobs/{job_id}")
    found: dict[str, Any] = answer.json()
    return found if answer.status_code == 200 else {"status": answer.status_code, **found}


async def reached(api: httpx.AsyncClient, job_id: str, status: str, within_s: float = 20) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    async def look() -> bool:
        seen.clear()
        seen.update(await job(api, job_id))
        return bool(seen["status"] == status)

    try:
        await until(look, within_s=within_s, what=f"{status}")
    except AssertionError as error:
        raise AssertionError(f"{error}: {seen}") from None
    return seen


async def all_sent(api: httpx.AsyncClient, job_ids: Iterable[str], within_s: float = 40) -> None:
    deadline = time.monotonic() + within_s
    for job_id in job_ids:
        await reached(api, job_id, "sent", max(0.1, deadline - time.monotonic()))


async def at_relay(relay: ScriptedRelay, verb: str, times: int = 1) -> None:
    """Until the relay has heard the command so often."""

    async def look() -> bool:
        return sum(command.startswith(verb) for command in relay.commands) >= times

    await until(look, what=f"{verb} at the relay")


async def come_due(redis: RedisClient, job_id: str) -> None:
    """As if the time of its next attempt had come."""
    seconds, _ = await redis.time()
    assert await redis.zadd(queue.QUEUE, {job_id: seconds * 1000}, xx=True, ch=True) == 1, "it is in no queue"


def copies(relay: ScriptedRelay) -> Counter[bytes]:
    """How many copies of each mail the relay took, by Message-ID."""
    return Counter(
        line.partition(b":")[2].strip()
        for mail in relay.received
        for line in mail.content.split(b"\r\n\r\n")[0].split(b"\r\n")
        if line.lower().startswith(b"message-id:")
    )


def each_once(relay: ScriptedRelay, mails: int) -> bool:
    """Whether so many mails arrived, and none of them twice."""
    found = copies(relay)
    return len(found) == len(relay.received) == mails
