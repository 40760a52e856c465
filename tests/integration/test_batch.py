"""Many submissions in one request: each for itself, or all of them or none; and the same batch again."""

from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from mailer import queue
from mailer.addresses import Address
from mailer.catalogue import TemplateLibrary
from mailer.jobs import Stream
from mailer.settings import MailerSettings
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobStore
from service.intake import Acceptance, Intake, Item
from tests.conftest import served
from tests.support.jobs import INLINE


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


async def test_a_defect_that_one_job_meets_keeps_no_other_out(
    store: JobStore, mailer_settings: MailerSettings, redis: RedisClient
) -> None:
    def admit(streams: Iterable[Stream]) -> None:
        if Stream.BULK in streams:
            raise KeyError("a defect")

    intake = Intake(store, TemplateLibrary(mailer_settings.templates_dir), Address("hello@example.com"), admit=admit)
    jobs = [INLINE, {**INLINE, "stream": "bulk"}, INLINE]
    found = await intake.accept_each([Item(job, None) for job in jobs], "anybody")
    assert [type(one) for one in found] == [Acceptance, KeyError, Acceptance]
    assert await queued(redis) == 2


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


async def test_a_job_that_the_queue_server_cannot_write_is_no_trouble_of_the_others(
    api: httpx.AsyncClient, redis: RedisClient
) -> None:
    await redis.set(keys.recipient("r2@example.com"), "not ours")
    found = await sent(api, [a_job(1), a_job(2), a_job(3)])
    assert (found["accepted"], found["rejected"], await queued(redis)) == (2, 1, 2)
    assert found["results"][1]["problem"]["code"] == "queue_unavailable"


async def test_a_hundred_jobs_are_one_call_to_the_queue_server(api: httpx.AsyncClient, redis: RedisClient) -> None:
    await sent(api, [a_job(0)])
    await redis.config_resetstat()
    await sent(api, [a_job(number) for number in range(1, 101)])
    stats = await redis.info("commandstats")
    assert stats["cmdstat_publish"]["calls"] == 1, "each call wakes the workers once, and nobody else does here"


@pytest.mark.parametrize("bad", ["one", 5, None, [], {"idempotency_key": 5}])
async def test_an_item_that_is_none_is_no_trouble_of_the_others(
    api: httpx.AsyncClient, redis: RedisClient, bad: Any
) -> None:
    found = await sent(api, [a_job(1), bad, a_job(2)])
    assert (found["accepted"], found["rejected"], await queued(redis)) == (2, 1, 2)
    assert found["results"][1]["problem"]["errors"][0]["pointer"].startswith("/jobs/1")


@pytest.mark.parametrize("key", [{"idempotency_key": "k"}, {"event": "user.signed_up", "id": "e-1", "source": "/app"}])
async def test_one_key_with_two_bodies_in_a_strict_batch_is_refused_and_none_is_accepted(
    api: httpx.AsyncClient, redis: RedisClient, key: dict[str, Any]
) -> None:
    if "event" in key:
        two = [{**key, "data": {"id": 42}}, {**key, "data": {"id": 43}}]
    else:
        two = [INLINE | key, INLINE | key | {"subject": "Another"}]
    problem = await sent(api, [a_job(1), *two], 422, mode="strict")
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [("/jobs/2", "idempotency_key_reused")]
    assert await queued(redis) == 0


async def test_a_strict_batch_that_only_comes_too_early_may_be_sent_again(
    redis: RedisClient, mailer_settings: MailerSettings, api: httpx.AsyncClient
) -> None:
    """503 with Retry-After, as its jobs would have one by one."""
    await sent(api, [INLINE | {"stream": "bulk"}])
    for name in await redis.zrange(queue.QUEUES[Stream.BULK], 0, -1):
        await redis.zincrby(queue.QUEUES[Stream.BULK], -120_000, name)
    async with served(mailer_settings, auth="off", max_wait_s='{"bulk": 60}') as full:
        jobs = [INLINE | {"stream": "bulk"}] * 2
        answer = await full.post("/jobs/batch", params={"mode": "strict"}, json={"jobs": jobs})
        assert (answer.status_code, answer.headers["retry-after"], answer.json()["code"]) == (503, "30", "overloaded")
        mixed = [*jobs, {"template": "nothing"}]
        answer = await full.post("/jobs/batch", params={"mode": "strict"}, json={"jobs": mixed})
        assert (answer.status_code, answer.json()["code"]) == (422, "batch_refused")


async def test_an_answer_names_some_errors_and_is_never_larger_than_its_request(api: httpx.AsyncClient) -> None:
    body = INLINE | {f"unknown-{number:06}": 1 for number in range(20_000)}
    for path, wrong in (("/jobs", body), ("/jobs/retry", body), ("/jobs/batch", {"jobs": [body] * 2})):
        answer = await api.post(path, json=wrong)
        assert len(answer.content) < 20_000, path
        assert "only the first 20 are named here" in answer.text


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
        ({"send_at": "2035-01-01T00:00:00"}, "/jobs/1/send_at", "naive_datetime"),
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
        ({"jobs": [a_job(1), "one"]}, {"mode": "strict"}, "/jobs/1"),
        ({"jobs": [a_job(1), {**a_job(2), "idempotency_key": 1}]}, {"mode": "strict"}, "/jobs/1/idempotency_key"),
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
