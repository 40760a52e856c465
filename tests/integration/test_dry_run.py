"""POST /jobs?dry_run=true shows what would be sent, and leaves nothing behind."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailer.settings import MailerSettings
from mailer.store.connection import RedisClient
from tests.conftest import served
from tests.integration.conftest import Run
from tests.integration.test_controls import JOB
from tests.support.keyspace import contents
from tests.support.smtp import ScriptedRelay
from tests.support.source import Application

EVENT: dict[str, Any] = {"event": "user.signed_up", "data": {"id": 42}}
TO_MANY: dict[str, Any] = {
    "to": ["Ada Lovelace <ada@example.com>", "bob@example.com"],
    "cc": ["Zoë <zoe@example.com>"],
    "bcc": ["eve@example.com"],
    "from": "Grüße <hello@acme.example>",
    "reply_to": "support@acme.example",
    "subject": "Ein Brief für Ada",
    "html": "<p>" + "Grüße. " * 100 + "</p>",
    "text": "Grüße.\n",
    "headers": {"X-Campaign": "autumn"},
}
MANIFEST = """
to = { email = "{{ email }}" }
reply_to = { email = "{{ reply }}" }
preheader = "Of {{ title }}"
"""


async def rehearsed(api: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = await api.post("/jobs", params={"dry_run": "true"}, json=body)
    assert answer.status_code == 200, answer.text
    (shown,) = answer.json()["jobs"]
    found: dict[str, Any] = shown
    return found


def alike(message: bytes) -> bytes:
    """Without what no two mails have in common."""
    head, _, body = message.partition(b"\r\n\r\n")
    unfolded = head.replace(b"\r\n ", b" ").split(b"\r\n")
    kept = [line for line in unfolded if not line.lower().startswith((b"message-id:", b"date:"))]
    text = b"\r\n".join(kept) + b"\r\n\r\n" + body
    return re.sub(rb"[0-9a-f]{32}", b"an id", text)


def write(root: Path, name: str, manifest: str, **files: str) -> None:
    """A template with a title, an address and one for replies, of which no sample says anything."""
    (root / name).mkdir()
    texts = {"template.toml": manifest, "subject.txt": "Note: {{ title }}", "body.txt": "{{ title }}"}
    for file, text in {**texts, **files}.items():
        (root / name / file).write_text(text)


@pytest.mark.parametrize("body", [TO_MANY, JOB, EVENT, {"template": "receipt", "data": {"id": 1042}}])
async def test_what_is_shown_is_what_is_sent(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay, app_source: Application, body: dict[str, Any]
) -> None:
    """Byte for byte, but for ids and times. The demo application answers what the samples say."""
    if "event" in body:
        body = {**body, "data": {"id": 42, "user": app_source.answers["/users/42"]}}
    if body.get("template") == "receipt":
        body = {**body, "data": {"id": 1042, "order": app_source.answers["/orders/1042"]}}
    shown = await rehearsed(api, body)
    await run.once(await run.submit(body))
    (received,) = relay.received
    assert alike(shown["message"].encode()) == alike(received.content)
    assert sorted(item["email"] for item in shown["recipients"]) == sorted(received.recipients)
    assert shown["size"] == len(shown["message"].encode())


async def test_nothing_is_recorded_fetched_or_sent(
    api: httpx.AsyncClient, redis: RedisClient, relay: ScriptedRelay, app_source: Application
) -> None:
    assert (await api.post("/jobs", json=JOB)).status_code == 202
    before = await contents(redis)
    assert before
    answer = await api.post(
        "/jobs", params={"dry_run": "true"}, json=EVENT, headers={"Idempotency-Key": "one", "Prefer": "wait=10"}
    )
    assert answer.status_code == 200
    assert (await api.post("/jobs", params={"dry_run": "true"}, json={"template": "nothing"})).status_code == 422
    assert await contents(redis) == before
    assert (relay.connections, app_source.requests) == (0, [])
    real = await api.post("/jobs", json=EVENT, headers={"Idempotency-Key": "one"})
    assert (real.status_code, "idempotency-replayed" in real.headers) == (202, False), "the key is free"


async def test_a_source_that_data_says_nothing_of_is_told_by_the_sample_and_named(api: httpx.AsyncClient) -> None:
    shown = await rehearsed(api, EVENT)
    assert shown["from_sample"] == ["user"]
    assert shown["subject"] == "Welcome to Postroom, Ada Lovelace"
    assert shown["recipients"] == [{"email": "ada@example.com", "name": "Ada Lovelace", "field": "to"}]
    user = {"name": "Zoë", "email": "zoe@example.com", "dashboard_url": "https://x.example"}
    shown = await rehearsed(api, {"event": "user.signed_up", "data": {"id": 42, "user": user}})
    assert (shown["from_sample"], shown["recipients"][0]["email"]) == ([], "zoe@example.com")


async def test_times_are_shown_as_they_would_be(api: httpx.AsyncClient) -> None:
    times = {"send_at": "2035-06-01T09:00:00+02:00", "expires_at": "2035-06-01T12:00:00+02:00"}
    shown = await rehearsed(api, JOB | times)
    assert (shown["status"], shown["due_at"], shown["expires_at"]) == (
        *("scheduled", "2035-06-01T07:00:00.000Z", "2035-06-01T10:00:00.000Z"),
    )
    assert "Date: Fri, 1 Jun 2035 07:00:00 +0000\r\n" in shown["message"]


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"template": "nothing"}, "unknown_template", "/template"),
        ({"event": "nothing.happened"}, "unknown_event", "/event"),
        ({"template": "receipt", "data": {"idd": 1}}, "validation_failed", "/data/idd"),
        (JOB | {"to": "nobody"}, "validation_failed", "/to/0"),
        (JOB | {"subject": "a\nb"}, "header_injection", "/subject"),
        (
            {"event": "user.signed_up", "data": {"id": 42, "user": {"name": "Ada"}}},
            "template_variable_missing",
            "/data",
        ),
        (
            {"event": "user.signed_up", "data": {"id": 42, "user": {"name": "A", "email": "x\n@example.com"}}},
            "header_injection",
            "/data",
        ),
    ],
)
async def test_what_would_be_refused_or_could_not_be_rendered_is_named(
    api: httpx.AsyncClient, body: dict[str, Any], code: str, pointer: str
) -> None:
    answer = await api.post("/jobs", params={"dry_run": "true"}, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert any(error["pointer"].startswith(pointer) for error in answer.json()["errors"])


async def test_a_key_that_is_none_is_named_here_too(api: httpx.AsyncClient) -> None:
    answer = await api.post("/jobs", params={"dry_run": "true"}, json=JOB, headers={"Idempotency-Key": "a b"})
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")


async def test_a_mail_that_its_template_would_not_send_is_shown_as_skipped(
    redis: RedisClient, mailer_settings: MailerSettings, tmp_path: Path
) -> None:
    write(tmp_path, "note", MANIFEST + 'when = "{{ wanted }}"\n')
    async with served(mailer_settings.model_copy(update={"templates_dir": tmp_path}), auth="off") as api:
        for wanted, status in ((False, "skipped"), (True, "queued")):
            data = {"title": "T", "email": "a@example.com", "reply": "r@example.com", "wanted": wanted}
            shown = await rehearsed(api, {"template": "note", "data": data})
            assert (shown["status"], shown["message"] is None) == (status, status == "skipped")


async def test_an_event_shows_a_mail_for_each_template_that_answers_it_or_none(
    redis: RedisClient, mailer_settings: MailerSettings, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        write(tmp_path, name, MANIFEST + 'events = ["noted"]\n')
    data = {"title": "T", "email": "a@example.com", "reply": "r@example.com"}
    event = {"event": "noted", "data": data}
    async with served(mailer_settings.model_copy(update={"templates_dir": tmp_path}), auth="off") as api:
        answer = await api.post("/jobs", params={"dry_run": "true"}, json=event)
        assert [(job["template"], job["status"]) for job in answer.json()["jobs"]] == [
            ("one", "queued"),
            ("two", "queued"),
        ]
        event["data"] = data | {"reply": "nobody"}
        answer = await api.post("/jobs", params={"dry_run": "true"}, json=event)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


async def test_an_address_beyond_ascii_is_shown_as_it_is_sent(api: httpx.AsyncClient) -> None:
    shown = await rehearsed(api, JOB | {"to": "jörg@example.com"})
    assert "To: jörg@example.com\r\n" in shown["message"]
    assert shown["size"] == len(shown["message"].encode())
