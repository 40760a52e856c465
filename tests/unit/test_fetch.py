"""What a fetch says to a source, and which of its headers are not sent."""

import pytest
from pydantic import SecretStr

from mailer.catalogue import load_catalogue
from mailer.errors import RenderingError
from mailer.http import GuardedClient
from tests.support.source import application
from worker.fetch import MAX_HEADER_CHARS, Fetcher

MANIFEST = """
[fetch.user]
url = "{{ sources.app }}/users/{{ id }}"
headers = { Authorization = "Bearer {{ secrets.token }}", X-Ref = "{{ id }}" }
"""


async def fetch(root, token: str, user_id: str):
    """What the template was given, and the requests that the application saw."""
    (root / "a").mkdir()
    for file, text in {"subject.txt": "s", "body.txt": "b", "template.toml": MANIFEST}.items():
        (root / "a" / file).write_text(text)
    with application() as app:
        app.answers["/users/42"] = {"name": "Ada"}
        async with GuardedClient(["127.0.0.1"]) as client:
            fetcher = Fetcher(client, {"app": app.url}, {"token": SecretStr(token)})
            try:
                return await fetcher.fetch(load_catalogue(root).get("a"), {"id": user_id}), app.requests
            except RenderingError as error:
                assert app.requests == [], "nothing was sent"
                raise RenderingError(str(error)) from None


async def test_a_secret_reaches_the_source_in_a_header(tmp_path):
    variables, [(path, headers)] = await fetch(tmp_path, "hunter2", "42")
    assert variables == {"user": {"name": "Ada"}}
    assert (path, headers["Authorization"], headers["X-Ref"]) == ("/users/42", "Bearer hunter2", "42")


@pytest.mark.parametrize("user_id", ["4\r\nHost: evil.example", "4\n", "\0", "é", "x" * (MAX_HEADER_CHARS + 1)])
async def test_a_value_cannot_add_a_header_and_an_unwritable_one_is_named(tmp_path, user_id):
    with pytest.raises(RenderingError, match="the fetch header X-Ref is too long, or has a character beyond"):
        await fetch(tmp_path, "hunter2", user_id)


async def test_a_secret_that_no_header_can_carry_is_not_repeated(tmp_path):
    with pytest.raises(RenderingError, match="the fetch header Authorization") as caught:
        await fetch(tmp_path, "hunter2é", "42")
    assert "hunter2" not in str(caught.value)
