"""CloudEvents 1.0 as the official SDK sends them, in three modes; and what is refused, by the name of its attribute."""

from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from mailer.settings import MailerSettings
from mailer.store.connection import RedisClient
from tests.conftest import served

QUEUES = ("arq:queue", "arq:queue:critical", "arq:queue:bulk")
STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCH = {"content-type": "application/cloudevents-batch+json; charset=utf-8"}
BARE = {"specversion": "1.0", "type": "user.signed_up", "source": "/app", "id": "e1"}
EVENT = {**BARE, "data": {"id": 42}}
HEADERS = {f"ce-{name}": value for name, value in BARE.items()}


def an_event(**attributes: Any) -> CloudEvent:
    given = {"type": "user.signed_up", "source": "/app", "id": "e1", "time": datetime(2026, 11, 23, 12, tzinfo=UTC)}
    return CloudEvent({**given, **attributes}, {"id": 42})


def in_batch(*events: CloudEvent) -> HTTPMessage:
    """The SDK has no encoder of batches, so its events are put together."""
    return HTTPMessage(BATCH, b"[" + b",".join(to_structured_event(event).body for event in events) + b"]")


async def post(api: httpx.AsyncClient, message: HTTPMessage, **headers: str) -> httpx.Response:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.post("/jobs", content=message.body, headers={**message.headers, **more})


async def queued(redis: RedisClient) -> int:
    return sum([await redis.zcard(name) for name in QUEUES])


async def refused(api: httpx.AsyncClient, redis: RedisClient, body: object, headers: dict[str, str]) -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    answer = await api.post("/jobs", content=raw, headers=headers)
    problem: dict[str, Any] = answer.json()
    assert answer.status_code == problem["status"] >= 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert await queued(redis) == 0
    return problem


class TestAccepted:
    @pytest.mark.parametrize("to_message", [to_structured_event, to_binary_event])
    @pytest.mark.parametrize(
        "more", [{}, {"datacontenttype": "application/json; charset=utf-8"}, {"traceparent": "00-1"}]
    )
    async def test_an_event_is_answered_as_in_postrooms_own_form(
        self, api: httpx.AsyncClient, to_message: Any, more: dict[str, str]
    ) -> None:
        answer = await post(api, to_message(an_event(subject="users/ü 42", source="/größe/100%", **more)))
        assert answer.status_code == 202, answer.text
        (job,) = answer.json()["jobs"]
        assert (answer.json()["id"], answer.json()["status"], job["template"]) == ("e1", "queued", "welcome")
        assert answer.headers["location"] == f"/jobs/{job['id']}"
        event = (await api.get(answer.headers["location"])).json()["event"]
        assert event == {
            "name": "user.signed_up",
            "id": "e1",
            "source": "/größe/100%",
            "subject": "users/ü 42",
            "time": "2026-11-23T12:00:00Z",
        }

    async def test_a_batch_has_a_verdict_for_each(self, api: httpx.AsyncClient, redis: RedisClient) -> None:
        batch = in_batch(an_event(), an_event(id="e2"), an_event(id="e3", type="user.signed_upp"))
        answer = await post(api, batch)
        assert answer.status_code == 202, answer.text
        found = answer.json()
        assert (found["accepted"], found["rejected"], await queued(redis)) == (2, 1, 2)
        assert [item["id"] for item in found["results"]] == ["e1", "e2", None]
        (error,) = found["results"][2]["problem"]["errors"]
        assert (error["pointer"], error["code"]) == ("/2/type", "unknown_event")
        again = (await post(api, batch)).json()
        assert [item["replayed"] for item in again["results"]] == [True, True, False]
        assert await queued(redis) == 2

    async def test_an_empty_batch_is_one(self, api: httpx.AsyncClient) -> None:
        answer = await post(api, in_batch())
        assert (answer.status_code, answer.json()) == (202, {"accepted": 0, "rejected": 0, "results": []})

    async def test_a_thousand_events_are_a_batch(self, api: httpx.AsyncClient, redis: RedisClient) -> None:
        answer = await post(api, in_batch(*(an_event(id=f"e{number}") for number in range(1000))))
        assert (answer.json()["accepted"], await queued(redis)) == (1000, 1000)

    @pytest.mark.parametrize("to_message", [to_structured_event, to_binary_event])
    async def test_a_dry_run_shows_the_mail_of_an_event_and_takes_no_batch(
        self, api: httpx.AsyncClient, redis: RedisClient, to_message: Any
    ) -> None:
        dry = {"params": {"dry_run": "true"}}
        message = to_message(an_event())
        answer = await api.post("/jobs", content=message.body, headers=message.headers, **dry)
        assert (answer.status_code, answer.json()["jobs"][0]["template"]) == (200, "welcome")
        batch = in_batch(an_event())
        answer = await api.post("/jobs", content=batch.body, headers=batch.headers, **dry)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/query/dry_run")
        assert await queued(redis) == 0

    async def test_the_plain_form_is_still_read(self, api: httpx.AsyncClient) -> None:
        answer = await api.post("/jobs", json={"event": "user.signed_up", "data": {"id": 42}}, headers={"ce-id": "e1"})
        assert answer.status_code == 202


class TestOneEventIsOneJob:
    async def test_in_whatever_mode_it_comes_again(self, api: httpx.AsyncClient, redis: RedisClient) -> None:
        event = an_event(subject="users/ü", datacontenttype="application/json", traceparent="00-1")
        own = {"event": "user.signed_up", "source": "/app", "id": "e1", "subject": "users/ü", "data": {"id": 42}}
        first = await post(api, to_structured_event(event))
        for again in (
            await post(api, to_binary_event(event)),
            await post(api, to_binary_event(an_event(subject="users/ü", traceparent="00-another"))),
            await api.post("/jobs", json={**own, "time": "2026-11-23T12:00:00Z"}),
        ):
            assert (again.status_code, again.content) == (202, first.content)
            assert again.headers["idempotency-replayed"] == "true"
        batch = (await post(api, in_batch(event, event))).json()
        assert [(item["id"], item["replayed"]) for item in batch["results"]] == [("e1", True), ("e1", True)]
        assert await queued(redis) == 1

    async def test_what_is_left_out_is_the_same_as_what_is_said_to_be_nothing(
        self, redis: RedisClient, mailer_settings: MailerSettings, tmp_path: Any
    ) -> None:
        (tmp_path / "note").mkdir()
        (tmp_path / "note" / "template.toml").write_text('to = { email = "a@example.com" }\nevents = ["noted"]')
        for name in ("subject.txt", "body.txt"):
            (tmp_path / "note" / name).write_text("Hi")
        bare = {**BARE, "type": "noted"}
        own = {"event": "noted", "source": "/app", "id": "e1"}
        async with served(mailer_settings.model_copy(update={"templates_dir": tmp_path}), auth="off") as api:
            answers = [
                await api.post("/jobs", json=own),
                await api.post("/jobs", json={**own, "data": {}, "subject": None}),
                await post(api, HTTPMessage(STRUCTURED, orjson.dumps(bare))),
                await post(api, HTTPMessage(STRUCTURED, orjson.dumps({**bare, "data": None, "subject": None}))),
                await post(api, HTTPMessage({**HEADERS, "ce-type": "noted"}, b"")),
                await post(api, HTTPMessage({**HEADERS, "ce-type": "noted"}, b"{}")),
            ]
        assert {(answer.status_code, answer.content) for answer in answers} == {(202, answers[0].content)}
        assert await queued(redis) == 1

    async def test_other_data_under_its_source_and_id_is_refused(self, api: httpx.AsyncClient) -> None:
        await post(api, to_structured_event(an_event()))
        other = CloudEvent(dict(an_event().get_attributes()), {"id": 43})
        for message in (to_structured_event(other), to_binary_event(other)):
            answer = await post(api, message)
            assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
        (item,) = (await post(api, in_batch(other))).json()["results"]
        assert (item["problem"]["code"], item["problem"]["errors"][0]["pointer"]) == ("idempotency_key_reused", "/0")

    async def test_a_key_of_the_request_goes_before_source_and_id(
        self, api: httpx.AsyncClient, redis: RedisClient
    ) -> None:
        event = to_structured_event(an_event())
        for key in ("k1", "k2", "k1"):
            assert (await post(api, event, Idempotency_Key=key)).status_code == 202
        assert await queued(redis) == 2

    async def test_a_batch_has_no_key_of_its_own(self, api: httpx.AsyncClient, redis: RedisClient) -> None:
        answer = await post(api, in_batch(an_event()), Idempotency_Key="k1")
        assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")
        assert "source and id" in answer.json()["detail"]
        assert await queued(redis) == 0


LEFT_OUT = object()
BAD: list[tuple[str, object, str]] = [
    ("specversion", LEFT_OUT, "/specversion"),
    ("specversion", "0.3", "/specversion"),
    ("specversion", 1.0, "/specversion"),
    ("type", LEFT_OUT, "/type"),
    ("type", "", "/type"),
    ("type", None, "/type"),
    ("type", "user.signed_upp", "/type"),
    ("source", LEFT_OUT, "/source"),
    ("source", "", "/source"),
    ("source", ["/app"], "/source"),
    ("source", "/a\r\nBcc: e@x.test", "/source"),
    ("id", LEFT_OUT, "/id"),
    ("id", "", "/id"),
    ("id", 1, "/id"),
    ("id", "x" * 256, "/id"),
    ("subject", "", "/subject"),
    ("subject", 42, "/subject"),
    ("time", "yesterday", "/time"),
    ("time", 1763899200, "/time"),
    ("datacontenttype", "text/plain", "/datacontenttype"),
    ("datacontenttype", "application/xml", "/datacontenttype"),
    ("datacontenttype", 1, "/datacontenttype"),
    ("dataschema", "", "/dataschema"),
    ("data", [1], "/data"),
    ("data", "text", "/data"),
    ("data", {}, "/data/id"),
    ("data", {"id": "42"}, "/data/id"),
    ("data_base64", "e30=", "/data_base64"),
    ("dataSchema", "https://x.test/", "/dataSchema"),
    ("idempotency_key", "k1", "/idempotency_key"),
    ("order", {"id": 42}, "/order"),
]


class TestRefused:
    @pytest.mark.parametrize(("name", "value", "pointer"), BAD)
    async def test_a_bad_attribute_is_named_alone_and_in_a_batch(
        self, api: httpx.AsyncClient, redis: RedisClient, name: str, value: object, pointer: str
    ) -> None:
        event = {key: one for key, one in {**EVENT, name: value}.items() if one is not LEFT_OUT}
        problem = await refused(api, redis, event, STRUCTURED)
        assert [error["pointer"] for error in problem["errors"]] == [pointer]
        answer = await post(api, HTTPMessage(BATCH, orjson.dumps([EVENT, event])))
        found = answer.json()
        assert (answer.status_code, found["accepted"], found["rejected"]) == (202, 1, 1)
        assert [error["pointer"] for error in found["results"][1]["problem"]["errors"]] == [f"/1{pointer}"]

    @pytest.mark.parametrize(
        ("headers", "named"),
        [
            ({"ce-specversion": "0.3"}, "/header/ce-specversion"),
            ({"ce-type": None}, "/header/ce-type"),
            ({"ce-type": "user.signed_upp"}, "/header/ce-type"),
            ({"ce-source": None}, "/header/ce-source"),
            ({"ce-source": ""}, "/header/ce-source"),
            ({"ce-source": "a%0D%0ABcc"}, "/header/ce-source"),
            ({"ce-source": "%C0%A0"}, "/header/ce-source"),
            ({"ce-id": None}, "/header/ce-id"),
            ({"ce-id": ""}, "/header/ce-id"),
            ({"ce-subject": ""}, "/header/ce-subject"),
            ({"ce-time": "yesterday"}, "/header/ce-time"),
            ({"ce-my-attribute": "1"}, "/header/ce-my-attribute"),
            ({"ce-data": "{}"}, "/header/ce-data"),
            ({"ce-datacontenttype": "application/json"}, "/header/ce-datacontenttype"),
        ],
    )
    async def test_a_bad_header_is_named(
        self, api: httpx.AsyncClient, redis: RedisClient, headers: dict[str, str | None], named: str
    ) -> None:
        given = {"content-type": "application/json", **HEADERS, **headers}
        kept = {name: value for name, value in given.items() if value is not None}
        problem = await refused(api, redis, {"id": 42}, kept)
        assert [error["pointer"] for error in problem["errors"]] == [named]

    async def test_a_header_that_is_there_twice_is_named(self, api: httpx.AsyncClient, redis: RedisClient) -> None:
        twice = [*HEADERS.items(), ("ce-source", "/other")]
        answer = await api.post("/jobs", content=b"{}", headers=twice)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/header/ce-source"
        assert await queued(redis) == 0

    @pytest.mark.parametrize(("body", "pointer"), [({}, "/id"), ({"id": "42"}, "/id"), ([1], ""), ("x", "")])
    async def test_in_binary_mode_the_body_is_the_data(
        self, api: httpx.AsyncClient, redis: RedisClient, body: object, pointer: str
    ) -> None:
        problem = await refused(api, redis, body, {"content-type": "application/json", **HEADERS})
        assert [error["pointer"] for error in problem["errors"]] == [pointer]

    async def test_a_time_without_its_offset_is_told_apart(self, api: httpx.AsyncClient, redis: RedisClient) -> None:
        naive = "2026-11-23T12:00:00"
        problem = await refused(api, redis, {**EVENT, "time": naive}, STRUCTURED)
        assert (problem["status"], problem["code"], problem["detail"][:6]) == (400, "naive_datetime", "/time:")
        problem = await refused(
            api, redis, {"id": 42}, {"content-type": "application/json", **HEADERS, "ce-time": naive}
        )
        assert (problem["status"], problem["code"]) == (400, "naive_datetime")
        assert "ce-time" in problem["detail"]

    @pytest.mark.parametrize("headers", [STRUCTURED, BATCH, {"content-type": "application/json", **HEADERS}])
    @pytest.mark.parametrize("raw", [b"{", b'{"id": NaN}', b'{"id": "\xff"}', b'{"id": "\\ud800"}', b"[" * 5000])
    async def test_the_decoder_is_as_strict_as_for_a_job(
        self, api: httpx.AsyncClient, redis: RedisClient, headers: dict[str, str], raw: bytes
    ) -> None:
        problem = await refused(api, redis, raw, headers)
        assert (problem["status"], problem["code"]) == (400, "malformed_json")

    async def test_data_nested_without_end_is_refused_in_every_mode(
        self, api: httpx.AsyncClient, redis: RedisClient
    ) -> None:
        deep = b'{"id": 42, "x": ' + b"[" * 150 + b"]" * 150 + b"}"
        event = orjson.dumps(BARE)[:-1] + b', "data": ' + deep + b"}"
        for body, headers in ((deep, HEADERS), (event, STRUCTURED), (b"[" + event + b"]", BATCH)):
            problem = await refused(api, redis, body, headers)
            assert "levels deep" in problem["detail"]

    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            ([EVENT], STRUCTURED),
            (b"", STRUCTURED),
            (EVENT, BATCH),
            (b"", BATCH),
            ([{**EVENT, "id": f"e{number}"} for number in range(1001)], BATCH),
        ],
        ids=["list as one event", "nothing as one event", "one event as batch", "nothing as batch", "1001 events"],
    )
    async def test_a_body_of_another_form_is_refused_as_a_whole(
        self, api: httpx.AsyncClient, redis: RedisClient, body: object, headers: dict[str, str]
    ) -> None:
        await refused(api, redis, body, headers)

    async def test_what_is_no_event_in_a_batch_is_refused_alone(self, api: httpx.AsyncClient) -> None:
        found = (await post(api, HTTPMessage(BATCH, orjson.dumps([1, EVENT, [EVENT]])))).json()
        assert [item["id"] for item in found["results"]] == [None, "e1", None]
        assert found["results"][2]["problem"]["errors"][0]["pointer"] == "/2"

    @pytest.mark.parametrize(
        "content_type",
        ["application/cloudevents+xml", "application/cloudevents", "application/cloudevents-batch+avro", "text/plain"],
    )
    async def test_another_format_is_told_what_is_read(
        self, api: httpx.AsyncClient, redis: RedisClient, content_type: str
    ) -> None:
        problem = await refused(api, redis, EVENT, {"content-type": content_type})
        assert (problem["status"], problem["code"]) == (415, "unsupported_media_type")
        for accepted in ("application/json", "application/cloudevents+json", "application/cloudevents-batch+json"):
            assert accepted in problem["detail"]

    async def test_a_format_of_cloudevents_is_no_data_of_binary_mode(
        self, api: httpx.AsyncClient, redis: RedisClient
    ) -> None:
        for content_type in ("application/cloudevents+xml", "text/plain", "application/x-www-form-urlencoded"):
            problem = await refused(api, redis, {"id": 42}, {**HEADERS, "content-type": content_type})
            assert problem["status"] == 415
        assert "datacontenttype" in problem["detail"]

    async def test_a_batch_has_the_limit_of_every_body(
        self, redis: RedisClient, mailer_settings: MailerSettings
    ) -> None:
        async with served(mailer_settings, auth="off", max_body_mb="1") as api:
            problem = await refused(api, redis, [{**EVENT, "data": {"id": 42, "x": "x" * 1_100_000}}], BATCH)
            assert (problem["status"], problem["code"]) == (413, "payload_too_large")
