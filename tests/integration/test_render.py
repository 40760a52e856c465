"""POST /templates/{name}/render shows a template as it would be sent, and leaves nothing behind."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailer.settings import MailerSettings
from mailer.store.connection import RedisClient
from tests.conftest import served
from tests.integration.test_dry_run import MANIFEST, write
from tests.support.keyspace import contents
from tests.support.source import Application

SAMPLE = '{"title": "T", "email": "ada@example.com", "reply": "desk@example.com"}'


async def test_a_template_is_rendered_with_its_sample_and_what_is_given(api: httpx.AsyncClient) -> None:
    sample = (await api.post("/templates/receipt/render", json={})).json()
    assert sample["template"] == "receipt"
    assert "A-1042" in sample["subject"] + sample["text"]
    assert "style=" in sample["html"], "as it is sent: styles are inline"
    user = {"name": "Zoë", "email": "zoe@example.com", "dashboard_url": "https://x.example"}
    own = (await api.post("/templates/welcome/render", json={"data": {"user": user}})).json()
    assert own["recipients"] == [{"email": "zoe@example.com", "name": "Zoë", "field": "to"}]


@pytest.mark.parametrize(
    ("name", "body", "status", "code"),
    [
        ("recept", {}, 404, "not_found"),
        ("receipt", {"data": {"idd": 1}}, 422, "validation_failed"),
        ("receipt", {"data": {"order": {}}}, 422, "template_variable_missing"),
        ("receipt", {"dta": {}}, 422, "validation_failed"),
        ("receipt", [], 422, "validation_failed"),
    ],
)
async def test_what_cannot_be_rendered_is_named(
    api: httpx.AsyncClient, name: str, body: Any, status: int, code: str
) -> None:
    answer = await api.post(f"/templates/{name}/render", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_an_unknown_template_is_told_with_the_nearest_name(api: httpx.AsyncClient) -> None:
    assert "did you mean receipt?" in (await api.post("/templates/recept/render", json={})).json()["detail"]


@pytest.fixture
async def notes(
    redis: RedisClient, mailer_settings: MailerSettings, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """The API with a template `note`, and one that is broken."""
    write(tmp_path, "note", MANIFEST, **{"sample.json": SAMPLE})
    write(tmp_path, "bad", MANIFEST, **{"body.txt": "{{ oops"})
    async with served(mailer_settings.model_copy(update={"templates_dir": tmp_path}), auth="off") as api:
        yield api


async def test_all_of_a_mail_that_its_template_decides_is_shown(notes: httpx.AsyncClient) -> None:
    shown = (await notes.post("/templates/note/render", json={"data": {"title": "Tea"}})).json()
    assert (shown["subject"], shown["preheader"], shown["text"], shown["html"]) == ("Note: Tea", "Of Tea", "Tea", None)
    assert [item["email"] for item in shown["recipients"]] == ["ada@example.com"]
    assert [item["email"] for item in shown["reply_to"]] == ["desk@example.com"]


@pytest.mark.parametrize(
    ("data", "code", "pointer"),
    [
        ({"email": "nobody"}, "validation_failed", "/data/email"),
        ({"email": "a@example.com\nb@example.com"}, "header_injection", "/data/email"),
        ({"reply": "nobody"}, "validation_failed", "/data/reply"),
        ({"title": "T\r\nBcc: eve@example.com"}, "header_injection", "/data/title"),
    ],
)
async def test_what_could_not_be_sent_is_not_shown_and_the_field_is_named(
    notes: httpx.AsyncClient, data: dict[str, str], code: str, pointer: str
) -> None:
    answer = await notes.post("/templates/note/render", json={"data": data})
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_a_broken_template_is_told_as_a_job_would_be(notes: httpx.AsyncClient) -> None:
    for answer in (
        await notes.post("/templates/bad/render", json={}),
        await notes.post("/jobs", params={"dry_run": "true"}, json={"template": "bad"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "template_broken")
        assert "body.txt, line 1" in answer.json()["detail"]


async def test_nothing_is_recorded_or_fetched(
    api: httpx.AsyncClient, redis: RedisClient, app_source: Application
) -> None:
    before = await contents(redis)
    for body in ({}, {"data": {"id": 7}}, {"data": {"idd": 7}}):
        await api.post("/templates/welcome/render", json=body)
    assert await contents(redis) == before
    assert app_source.requests == []
