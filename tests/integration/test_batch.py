"""Many submissions in one request: each for itself, or all of them or none; and the same batch again."""

from typing import Any

import httpx
import pytest

from mailer import queue
from mailer.store.connection import RedisClient


def a_job(number: int, **more: Any) -> dict[str, Any]:
    return {
        "to": [f"r{number}@example.com"],
        "subject": f"Hello {number}",
        "text": "Hi\n",
        "idempotency_key": f"hello-{number}",
        **more,
    }


async def sent(api: httpx.AsyncClient, jobs: list[Any], status: int = 202, mode: str | None = None) -> dict[str, Any]:
    answer = await api.post("/jobs/batch", json={"jobs": jobs}, params={"mode": mode} if mode else None)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def queued(redis: RedisClient) -> int:
    return int(await redis.zcard(queue.QUEUE))


BAD: dict[int, dict[str, Any]] = {17: {"to": ["nobody"]}, 500: {"template": "recept"}, 999: {"text": None}}


async def test_of_a_thousand_with_three_bad_ones_the_others_are_accepted_and_half_of_it_again_is_not_new(
    api: httpx.AsyncClient, redis: RedisClient
) -> None:
    jobs = [a_job(number, **BAD.get(number, {})) for number in range(1000)]
    first = await sent(api, jobs)
    assert (first["accepted"], first["rejected"], await queued(redis)) == (997, 3, 997)
    assert [item["index"] for item in first["results"]] == list(range(1000))
    wrong = {item["index"]: item["problem"]["errors"][0]["pointer"] for item in first["results"] if item["problem"]}
    assert set(wrong) == set(BAD)
    assert wrong[17] == "/jobs/17/to/0"
    assert not any(item["replayed"] for item in first["results"])
    half_new = [a_job(number) for number in range(600, 998)] + [a_job(number) for number in range(1000, 1400)]
    again = await sent(api, half_new)
    assert (again["accepted"], again["rejected"], await queued(redis)) == (798, 0, 997 + 400)
    assert [item["replayed"] for item in again["results"]] == [True] * 398 + [False] * 400
    assert [item["id"] for item in again["results"][:398]] == [item["id"] for item in first["results"][600:998]]


async def test_a_key_that_came_with_another_body_is_refused_alone(api: httpx.AsyncClient, redis: RedisClient) -> None:
    await sent(api, [a_job(1)])
    found = await sent(api, [a_job(1, subject="Other"), a_job(2)])
    assert (found["accepted"], found["rejected"], await queued(redis)) == (1, 1, 2)
    assert found["results"][0]["problem"]["code"] == "idempotency_key_reused"


async def test_one_key_twice_in_a_batch_is_one_job(api: httpx.AsyncClient, redis: RedisClient) -> None:
    for mode in (None, "strict"):
        found = await sent(api, [a_job(1), a_job(1)], mode=mode)
        assert found["accepted"] == 2
        assert found["results"][0]["id"] == found["results"][1]["id"]
        assert await queued(redis) == 1


async def test_a_strict_batch_is_accepted_as_a_whole(api: httpx.AsyncClient, redis: RedisClient) -> None:
    jobs = [a_job(number) for number in range(99)] + [{"event": "user.signed_up", "data": {"id": 42}, "id": "e-1"}]
    found = await sent(api, jobs, mode="strict")
    assert (found["accepted"], found["rejected"], found["results"][99]["id"]) == (100, 0, "e-1")
    assert await queued(redis) + await redis.zcard(queue.QUEUE + ":critical") == 100
    again = await sent(api, jobs[:99], mode="strict")
    assert all(item["replayed"] for item in again["results"])


@pytest.mark.parametrize(
    ("bad", "pointer", "code"),
    [
        ({"to": ["nobody"]}, "/jobs/1/to/0", "validation_failed"),
        ({"stream": "express"}, "/jobs/1/stream", "validation_failed"),
        ({"subject": "Other", "idempotency_key": "hello-0"}, "/jobs/1", "idempotency_key_reused"),
        ({"idempotency_key": "not one\n"}, "/jobs/1", "idempotency_key_invalid"),
        ({"send_at": "2035-01-01T00:00:00"}, "/jobs/1", "naive_datetime"),
    ],
    ids=str,
)
async def test_one_bad_job_in_a_strict_batch_is_named_and_none_is_accepted(
    api: httpx.AsyncClient, redis: RedisClient, bad: dict[str, Any], pointer: str, code: str
) -> None:
    await sent(api, [a_job(0)])
    problem = await sent(api, [a_job(7), a_job(8, **bad), a_job(9)], 422, mode="strict")
    assert problem["code"] == "batch_refused"
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [(pointer, code)]
    assert await queued(redis) == 1
    assert (await sent(api, [a_job(7)]))["results"][0]["replayed"] is False, "its key is free"


@pytest.mark.parametrize(
    ("body", "params", "pointer"),
    [
        ({}, {}, "/jobs"),
        ({"jobs": []}, {}, "/jobs"),
        ({"jobs": [a_job(number) for number in range(1001)]}, {}, "/jobs"),
        ({"jobs": [a_job(number) for number in range(101)]}, {"mode": "strict"}, "/jobs"),
        ({"jobs": ["one"]}, {}, "/jobs/0"),
        ({"jobs": [{**a_job(1), "idempotency_key": 1}]}, {}, "/jobs/0/idempotency_key"),
        ({"jobs": [a_job(1)]}, {"mode": "loose"}, "/query/mode"),
        ({"jobs": [a_job(1)], "mode": "strict"}, {}, "/mode"),
    ],
    ids=["nothing", "empty", "1001", "101 strict", "no object", "key is no string", "mode", "mode in the body"],
)
async def test_a_batch_over_its_limits_or_of_another_form_is_refused_and_nothing_is_accepted(
    api: httpx.AsyncClient, redis: RedisClient, body: dict[str, Any], params: dict[str, str], pointer: str
) -> None:
    answer = await api.post("/jobs/batch", json=body, params=params)
    assert answer.status_code == 422, answer.text
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert await queued(redis) == 0
