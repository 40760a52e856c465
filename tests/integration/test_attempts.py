"""GET /jobs/{id}/attempts: what was said to the relay, when, and what the relay calls the mail."""

from collections.abc import Callable

import httpx

from tests.integration.conftest import Run
from tests.support.smtp import DROP, ScriptedRelay

TO_ONE = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi\n"}


async def attempts(api: httpx.AsyncClient, job_id: str) -> list[dict]:
    job = (await api.get(f"/jobs/{job_id}")).json()
    answer = await api.get(job["links"]["attempts"])
    assert answer.status_code == 200
    return answer.json()["data"]


def said(attempt: dict, who: str) -> list[str]:
    return [line["text"] for line in attempt["conversation"] if line["who"] == who]


async def test_an_attempt_shows_the_whole_conversation_but_the_content(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay
) -> None:
    relay.extensions = ["PIPELINING", "SIZE 1000000"]
    job_id = await run.submit(TO_ONE)
    await run.once(job_id)
    (attempt,) = await attempts(api, job_id)
    size = len(relay.received[0].content)
    greeting, _, *rest = said(attempt, "postroom")
    assert greeting.startswith("EHLO ")
    assert rest == ["RCPT TO:<ada@example.com>", "DATA", f"[{size:,} octets of content]", "."]
    assert f"MAIL FROM:<hello@postroom.example> SIZE={size}" in said(attempt, "postroom")
    assert said(attempt, "relay")[0] == "220 relay.test ESMTP"
    assert said(attempt, "relay")[-1] == "250 2.0.0 queued as 4fXyz"
    assert "Hi" not in str(attempt)
    assert (attempt["outcome"], attempt["queue_id"], attempt["relay"]) == ("sent", "4fXyz", f"127.0.0.1:{relay.port}")


async def test_an_attempt_shows_how_long_each_part_took(api: httpx.AsyncClient, run: Run) -> None:
    job_ids = [await run.submit(TO_ONE) for _ in range(2)]
    for job_id in job_ids:
        await run.once(job_id)
    ((first,), (second,)) = [await attempts(api, job_id) for job_id in job_ids]
    assert set(first["timings"]) == {"connect", "banner", "ehlo", "envelope", "content", "journal", "dot"}
    assert set(second["timings"]) == {"envelope", "content", "journal", "dot"}, "on the same connection"
    assert said(second, "note") == ["a connection that carried 1 mails before"]
    at = [line["at_ms"] for line in first["conversation"]]
    assert at == sorted(at)


async def test_a_conversation_that_broke_off_says_where(api: httpx.AsyncClient, run: Run, relay: ScriptedRelay) -> None:
    relay.script["DATA"] = [DROP]
    job_id = await run.submit(TO_ONE)
    await run.once(job_id)
    (attempt,) = await attempts(api, job_id)
    assert (attempt["outcome"], attempt["phase"]) == ("deferred", "data")
    assert attempt["conversation"][-1]["who"] == "note"
    assert attempt["queue_id"] is None


async def test_a_mail_that_a_relay_would_not_take_is_not_offered_and_a_note_says_why(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay
) -> None:
    relay.extensions = ["SIZE 100"]
    job_id = await run.submit(TO_ONE)
    await run.once(job_id)
    (attempt,) = await attempts(api, job_id)
    assert (attempt["outcome"], attempt["row"]) == ("failed", "too_large")
    assert not any(text.startswith("MAIL") for text in said(attempt, "postroom"))
    assert attempt["conversation"][-1]["text"] == attempt["text"]
    assert "the relay takes 100" in attempt["text"]


async def test_what_is_no_smtp_is_not_said_to_be_a_reply(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay
) -> None:
    relay.script["BANNER"] = ["SSH-2.0-OpenSSH_9.6"]
    job_id = await run.submit(TO_ONE)
    await run.once(job_id)
    (attempt,) = await attempts(api, job_id)
    assert said(attempt, "relay") == []
    assert "SSH-2.0-OpenSSH_9.6" in said(attempt, "note")[-1]


async def test_a_relay_that_cannot_be_reached_leaves_a_note(
    api: httpx.AsyncClient, make_run: Callable[..., Run]
) -> None:
    run = make_run(smtp_url="smtp://127.0.0.1:1?tls=none")
    job_id = await run.submit(TO_ONE)
    await run.once(job_id)
    (attempt,) = await attempts(api, job_id)
    assert (attempt["phase"], attempt["code"]) == ("connect", None)
    assert "refused" in said(attempt, "note")[-1].lower()


async def test_a_long_conversation_is_shortened_in_the_middle(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay
) -> None:
    job_id = await run.submit({**TO_ONE, "to": [f"user{number}@example.com" for number in range(50)]})
    await run.once(job_id)
    (attempt,) = await attempts(api, job_id)
    assert len(attempt["conversation"]) == 81
    assert any("lines left out" in text for text in said(attempt, "note"))
    assert said(attempt, "relay")[-1].startswith("250 2.0.0 queued")


async def test_an_unknown_job_has_none(api: httpx.AsyncClient) -> None:
    answer = await api.get("/jobs/nobody/attempts")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
