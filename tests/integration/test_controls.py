"""Cancel, retry, resolve and reschedule, over HTTP and on the real queue server, against runs that are under way."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from mailer import queue
from mailer.jobs import RECORD_VERSION, Stream
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.reconciling import Reconciler
from tests.integration.conftest import QUEUES, Run
from tests.support.smtp import DROP, ScriptedRelay
from tests.support.waiting import until
from worker.delivery import deliver

JOB: dict[str, Any] = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi\n"}
TO_TWO: dict[str, Any] = {**JOB, "to": ["ada@example.com", "bob@example.com"]}


async def shown(answer: httpx.Response, status: int = 200) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_job_that_is_cancelled_is_never_sent(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay, redis: RedisClient
) -> None:
    job_id = await run.submit(JOB)
    for _ in range(2):
        found = await shown(await api.post(f"/jobs/{job_id}/cancel"))
        assert (found["status"], found["recipients"][0]["status"]) == ("cancelled", "cancelled")
        assert found["finished_at"] is not None
    assert await run.claim(job_id) is None
    assert relay.connections == 0
    assert not await redis.exists(keys.arq_job(job_id))
    assert 0 < await redis.ttl(keys.payload(job_id)) <= 86400


async def test_what_a_person_changes_of_a_job_of_the_release_before_is_of_this_one_from_then_on(
    api: httpx.AsyncClient, run: Run, redis: RedisClient
) -> None:
    """Its values are packed then, which the release before cannot read: it leaves the job alone."""
    job_id = await run.submit(JOB)
    await redis.hset(keys.job(job_id), "v", RECORD_VERSION - 1)
    await shown(await api.post(f"/jobs/{job_id}/cancel"))
    assert await redis.hget(keys.job(job_id), "v") == str(RECORD_VERSION).encode()


async def test_a_job_that_is_cancelled_while_its_content_is_on_the_way_is_withheld(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay
) -> None:
    """The relay gets all of it but the final dot."""
    job_id = await run.submit(JOB)
    answers: list[httpx.Response] = []

    async def cancel(moment: str) -> None:
        if moment == "DATA":
            answers.append(await api.post(f"/jobs/{job_id}/cancel"))

    relay.before_reply = cancel
    view = await run.once(job_id)
    assert [answer.status_code for answer in answers] == [200]
    assert (view.status, relay.received, relay.dots) == ("cancelled", [], 0)
    assert await run.claim(job_id) is None, "and not tried again"


async def test_a_mail_that_is_past_its_dot_is_not_cancelled(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay
) -> None:
    job_id = await run.submit(JOB)
    refused: list[httpx.Response] = []

    async def cancel() -> None:
        refused.append(await api.post(f"/jobs/{job_id}/cancel"))

    relay.before_dot = cancel
    view = await run.once(job_id)
    problem = await shown(refused[0], 409)
    assert (problem["code"], problem["job_status"]) == ("not_allowed_in_status", "sending")
    assert (view.status, len(relay.received)) == ("sent", 1)


@pytest.mark.parametrize("moment", ["EHLO", "MAIL", "RCPT", "DATA", "DOT"])
async def test_exactly_one_of_sent_or_cancelled_comes_of_a_race(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay, moment: str
) -> None:
    """From this moment on both are under way, and nobody says which one is faster. The record agrees with the relay."""
    relay.script["EHLO"] = ["250 a relay that is greeted each time"]
    for turn in range(40):
        sent_before, job_id = len(relay.received), await run.submit(JOB)
        cancelling: list[asyncio.Task[httpx.Response]] = []

        async def begin(at: str, job_id: str = job_id, begun: list[asyncio.Task[httpx.Response]] = cancelling) -> None:
            if at == moment and not begun:
                begun.append(asyncio.create_task(api.post(f"/jobs/{job_id}/cancel")))
            await asyncio.sleep(0.0005)

        relay.before_reply = begin
        await run.once(job_id)
        await run.deps.router.close()  # the next one has a connection of its own
        answer = await cancelling[0]
        view = await run.view(job_id)
        assert view.status in {"sent", "cancelled"}, turn
        assert len(relay.received) - sent_before == (view.status == "sent")
        assert answer.status_code == (200 if view.status == "cancelled" else 409)


async def test_a_job_is_not_put_behind_its_own_expiry(api: httpx.AsyncClient, run: Run) -> None:
    times = {"send_at": "2030-01-01T00:00:00Z", "expires_at": "2030-01-02T00:00:00Z"}
    job_id = await run.submit({**JOB, **times})
    for late in ("2030-01-02T00:00:00Z", "2031-01-01T00:00:00Z"):
        problem = await shown(await api.patch(f"/jobs/{job_id}", json={"send_at": late}), 422)
        assert problem["errors"][0]["pointer"] == "/send_at"
    found = await shown(await api.patch(f"/jobs/{job_id}", json={"send_at": "2030-01-01T12:00:00Z"}))
    assert found["due_at"] == "2030-01-01T12:00:00.000Z"


async def test_a_deferred_job_that_is_put_off_has_its_whole_time_for_trying_from_then_on(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay
) -> None:
    relay.script["RCPT"] = ["450 4.2.1 Busy"]
    job_id = await run.submit({**JOB, "backoff": {"give_up_after": "1h"}})
    assert (await run.once(job_id)).status == "deferred"
    await shown(await api.patch(f"/jobs/{job_id}", json={"send_at": "2030-01-01T00:00:00Z"}))
    view = await run.once(job_id)
    assert (view.status, view.job.attempts) == ("deferred", 2)


async def test_a_field_that_no_control_reads_is_refused(api: httpx.AsyncClient, run: Run) -> None:
    job_id = await run.submit(JOB)
    for control in ("cancel", "retry"):
        problem = await shown(await api.post(f"/jobs/{job_id}/{control}", json={"template": "pinned"}), 422)
        assert problem["errors"][0]["pointer"] == "/template"
    await shown(await api.post(f"/jobs/{job_id}/cancel", json={}))


async def test_who_had_it_before_a_cancel_keeps_the_job_sent_in_part(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay
) -> None:
    relay.script["RCPT bob@example.com"] = ["450 4.2.1 Busy"]
    job_id = await run.submit(TO_TWO)
    assert (await run.once(job_id)).status == "deferred"
    found = await shown(await api.post(f"/jobs/{job_id}/cancel"))
    assert (found["status"], found["partial"]) == ("sent", True)
    assert [item["status"] for item in found["recipients"]] == ["sent", "cancelled"]


async def test_a_failed_job_that_is_retried_is_sent_and_its_attempts_begin_anew(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay, redis: RedisClient
) -> None:
    relay.script["RCPT"] = ["450 4.2.1 Busy", "450 4.2.1 Busy", "250 ok"]
    job_id = await run.submit({**JOB, "backoff": {"max_attempts": 1}})
    assert (await run.once(job_id)).status == "failed"
    for expected in ("failed", "sent"):
        found = await shown(await api.post(f"/jobs/{job_id}/retry"))
        assert (found["status"], found["reason"], found["finished_at"]) == ("queued", None, None)
        assert await redis.ttl(keys.job(job_id)) == await redis.ttl(keys.payload(job_id)) == -1
        assert (await run.once(job_id)).status == expected
    assert [attempt.number for attempt in (await run.view(job_id)).attempts] == [1, 2, 3]
    problem = await shown(await api.post(f"/jobs/{job_id}/retry"), 409)
    assert problem["job_status"] == "sent"


async def test_a_job_whose_content_is_gone_cannot_be_retried(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay, redis: RedisClient
) -> None:
    relay.script["RCPT"] = ["550 5.1.1 No such user"]
    job_id = await run.submit(JOB)
    assert (await run.once(job_id)).status == "failed"
    await redis.delete(keys.payload(job_id))
    assert (await shown(await api.post(f"/jobs/{job_id}/retry"), 410))["code"] == "content_expired"
    assert (await run.view(job_id)).status == "failed"


@pytest.mark.parametrize(
    ("verdict", "status", "copies"), [("sent", "sent", 1), ("failed", "failed", 1), ("retry", "sent", 2)]
)
async def test_a_job_in_doubt_is_what_a_person_says_it_is(
    api: httpx.AsyncClient, make_run: Callable[..., Run], relay: ScriptedRelay, verdict: str, status: str, copies: int
) -> None:
    run = make_run(unknown_policy='{"normal": "hold"}')
    relay.script["DOT"] = ["250 taken", DROP, "250 ok"]
    job_id = await run.submit(JOB)
    assert (await run.once(job_id)).status == "unknown"
    found = await shown(await api.post(f"/jobs/{job_id}/resolve", json={"as": verdict}))
    assert found["status"] == ("queued" if verdict == "retry" else status)
    assert found["assumed"] == (verdict == "sent")
    await run.once(job_id)
    view = await run.view(job_id)
    assert (view.status, len(relay.received), view.job.unknown_outcomes) == (status, copies, 1)
    again = await api.post(f"/jobs/{job_id}/resolve", json={"as": verdict})
    assert (await shown(again, 409))["job_status"] == status


async def test_a_scheduled_job_is_moved_in_time_and_to_another_stream(
    api: httpx.AsyncClient, run: Run, redis: RedisClient
) -> None:
    answer = await api.post("/jobs", json={**JOB, "send_at": "2035-06-01T09:00:00+02:00"})
    assert (answer.status_code, answer.json()["status"]) == (202, "scheduled")
    job_id = answer.json()["id"]
    found = await shown(await api.patch(f"/jobs/{job_id}", json={"send_at": "2035-07-01T00:00:00Z", "stream": "bulk"}))
    assert (found["status"], found["due_at"], found["stream"]) == ("scheduled", "2035-07-01T00:00:00.000Z", "bulk")
    assert await redis.zscore(queue.QUEUES[Stream.NORMAL], job_id) is None
    assert await redis.zscore(queue.QUEUES[Stream.BULK], job_id) == 2_066_860_800_000
    assert (await run.once(job_id)).status == "sent"


async def test_a_job_that_brings_workers_down_stays_suspect_when_it_is_moved_and_is_not_when_it_is_retried(
    api: httpx.AsyncClient, run: Run, redis: RedisClient
) -> None:
    job_id = await run.submit(JOB)
    await redis.hset(keys.job(job_id), "crashes", "4")
    await shown(await api.patch(f"/jobs/{job_id}", json={"stream": "bulk"}))
    assert (await run.view(job_id)).job.crashes == 4
    await shown(await api.post(f"/jobs/{job_id}/cancel"))
    await shown(await api.post(f"/jobs/{job_id}/retry"))
    assert (await run.view(job_id)).job.crashes == 0


async def test_a_job_that_a_worker_has_is_not_moved_under_its_hands(api: httpx.AsyncClient, run: Run) -> None:
    job_id = await run.submit(JOB)
    await run.claim(job_id)
    problem = await shown(await api.patch(f"/jobs/{job_id}", json={"stream": "bulk"}), 409)
    assert problem["job_status"] == "sending"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "pointer"),
    [
        ("PATCH", "", {}, 422, ""),
        ("PATCH", "", {"send_at": "2020-01-01T00:00:00Z"}, 422, "/send_at"),
        ("PATCH", "", {"send_at": "2099-01-01T00:00:00Z"}, 422, "/send_at"),
        ("PATCH", "", {"stream": "express"}, 422, "/stream"),
        ("PATCH", "", {"to": ["eve@example.com"]}, 422, "/to"),
        ("POST", "/resolve", {"as": "delivered"}, 422, "/as"),
        ("POST", "/resolve", {}, 422, "/as"),
    ],
    ids=str,
)
async def test_what_a_control_cannot_mean_is_refused_with_its_field(
    api: httpx.AsyncClient, run: Run, method: str, path: str, body: dict[str, Any], status: int, pointer: str
) -> None:
    job_id = await run.submit(JOB)
    problem = await shown(await api.request(method, f"/jobs/{job_id}{path}", json=body), status)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert (await run.view(job_id)).status == "queued"


@pytest.mark.parametrize("path", ["cancel", "retry", "resolve"])
async def test_a_job_that_is_not_there_is_not_moved(api: httpx.AsyncClient, path: str) -> None:
    body = {"as": "sent"} if path == "resolve" else None
    assert (await shown(await api.post(f"/jobs/nobody/{path}", json=body), 404))["code"] == "not_found"


async def test_a_worker_that_has_a_job_that_is_cancelled_goes_on_with_the_others(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay
) -> None:
    first, second = await run.submit(JOB), await run.submit(JOB)
    lease = await run.claim(first)
    assert lease is not None
    await shown(await api.post(f"/jobs/{first}/cancel"))
    await deliver(lease, run.deps)

    async def at_rest() -> bool:
        return (await run.view(first)).status == "cancelled"

    await until(at_rest, what="cancelled")
    assert ((await run.once(second)).status, len(relay.received)) == ("sent", 1)


async def test_a_cancelled_job_is_left_alone_by_whoever_looks_for_lost_ones(
    api: httpx.AsyncClient, run: Run, redis: RedisClient
) -> None:
    job_id = await run.submit(JOB)
    await shown(await api.post(f"/jobs/{job_id}/cancel"))
    assert await Reconciler(redis).step("anna") == ()
    assert [await redis.zscore(name, job_id) for name in QUEUES] == [None] * len(QUEUES)
