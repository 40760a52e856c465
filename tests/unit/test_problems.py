"""What a caller, and the log, are told of a defect."""

import httpx
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from mailer.settings import MailerSettings
from service.app import create_app
from service.settings import ServiceSettings


async def crash() -> None:
    raise RuntimeError("no word of ada@example.com to the caller")


async def test_a_defect_is_a_problem_whose_request_id_finds_it_in_the_log():
    settings = MailerSettings.load({"POSTROOM_REDIS_URL": "redis://127.0.0.1:1/0"})
    app = create_app(settings, ServiceSettings.load({"POSTROOM_AUTH": "off"}))
    app.add_api_route("/crash", crash)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as api:
        with capture_logs(processors=[merge_contextvars]) as lines:
            answer = await api.get("/crash")
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["status"], told["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"] == told["request_id"]
    assert "ada@" not in answer.text
    (line,) = [line for line in lines if line["event"] == "request.crashed"]
    assert (line["request_id"], line["path"]) == (told["request_id"], "/crash")
    assert isinstance(line["exc_info"], RuntimeError)
