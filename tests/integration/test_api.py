"""POST /jobs and its neighbours, over HTTP: what is accepted, what is refused and how it is said."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr, TypeAdapter

from mailer.settings import MailerSettings
from mailer.store import keys
from mailer.store.connection import RedisClient
from service.example_answers import ANSWERS
from service.mailbox_schemas import MailOut, MailPage, MailSummary
from service.relay_schemas import RelayList, RelayOut
from service.routes.health import Health, Readiness
from service.schemas import (
    Accepted,
    Attempts,
    BatchAnswer,
    DryRun,
    History,
    JobOut,
    JobPage,
    RenderedTemplate,
    RetryProgress,
    Verdict,
)
from service.stream_schemas import StreamList, StreamOut
from tests.conftest import TEMPLATES, served

EVENT = {"event": "user.signed_up", "data": {"id": 42}}
INLINE = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi"}
RESET = {"template": "reset-password", "data": {"id": 42, "reset_url": "https://app.example.com/r"}}


async def post(api: httpx.AsyncClient, body: object, **headers: str) -> httpx.Response:
    return await api.post(
        "/jobs", json=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def canonical(body: object) -> bytes:
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


async def written(redis: RedisClient) -> list[bytes]:
    """What is on the queue server, but for what looking at it leaves there."""
    return sorted({*await redis.keys("*")} - {keys.PROBE.encode(), keys.EPOCH.encode()})


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert set(body) == {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


SHAPES: dict[str, Any] = {
    "submit 200": Verdict | DryRun,
    "submit 202": Accepted | BatchAnswer,
    "submitBatch 202": BatchAnswer,
    "listJobs 200": JobPage,
    "getJob 200": JobOut,
    "getHistory 200": History,
    "cancelJob 200": JobOut,
    "retryJob 200": JobOut,
    "retryJobs 200": RetryProgress,
    "resolveJob 200": JobOut,
    "rescheduleJob 200": JobOut,
    "listAttempts 200": Attempts,
    "listStreams 200": StreamList,
    "pauseStream 200": StreamOut,
    "resumeStream 200": StreamOut,
    "listRelays 200": RelayList,
    "pauseRelay 200": RelayOut,
    "resumeRelay 200": RelayOut,
    "renderTemplate 200": RenderedTemplate,
    "listMail 200": MailPage,
    "waitForMail 200": MailSummary,
    "getMail 200": MailOut,
    "healthz 200": Health,
    "readyz 200": Readiness,
}
"""Of the answer to each operation."""


class TestAccepted:
    async def test_an_event_is_answered_with_its_jobs(self, api: httpx.AsyncClient) -> None:
        answer = await post(api, {**EVENT, "id": "evt-1", "source": "/app"})
        assert answer.status_code == 202
        body = answer.json()
        (job,) = body["jobs"]
        assert (body["id"], body["status"], job["template"], job["recipients"]) == ("evt-1", "queued", "welcome", None)
        assert answer.headers["location"] == job["links"]["self"] == f"/jobs/{job['id']}"

    async def test_a_job_is_answered_in_the_same_shape(self, api: httpx.AsyncClient) -> None:
        answer = await post(api, {**INLINE, "to": "Ada <ada@EXAMPLE.com>"})
        body = answer.json()
        assert body["id"] == body["jobs"][0]["id"]
        assert body["jobs"][0]["recipients"] == [{"email": "ada@example.com", "name": "Ada"}]

    async def test_a_job_can_be_read_at_once(self, api: httpx.AsyncClient) -> None:
        location = (await post(api, EVENT)).headers["location"]
        job = (await api.get(location)).json()
        assert (job["status"], job["template"], job["stream"], job["attempts"]) == ("queued", "welcome", "normal", [])
        assert job["event"]["name"] == "user.signed_up"
        assert job["created_at"].endswith("Z")

    async def test_a_template_sets_stream_and_expiry(self, api: httpx.AsyncClient) -> None:
        job = (await api.get((await post(api, RESET)).headers["location"])).json()
        assert job["stream"] == "critical"
        assert job["expires_at"] > job["created_at"]

    async def test_data_may_be_nested_a_hundred_levels_deep(self, api: httpx.AsyncClient) -> None:
        user = {"email": "ada@example.com", "name": "Ada", "more": nested(90)}
        assert (await post(api, {"template": "welcome", "data": {"id": 42, "user": user}})).status_code == 202

    async def test_an_event_may_carry_more_than_its_templates_need(self, api: httpx.AsyncClient) -> None:
        answer = await post(api, {**EVENT, "data": {"id": 42, "utm": "x"}})
        assert answer.status_code == 202

    @pytest.mark.parametrize(
        "address", ["ada@example.com", "Ada <ada@example.com>", {"email": "ada@example.com", "name": "Ada"}]
    )
    async def test_an_address_has_three_forms(self, api: httpx.AsyncClient, address: object) -> None:
        answer = await post(api, {**INLINE, "to": [address]})
        assert answer.json()["jobs"][0]["recipients"][0]["email"] == "ada@example.com"


class TestIdempotency:
    async def test_the_same_key_and_body_are_one_job(self, api: httpx.AsyncClient, redis: RedisClient) -> None:
        first = await post(api, INLINE, Idempotency_Key="k1")
        again = await post(api, INLINE, Idempotency_Key="k1")
        assert (again.status_code, again.content) == (202, first.content)
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["location"] == first.headers["location"]
        assert await redis.zcard("arq:queue") == 1

    async def test_another_body_is_refused(self, api: httpx.AsyncClient, redis: RedisClient) -> None:
        await post(api, INLINE, Idempotency_Key="k1")
        answer = await post(api, {**INLINE, "text": "Other"}, Idempotency_Key="k1")
        assert_problem(answer, 422, "idempotency_key_reused")
        assert await redis.zcard("arq:queue") == 1

    async def test_an_event_is_known_by_its_source_and_id(self, api: httpx.AsyncClient, redis: RedisClient) -> None:
        event = {**EVENT, "id": "e1", "source": "/app"}
        for body in (event, event, {**event, "source": "/other"}):
            assert (await post(api, body)).status_code == 202
        assert await redis.zcard("arq:queue") == 2

    async def test_what_is_kept_of_a_body_tells_nothing_to_whoever_has_not_the_secret_key(
        self, redis: RedisClient, mailer_settings: MailerSettings
    ) -> None:
        digests = {hashlib.sha256(raw).hexdigest().encode() for raw in (orjson.dumps(INLINE), canonical(INLINE))}
        digests |= {hmac.digest(b"", canonical(INLINE), "sha256").hex().encode()}
        keyed = mailer_settings.model_copy(update={"secret_key": SecretStr("s" * 32)})
        async with served(keyed, auth="off") as api, served(keyed, auth="off") as other:
            first = await post(api, INLINE, Idempotency_Key="k1")
            assert (await post(other, INLINE, Idempotency_Key="k1")).content == first.content
        (record,) = await redis.keys("postroom:idempotency:*")
        fingerprint = await redis.hget(record, "fingerprint")
        assert fingerprint == hmac.digest(b"s" * 32, canonical(INLINE), "sha256").hex().encode()
        assert fingerprint not in digests
        async with served(mailer_settings, auth="off") as unkeyed:
            answer = await post(unkeyed, INLINE, Idempotency_Key="k1")
            assert_problem(answer, 422, "idempotency_key_reused")
            assert await redis.zcard("arq:queue") == 1

    async def test_what_0_3_accepted_and_is_repeated_to_this_version_is_the_same(
        self, api: httpx.AsyncClient, redis: RedisClient
    ) -> None:
        """Without a secret key the fingerprints are those of 0.3."""
        await post(api, INLINE, Idempotency_Key="k1")
        (record,) = await redis.keys("postroom:idempotency:*")
        assert await redis.hget(record, "fingerprint") == hashlib.sha256(canonical(INLINE)).hexdigest().encode()

    async def test_a_refused_request_leaves_the_key_free(self, api: httpx.AsyncClient) -> None:
        assert (await post(api, {**INLINE, "to": []}, Idempotency_Key="k1")).status_code == 422
        assert (await post(api, INLINE, Idempotency_Key="k1")).status_code == 202

    async def test_what_was_accepted_stays_accepted_when_its_template_is_gone(
        self, redis: RedisClient, mailer_settings: MailerSettings, tmp_path: Path
    ) -> None:
        folder = tmp_path / "note"
        folder.mkdir()
        (folder / "template.toml").write_text('to = { email = "a@example.com" }\nevents = ["noted"]')
        (folder / "subject.txt").write_text("Hi")
        (folder / "body.txt").write_text("Hi")
        settings = mailer_settings.model_copy(update={"templates_dir": tmp_path})
        event = {"event": "noted", "id": "e1", "source": "/app"}
        async with served(settings, auth="off") as api:
            first = await post(api, event)
        (folder / "body.txt").write_text("{{ oops")
        async with served(settings, auth="off") as api:
            again = await post(api, event)
            assert (again.status_code, again.content) == (202, first.content)
            assert again.headers["idempotency-replayed"] == "true"
            assert_problem(await post(api, {**event, "id": "e2"}), 503, "template_broken")
        assert await redis.zcard("arq:queue") == 1

    async def test_a_key_that_is_none_is_named(self, api: httpx.AsyncClient) -> None:
        assert_problem(await post(api, INLINE, Idempotency_Key="a b"), 400, "idempotency_key_invalid")


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


REFUSED: list[tuple[str, object, str, str]] = [
    ("unknown template", {"template": "welcom", "data": {}}, "unknown_template", "/template"),
    ("unknown event", {"event": "user.signed_upp"}, "unknown_event", "/event"),
    ("missing variable", {"template": "welcome"}, "template_variable_missing", "/data/id"),
    ("missing variable of an event", {"event": "user.signed_up"}, "template_variable_missing", "/data/id"),
    ("mistyped variable", {"template": "welcome", "data": {"id": "42"}}, "validation_failed", "/data/id"),
    ("boolean for a number", {"template": "welcome", "data": {"id": True}}, "validation_failed", "/data/id"),
    ("unknown variable", {"template": "welcome", "data": {"id": 42, "idd": 1}}, "validation_failed", "/data/idd"),
    ("bad address", {**INLINE, "to": ["ada@example"]}, "validation_failed", "/to/0"),
    ("second bad address", {**INLINE, "to": ["ada@example.com", "x"]}, "validation_failed", "/to/1"),
    ("two addresses in one", {**INLINE, "to": ["a@example.com, b@example.com"]}, "validation_failed", "/to/0"),
    ("address with a line break", {**INLINE, "to": ["a@example.com\r\nRCPT TO:<e@x.c>"]}, "header_injection", "/to/0"),
    ("name over lines", {**INLINE, "to": {"email": "a@example.com", "name": "A\nB"}}, "header_injection", "/to/0"),
    ("from with a line break", {**INLINE, "from": "A\r\n <a@example.com>"}, "header_injection", "/from"),
    ("reply-to with a line break", {**INLINE, "reply_to": ["a\r@example.com"]}, "header_injection", "/reply_to/0"),
    ("subject with a line break", {**INLINE, "subject": "Hi\r\nBcc: e@x.test"}, "header_injection", "/subject"),
    ("subject with a separator", {**INLINE, "subject": "Hi\u2028there"}, "header_injection", "/subject"),
    ("header with a line break", {**INLINE, "headers": {"X-A": "1\r\nBcc: e@x.test"}}, "header_injection", "/headers"),
    ("header name with a line break", {**INLINE, "headers": {"X-A:\r\nBcc": "1"}}, "header_injection", "/headers"),
    ("reserved header", {**INLINE, "headers": {"Bcc": "e@x.test"}}, "validation_failed", "/headers"),
    ("no recipients", {**INLINE, "to": []}, "validation_failed", "/to"),
    ("recipients left out", {"subject": "Hi", "text": "Hi"}, "validation_failed", "/to"),
    ("too many recipients", {**INLINE, "to": [f"u{n}@example.com" for n in range(51)]}, "validation_failed", "/to"),
    ("template and inline", {**INLINE, "template": "welcome"}, "validation_failed", ""),
    ("no content", {"to": ["ada@example.com"], "subject": "Hi"}, "validation_failed", ""),
    ("nothing", {}, "validation_failed", ""),
    ("unknown field", {**INLINE, "too": []}, "validation_failed", "/too"),
    ("unknown field of an event", {**EVENT, "template": "welcome"}, "validation_failed", "/template"),
    ("data that is no object", {**EVENT, "data": [1]}, "validation_failed", "/data"),
    ("event id over lines", {**EVENT, "id": "a\nb"}, "header_injection", "/id"),
    ("event subject over lines", {**EVENT, "subject": "a\r\nb"}, "header_injection", "/subject"),
    ("an empty event", {"event": ""}, "validation_failed", "/event"),
    ("nested too deep", {**EVENT, "data": {"id": 42, "x": nested(300)}}, "validation_failed", ""),
    ("a list", [EVENT], "validation_failed", ""),
]  # fmt: skip


class TestRefused:
    @pytest.mark.parametrize(
        ("body", "code", "pointer"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
    )
    async def test_bad_input_names_the_field_and_queues_nothing(
        self, api: httpx.AsyncClient, redis: RedisClient, body: object, code: str, pointer: str
    ) -> None:
        problem = assert_problem(await post(api, body), 422, code)
        assert pointer in [item["pointer"] for item in problem["errors"]]
        assert await written(redis) == []

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"{",
            b'{"event": NaN}',
            b'{"event": "\xff"}',
            b'{"event": "\\ud800"}',
            b'{"event": "a",}',
            b'{"a": ' + b"[" * 5000,
        ],
    )
    async def test_malformed_json(self, api: httpx.AsyncClient, redis: RedisClient, raw: bytes) -> None:
        answer = await api.post("/jobs", content=raw, headers={"content-type": "application/json"})
        assert_problem(answer, 400, "malformed_json")
        assert await written(redis) == []

    async def test_a_naive_time(self, api: httpx.AsyncClient, redis: RedisClient) -> None:
        assert_problem(await post(api, {**EVENT, "time": "2026-11-23T12:00:00"}), 400, "naive_datetime")
        assert await written(redis) == []

    async def test_a_line_break_in_data_that_reaches_the_subject(
        self, redis: RedisClient, mailer_settings: MailerSettings, tmp_path: Path
    ) -> None:
        folder = tmp_path / "note"
        folder.mkdir()
        (folder / "template.toml").write_text('[fields]\ntitle = { type = "string" }\nbody = { type = "string" }\n')
        (folder / "subject.txt").write_text("Note: {{ title }}")
        (folder / "body.txt").write_text("{{ body }}")
        settings = mailer_settings.model_copy(update={"templates_dir": tmp_path})
        async with served(settings, auth="off") as api:
            data = {"title": "Hi\r\nBcc: eve@x.test", "body": "two\nlines"}
            answer = await post(api, {"template": "note", "to": "a@example.com", "data": data})
            assert assert_problem(answer, 422, "header_injection")["errors"][0]["pointer"] == "/data/title"
            assert await written(redis) == []
            answer = await post(api, {"template": "note", "to": "a@example.com", "data": {**data, "title": "Hi"}})
            assert answer.status_code == 202

    async def test_a_body_over_the_limit_announced_or_not(
        self, redis: RedisClient, mailer_settings: MailerSettings
    ) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(11):
                yield b"x" * 100_000

        json_type = {"content-type": "application/json"}
        async with served(mailer_settings, auth="off", max_body_mb="1") as api:
            for content in (b"x" * 1_100_000, chunks()):
                answer = await api.post("/jobs", content=content, headers=json_type)
                assert_problem(answer, 413, "payload_too_large")
        assert await written(redis) == []

    async def test_another_media_type(self, api: httpx.AsyncClient) -> None:
        answer = await api.post("/jobs", content=json.dumps(EVENT), headers={"content-type": "text/plain"})
        assert_problem(answer, 415, "unsupported_media_type")

    async def test_no_from_address(self, redis: RedisClient, mailer_settings: MailerSettings) -> None:
        async with served(mailer_settings.model_copy(update={"from_": None}), auth="off") as api:
            problem = assert_problem(await post(api, INLINE), 422, "validation_failed")
            assert problem["errors"][0]["pointer"] == "/from"
            assert (await post(api, {**INLINE, "from": "me@example.com"})).status_code == 202

    async def test_the_frameworks_own_errors_are_problems_too(self, api: httpx.AsyncClient) -> None:
        assert_problem(await api.get("/nowhere"), 404, "not_found")
        assert_problem(await api.delete("/jobs"), 405, "method_not_allowed")
        assert_problem(await api.get("/jobs/unknown"), 404, "not_found")
        assert_problem(await api.get("/jobs/" + "x" * 65), 422, "validation_failed")

    async def test_a_method_that_a_path_has_not_got_is_answered_with_those_that_it_has(
        self, api: httpx.AsyncClient
    ) -> None:
        for path, methods in (
            ("/jobs", "GET, POST"),
            ("/jobs/batch", "GET, PATCH, POST"),
            ("/healthz", "GET"),
            ("/static/docs/favicon.png", "GET, HEAD"),
        ):
            answer = await api.delete(path)
            assert_problem(answer, 405, "method_not_allowed")
            assert answer.headers["allow"] == methods


class TestBrokenTemplates:
    @pytest.fixture
    async def api(
        self, redis: RedisClient, mailer_settings: MailerSettings, tmp_path: Path
    ) -> AsyncIterator[httpx.AsyncClient]:
        for name, body in (("good", "Hi"), ("bad", "{{ oops")):
            (tmp_path / name).mkdir()
            (tmp_path / name / "template.toml").write_text(
                f'to = {{ email = "a@example.com" }}\nevents = ["it.{name}"]'
            )
            (tmp_path / name / "subject.txt").write_text("Hi")
            (tmp_path / name / "body.txt").write_text(body)
        async with served(mailer_settings.model_copy(update={"templates_dir": tmp_path}), auth="off") as client:
            yield client

    async def test_a_broken_folder_stops_nobody_else(self, api: httpx.AsyncClient, redis: RedisClient) -> None:
        assert (await post(api, {"template": "good"})).status_code == 202
        problem = assert_problem(await post(api, {"template": "bad"}), 503, "template_broken")
        assert "body.txt, line 1" in problem["detail"]
        assert_problem(await post(api, {"event": "it.bad"}), 503, "template_broken")
        assert await redis.zcard("arq:queue") == 1

    async def test_readiness_names_it(self, api: httpx.AsyncClient) -> None:
        ready = (await api.get("/readyz")).json()
        assert (ready["status"], ready["templates"], list(ready["broken_templates"])) == ("ready", 1, ["bad"])


class TestKeys:
    KEY = "a-key-of-sixteen-or-more"

    async def test_closed_by_default(self, redis: RedisClient, mailer_settings: MailerSettings) -> None:
        async with served(mailer_settings) as api:
            for path in ("/jobs/x", "/mailbox", "/mailbox/messages", "/nowhere"):
                assert_problem(await api.get(path), 401, "missing_key")
            problem = assert_problem(await post(api, INLINE), 401, "missing_key")
            assert "POSTROOM_API_KEYS" in problem["detail"]
            for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
                assert (await api.get(path)).status_code == 200
        assert await written(redis) == []

    async def test_the_right_key_only(self, redis: RedisClient, mailer_settings: MailerSettings) -> None:
        async with served(mailer_settings, api_keys=f"shop:{self.KEY}, crm:another-long-key-here") as api:
            answer = await post(api, INLINE, Authorization="Bearer wrong")
            assert_problem(answer, 401, "invalid_key")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert await written(redis) == []
            assert (await post(api, INLINE, Authorization=f"Bearer {self.KEY}")).status_code == 202
            assert (await post(api, INLINE, Authorization="bearer another-long-key-here")).status_code == 202

    async def test_keys_of_different_owners_do_not_share_idempotency(
        self, redis: RedisClient, mailer_settings: MailerSettings
    ) -> None:
        async with served(mailer_settings, api_keys=f"shop:{self.KEY}, crm:another-long-key-here") as api:
            for key in (self.KEY, "another-long-key-here"):
                await post(api, INLINE, Authorization=f"Bearer {key}", Idempotency_Key="same")
        assert await redis.zcard("arq:queue") == 2

    async def test_a_browser_may_open_the_mailbox_with_the_key_as_password(
        self, redis: RedisClient, mailer_settings: MailerSettings
    ) -> None:
        async with served(mailer_settings, api_keys=f"shop:{self.KEY}") as api:
            assert (await api.get("/mailbox")).headers["www-authenticate"].startswith("Basic")
            assert (await api.get("/mailbox", auth=("any", self.KEY))).status_code == 200
            assert (await api.get("/jobs/unknown", auth=("any", self.KEY))).status_code == 404  # linked to from there
            assert (await api.post("/jobs", json=INLINE, auth=("any", self.KEY))).status_code == 401

    async def test_without_authentication_only_loopback_names_are_answered(self, api: httpx.AsyncClient) -> None:
        assert_problem(await api.get("/healthz", headers={"host": "evil.example"}), 403, "host_not_allowed")
        assert (await api.get("/healthz", headers={"host": "localhost:8000"})).status_code == 200

    async def test_without_authentication_other_sites_cannot_post(self, api: httpx.AsyncClient) -> None:
        assert_problem(await post(api, INLINE, Origin="https://evil.example"), 403, "origin_not_allowed")


class TestQueueServerAway:
    async def test_nothing_is_accepted_and_it_is_said(self, mailer_settings: MailerSettings) -> None:
        away = MailerSettings.load(
            {"POSTROOM_REDIS_URL": "redis://127.0.0.1:1", "POSTROOM_TEMPLATES_DIR": str(TEMPLATES)}
        )
        async with served(away.model_copy(update={"from_": mailer_settings.from_}), auth="off") as api:
            answer = await post(api, INLINE)
            assert_problem(answer, 503, "queue_unavailable")
            assert answer.headers["retry-after"] == "2"
            ready = await api.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
            assert (await api.get("/healthz")).status_code == 200

    async def test_a_queue_server_that_says_nothing_is_as_good_as_away(self, mailer_settings: MailerSettings) -> None:
        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as black_hole:
            port = black_hole.sockets[0].getsockname()[1]
            url = SecretStr(f"redis://127.0.0.1:{port}")
            async with served(mailer_settings.model_copy(update={"redis_url": url}), auth="off") as api:
                answer = await post(api, INLINE)
                assert_problem(answer, 503, "queue_unavailable")


class TestDocs:
    async def test_docs_need_nothing_from_elsewhere(self, api: httpx.AsyncClient) -> None:
        page = (await api.get("/docs")).text
        assert "https://" not in page
        assert "http://" not in page
        for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
            assert f"/static/docs/{asset}" in page
            assert (await api.get(f"/static/docs/{asset}")).status_code == 200

    async def test_every_operation_has_a_name_and_its_problems(self, api: httpx.AsyncClient) -> None:
        schema = (await api.get("/openapi.json")).json()
        operations = [operation for path in schema["paths"].values() for operation in path.values()]
        names = [operation["operationId"] for operation in operations]
        assert len(set(names)) == len(names)
        assert {"submit", "getJob"} <= set(names)
        submit = schema["paths"]["/jobs"]["post"]
        assert {"400", "401", "413", "415", "422", "503"} <= set(submit["responses"])

    async def test_every_example_of_the_docs_is_accepted(self, api: httpx.AsyncClient) -> None:
        schema = (await api.get("/openapi.json")).json()
        forms = schema["paths"]["/jobs"]["post"]["requestBody"]["content"]
        assert len(forms["application/json"]["examples"]) >= 4
        for media_type, form in forms.items():
            for example in form["examples"].values():
                answer = await post(api, example["value"], Content_Type=media_type)
                assert (answer.status_code, answer.json().get("rejected", 0)) == (202, 0), example

    async def test_the_headers_of_a_cloudevent_stand_beside_the_others(self, api: httpx.AsyncClient) -> None:
        schema = (await api.get("/openapi.json")).json()
        names = {parameter["name"] for parameter in schema["paths"]["/jobs"]["post"]["parameters"]}
        assert {"ce-specversion", "ce-type", "ce-source", "ce-id", "ce-time", "idempotency-key", "prefer"} <= names

    async def test_every_operation_tells_problems_as_problem_json_and_shows_an_answer(
        self, api: httpx.AsyncClient
    ) -> None:
        schema = (await api.get("/openapi.json")).json()
        for path in schema["paths"].values():
            for operation in path.values():
                for code, response in operation["responses"].items():
                    if int(code) >= 400 and operation["operationId"] != "readyz":
                        assert list(response["content"]) == ["application/problem+json"], (operation, code)
                answer = next(response for code, response in operation["responses"].items() if code < "300")
                shown = answer["content"].get("application/json")
                assert shown is None or shown.get("examples"), operation["operationId"]

    @pytest.mark.parametrize("operation", SHAPES)
    def test_every_example_of_an_answer_has_the_answers_shape(self, operation: str) -> None:
        for example in ANSWERS[operation].values():
            shown = TypeAdapter(SHAPES[operation]).validate_python(example)
            assert shown.model_dump(mode="json", by_alias=True, exclude_unset=True) == example

    def test_no_example_is_left_out(self) -> None:
        assert SHAPES.keys() == ANSWERS.keys()

    async def test_every_reference_of_the_schema_leads_somewhere(self, api: httpx.AsyncClient) -> None:
        text = (await api.get("/openapi.json")).text
        schema = json.loads(text)
        references = {part.split('"')[0] for part in text.split('"$ref":"#/components/schemas/')[1:]}
        assert references
        assert references <= set(schema["components"]["schemas"])
