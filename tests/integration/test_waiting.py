"""Prefer: wait. Whoever wants to know at once how a mail ended is told, and nobody waits longer than was asked."""

import asyncio
from typing import Any

import httpx
import pytest

from mailer.errors import QueueUnavailable
from mailer.settings import Durability, MailerSettings
from mailer.store import moves
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobStore
from mailer.store.moves import Moves
from service.schemas import Accepted
from service.waiting import preferred_wait, verdict_on
from tests.integration.conftest import Run
from tests.integration.test_controls import JOB
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until

WAIT = {"Prefer": "wait=10"}


@pytest.fixture
async def worker(run: Run, api: httpx.AsyncClient) -> Any:
    """Runs whatever is there."""

    async def work() -> None:
        while True:
            for job in (await api.get("/jobs", params={"status": "queued,deferred"})).json()["data"]:
                await run.once(job["id"])
            await asyncio.sleep(0.01)

    task = asyncio.create_task(work())
    yield
    task.cancel()


async def test_the_answer_is_200_with_the_verdict_of_the_relay(
    api: httpx.AsyncClient, worker: None, relay: ScriptedRelay
) -> None:
    answer = await api.post("/jobs", json=JOB, headers=WAIT)
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=10")
    said = answer.json()
    assert said["status"] == said["jobs"][0]["status"] == "sent"
    assert said["jobs"][0]["recipients"][0]["reply"]["code"] == 250
    assert answer.headers["location"] == said["jobs"][0]["links"]["self"] == f"/jobs/{said['id']}"
    assert len(relay.received) == 1


async def test_a_refusal_is_a_verdict_too(api: httpx.AsyncClient, worker: None, relay: ScriptedRelay) -> None:
    relay.script["RCPT"] = ["450 4.2.1 Busy", "550 5.1.1 Nobody here"]
    said = (await api.post("/jobs", json=JOB, headers=WAIT)).json()
    assert (said["status"], said["jobs"][0]["reason"]) == ("failed", "refused")
    assert [attempt["code"] for attempt in said["jobs"][0]["attempts"]] == [450, 550]


async def test_an_event_has_its_answer_once_all_of_its_jobs_have_ended(api: httpx.AsyncClient, worker: None) -> None:
    said = (await api.post("/jobs", json={"event": "user.signed_up", "data": {"id": 42}}, headers=WAIT)).json()
    assert said["status"] == "sent"
    assert said["jobs"][0]["template"] == "welcome"


async def test_what_takes_longer_is_202_as_always(api: httpx.AsyncClient) -> None:
    answer = await api.post("/jobs", json=JOB, headers={"Prefer": "wait=0"})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers
    answer = await api.post("/jobs", json=JOB, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


async def test_a_job_for_later_is_not_waited_for(api: httpx.AsyncClient) -> None:
    job = {**JOB, "send_at": "2035-01-01T00:00:00Z"}
    assert (await api.post("/jobs", json=job, headers={"Prefer": "wait=60"})).status_code == 202


async def test_a_repeated_request_waits_for_the_job_that_it_made_first(
    api: httpx.AsyncClient, worker: None, relay: ScriptedRelay
) -> None:
    keyed = {"Idempotency-Key": "one"}
    first = await api.post("/jobs", json=JOB, headers=keyed)
    again = await api.post("/jobs", json=JOB, headers=keyed | WAIT)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    assert len(relay.received) == 1


async def test_a_repeated_request_for_a_job_that_was_for_later_hears_how_it_ended(
    api: httpx.AsyncClient, run: Run
) -> None:
    """The first answer said that it was scheduled; by now it is sent."""
    soon = JOB | {"send_at": "2035-01-01T00:00:00Z"}
    keyed = {"Idempotency-Key": "one"}
    job_id = (await api.post("/jobs", json=soon, headers=keyed)).json()["id"]
    await run.once(job_id)
    again = await api.post("/jobs", json=soon, headers=keyed | WAIT)
    assert (again.status_code, again.json()["status"]) == (200, "sent")


async def test_who_has_gone_is_not_waited_for(api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "MOST_WATCHERS", 1)
    for _ in range(3):
        with pytest.raises(httpx.ReadTimeout):
            await api.post("/jobs", json=JOB, headers={"Prefer": "wait=60"}, timeout=0.3)

    async def is_room() -> bool:
        """A wait of one second takes as long; without room it would not."""
        began = asyncio.get_running_loop().time()
        await api.post("/jobs", json=JOB, headers={"Prefer": "wait=1"})
        return asyncio.get_running_loop().time() - began > 0.9

    await until(is_room, what="room for the next one who waits")


async def test_too_many_waiters_do_not_wait(api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "MOST_WATCHERS", 0)
    assert (await api.post("/jobs", json=JOB, headers={"Prefer": "wait=60"})).status_code == 202


async def test_what_was_accepted_is_202_though_the_queue_server_goes_while_it_waits(
    api: httpx.AsyncClient, store: JobStore, redis: RedisClient
) -> None:
    """A 503 would have it sent again."""

    class Away(JobStore):
        async def view(self, job_id: str) -> None:  # type: ignore[override]  # it never answers
            raise QueueUnavailable

    accepted = Accepted.model_validate((await api.post("/jobs", json=JOB)).json())
    away = Away(redis, Durability(), MailerSettings().retention)
    assert await verdict_on(accepted, away, Moves(redis), 10, asyncio.sleep(60)) is None


async def test_a_person_ends_the_waiting(api: httpx.AsyncClient) -> None:
    waiting = asyncio.create_task(api.post("/jobs", json=JOB, headers={"Prefer": "wait=60"}))

    async def is_there() -> str | None:
        found = (await api.get("/jobs")).json()["data"]
        return str(found[0]["id"]) if found else None

    await api.post(f"/jobs/{await until(is_there)}/cancel")
    assert (await asyncio.wait_for(waiting, 10)).json()["status"] == "cancelled"


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (["wait=10"], 10),
        (["respond-async, Wait = 5"], 5),
        (["respond-async", 'wait="7"; x=y'], 7),
        (["wait=99999"], 60),
        (["wait"], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["return=minimal"], None),
        ([], None),
    ],
)
def test_a_preference_that_cannot_be_read_is_none(prefer: list[str], seconds: int | None) -> None:
    assert preferred_wait(prefer) == seconds
