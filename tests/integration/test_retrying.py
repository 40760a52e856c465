"""POST /jobs/retry: everything that a filter finds is put back in one call, which may be repeated."""

import asyncio

import httpx
import orjson
import pytest

from mailer.jobs import Status
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobStore
from mailer.store.leases import LeaseStore
from service import retrying
from tests.integration.test_history import EVENTS, parsed
from tests.integration.test_listing import end, fill, walk
from tests.support.jobs import post


async def test_thousands_of_failed_jobs_are_put_back_in_one_call_that_may_be_repeated(
    api: httpx.AsyncClient, store: JobStore, leases: LeaseStore, redis: RedisClient
) -> None:
    await fill(store, range(5000))
    await end(leases, 5000)
    answer = await api.post("/jobs/retry", json={})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"retried": 5000, "content_expired": 0, "changed": 0, "next": None}
    assert await redis.zcard("arq:queue") == await redis.zcard(keys.jobs(Status.PENDING)) == 5000
    again = await api.post("/jobs/retry", json={})
    assert again.json()["retried"] == 0
    assert await redis.zcard("arq:queue") == 5000


async def test_the_call_tells_how_far_it_is(api: httpx.AsyncClient, store: JobStore, leases: LeaseStore) -> None:
    await fill(store, range(1000))
    await end(leases, 1000)
    events = parsed((await api.post("/jobs/retry", json={}, headers=EVENTS)).text)
    assert [event["event"] for event in events] == ["progress"] * 5 + ["done"]
    assert [orjson.loads(event["data"])["retried"] for event in events] == [200, 400, 600, 800, 1000, 1000]


async def test_two_who_retry_the_same_at_once_put_each_job_back_once(
    api: httpx.AsyncClient, store: JobStore, leases: LeaseStore, redis: RedisClient
) -> None:
    await fill(store, range(400))
    await end(leases, 400)
    answers = await asyncio.gather(*(api.post("/jobs/retry", json={}) for _ in range(2)))
    assert sum(answer.json()["retried"] for answer in answers) == 400
    assert await redis.zcard("arq:queue") == 400


async def test_only_what_the_filter_finds_is_put_back(api: httpx.AsyncClient, leases: LeaseStore) -> None:
    ada, bob = await post(api), await post(api, to=["bob@example.com"])
    await end(leases, 2)
    assert (await api.post("/jobs/retry", json={"to": "bob@example.com", "reason": "refused"})).json()["retried"] == 1
    assert [job["id"] for job in await walk(api, status="queued")] == [bob]
    assert [job["id"] for job in await walk(api, status="failed")] == [ada]


async def test_cancelled_and_expired_jobs_are_put_back_where_that_is_asked_for(api: httpx.AsyncClient) -> None:
    cancelled = await post(api)
    await api.post(f"/jobs/{cancelled}/cancel")
    assert (await api.post("/jobs/retry", json={})).json()["retried"] == 0
    assert (await api.post("/jobs/retry", json={"status": "expired,cancelled"})).json()["retried"] == 1


async def test_a_job_whose_content_is_gone_is_left_and_counted(
    api: httpx.AsyncClient, leases: LeaseStore, redis: RedisClient
) -> None:
    gone, kept = await post(api), await post(api)
    await end(leases, 2)
    await redis.delete(keys.payload(gone))
    answer = (await api.post("/jobs/retry", json={})).json()
    assert (answer["retried"], answer["content_expired"]) == (1, 1)
    assert [job["id"] for job in await walk(api, status="queued")] == [kept]


async def test_a_call_takes_so_many_and_says_where_the_next_goes_on(
    api: httpx.AsyncClient, store: JobStore, leases: LeaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "MOST", 250)  # 10,000, shortened
    await fill(store, range(400))
    await end(leases, 400)
    first = (await api.post("/jobs/retry", json={})).json()
    assert first["retried"] == 250
    second = (await api.post("/jobs/retry", json={"after": first["next"]})).json()
    assert (second["retried"], second["next"]) == (150, None)


@pytest.mark.parametrize(
    ("body", "code", "named"),
    [
        ({"status": "sent"}, "bad_filter", "status"),
        ({"status": ["failed", "unknown"]}, "bad_filter", "status"),
        ({"status": 5}, "bad_filter", "status"),
        ({"state": "failed"}, "bad_filter", "state"),
        ({"limit": 5}, "bad_filter", "limit"),
        ({"created_after": "2026-11-25T12:00:00"}, "naive_datetime", "created_after"),
        ({"after": "x"}, "bad_cursor", "after"),
    ],
)
async def test_a_bad_filter_is_400_and_nothing_is_put_back(
    api: httpx.AsyncClient, leases: LeaseStore, body: dict[str, object], code: str, named: str
) -> None:
    await post(api)
    await end(leases, 1)
    answer = await api.post("/jobs/retry", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text
    assert named in answer.json()["detail"]
    assert len(await walk(api, status="failed")) == 1
