"""A template that never ends: who asks for its mail is told so, and the API goes on."""

import asyncio
from pathlib import Path

from mailer.store.connection import RedisClient
from tests.support.jobs import post
from tests.support.processes import mortal_api

ENDLESS = "{% for a in range(100000) %}{% for b in range(100000) %}{% set c = a * b %}{% endfor %}{% endfor %}"
"""It writes nothing, so its bound of time is never looked at."""
AT_ONCE = 4


async def test_dry_runs_of_it_are_refused_and_the_rest_of_the_api_answers(
    redis: RedisClient, env: dict[str, str], log: Path, tmp_path: Path
) -> None:
    for name, body in (("endless", ENDLESS), ("good", "Hi")):
        folder = tmp_path / "templates" / name
        folder.mkdir(parents=True)
        (folder / "template.toml").write_text('to = { email = "a@example.com" }')
        (folder / "subject.txt").write_text("Hi")
        (folder / "body.txt").write_text(body)
    async with mortal_api(env | {"POSTROOM_TEMPLATES_DIR": str(tmp_path / "templates")}, log) as (process, api):
        wanted = [
            api.post("/jobs", params={"dry_run": "true"}, json={"template": "endless"}, timeout=40)
            for _ in range(AT_ONCE)
        ]
        for answer in await asyncio.gather(*wanted):
            assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "validation_failed"), answer.text
            assert "endless was not rendered within 10 s" in answer.json()["detail"]
        full = await api.post("/templates/good/render", json={}, timeout=40)
        assert (full.status_code, full.json()["code"]) == (503, "overloaded"), full.text
        assert int(full.headers["retry-after"]) > 0
        assert (await api.get("/healthz")).status_code == 200
        await post(api)
        assert await redis.zcard("arq:queue") == 1
        process.terminate()
        async with asyncio.timeout(20):
            await process.wait()
