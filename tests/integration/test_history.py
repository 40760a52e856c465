"""GET /jobs/{id}/history: what happened to a job, told afterwards or while it happens."""

import asyncio
from typing import Any

import httpx
import orjson

from service.routes import history
from service.waiting import SIGN_OF_LIFE_S
from tests.integration.conftest import Run
from tests.integration.test_controls import JOB
from tests.support.smtp import DROP, ScriptedRelay

EVENTS = {"Accept": "text/event-stream"}


async def told(api: httpx.AsyncClient, job_id: str) -> list[dict[str, Any]]:
    answer = await api.get(f"/jobs/{job_id}/history")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def parsed(text: str) -> list[dict[str, str]]:
    """Events of a stream; comments are left out."""
    blocks = [block.split("\n") for block in text.strip().split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block) for block in blocks]


async def test_a_history_tells_what_relay_and_people_did_and_who_it_was(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay
) -> None:
    relay.script["RCPT"] = ["550 5.1.1 Nobody here", "450 4.2.1 Busy", "250 ok"]
    job_id = await run.submit(JOB)
    await run.once(job_id)
    await api.post(f"/jobs/{job_id}/retry")
    await api.patch(f"/jobs/{job_id}", json={"stream": "bulk"})
    await run.once(job_id)
    await run.once(job_id)
    entries = await told(api, job_id)
    assert [entry["what"] for entry in entries] == [
        *("accepted", "attempted", "retried", "rescheduled", "attempted", "attempted", "sent"),
    ]
    retried, moved = entries[2], entries[3]
    assert (retried["by"], retried["was"], retried["became"]) == ("anonymous", "failed", "pending")
    assert (retried["reason"], "Nobody here" in retried["detail"]) == ("refused", True)
    assert (moved["was"], moved["became"]) == ("pending", "pending")
    assert [entry["attempt"]["code"] for entry in entries if entry["attempt"]] == [550, 450, 250]
    assert len({entry["id"] for entry in entries}) == len(entries)
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)


async def test_a_job_that_a_person_ended_has_one_end_in_its_history(api: httpx.AsyncClient, run: Run) -> None:
    job_id = await run.submit(JOB)
    await api.post(f"/jobs/{job_id}/cancel")
    assert [entry["what"] for entry in await told(api, job_id)] == ["accepted", "cancelled"]
    await api.post(f"/jobs/{job_id}/retry")
    await run.once(job_id)
    assert [entry["what"] for entry in await told(api, job_id)][2:] == ["retried", "attempted", "sent"]


async def test_an_end_without_an_attempt_is_told(api: httpx.AsyncClient, run: Run) -> None:
    job_id = await run.submit({**JOB, "expires_at": "2035-01-01T00:00:00Z"})
    await run.age(job_id, 20 * 365 * 24 * 3600)
    await run.once(job_id)
    assert [entry["what"] for entry in await told(api, job_id)] == ["accepted", "expired"]


async def test_a_job_in_doubt_has_that_at_the_end_of_its_history(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay
) -> None:
    relay.script["DOT"] = [DROP]
    job_id = await run.submit({**JOB, "unknown_policy": "hold"})
    assert (await run.once(job_id)).status == "unknown"
    assert [entry["what"] for entry in await told(api, job_id)] == ["accepted", "attempted", "unknown"]
    await api.post(f"/jobs/{job_id}/resolve", json={"as": "sent"})
    resolved = (await told(api, job_id))[-1]
    assert (resolved["what"], resolved["was"], resolved["became"]) == ("resolved", "unknown", "sent")


async def test_an_end_that_a_retry_took_back_is_not_heard_again(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay
) -> None:
    relay.script["RCPT"] = ["550 5.1.1 Nobody here", "250 ok"]
    job_id = await run.submit(JOB)
    await run.once(job_id)
    failed = (await told(api, job_id))[-1]
    await api.post(f"/jobs/{job_id}/retry")
    await run.once(job_id)
    again = await api.get(f"/jobs/{job_id}/history", headers=EVENTS | {"Last-Event-ID": failed["id"]})
    assert [event["event"] for event in parsed(again.text)] == ["retried", "attempted", "sent", "end"]


async def test_a_stream_is_kept_back_by_nobody_and_is_for_those_who_want_one(api: httpx.AsyncClient, run: Run) -> None:
    job_id = await run.submit(JOB)
    await run.once(job_id)
    stream = await api.get(f"/jobs/{job_id}/history", headers=EVENTS)
    assert (stream.headers["cache-control"], stream.headers["x-accel-buffering"]) == ("no-cache", "no")
    for accept in ("application/json", "text/event-stream;q=0, */*", "text/event-stream; q=0.0"):
        answer = await api.get(f"/jobs/{job_id}/history", headers={"Accept": accept})
        assert answer.headers["content-type"] == "application/json", accept


async def test_a_stream_tells_what_was_and_what_comes_and_ends_with_the_job(
    api: httpx.AsyncClient, run: Run, relay: ScriptedRelay
) -> None:
    relay.script["RCPT"] = ["450 4.2.1 Busy", "250 ok"]
    job_id = await run.submit(JOB)
    heard: list[str] = []
    async with api.stream("GET", f"/jobs/{job_id}/history", headers=EVENTS) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            heard.append(line)
            if line == "event: accepted" or (line == "event: attempted" and heard.count(line) == 1):
                await run.once(job_id)
    events = parsed("\n".join(heard))
    assert [event["event"] for event in events] == ["accepted", "attempted", "attempted", "sent", "end"]
    assert orjson.loads(events[1]["data"])["attempt"]["code"] == 450
    assert orjson.loads(events[-1]["data"]) == {"status": "sent"}
    assert [event["id"] for event in events[:-1]] == [entry["id"] for entry in await told(api, job_id)]


async def test_whoever_comes_again_hears_only_what_is_new(api: httpx.AsyncClient, run: Run) -> None:
    job_id = await run.submit(JOB)
    await run.once(job_id)
    entries = await told(api, job_id)
    again = await api.get(f"/jobs/{job_id}/history", headers=EVENTS | {"Last-Event-ID": entries[1]["id"]})
    assert [event["event"] for event in parsed(again.text)] == ["sent", "end"]
    lost = await api.get(f"/jobs/{job_id}/history", headers=EVENTS | {"Last-Event-ID": "nothing like this"})
    assert len(parsed(lost.text)) == 4


async def test_a_stream_ends_after_its_time_and_shows_signs_of_life_before(
    api: httpx.AsyncClient, run: Run, monkeypatch: Any
) -> None:
    monkeypatch.setattr(history, "STREAMED_S", 0.3)  # 600 s and 15 s, shortened
    monkeypatch.setattr("service.waiting.SIGN_OF_LIFE_S", 0.05)
    job_id = await run.submit({**JOB, "send_at": "2035-01-01T00:00:00Z"})
    text = (await asyncio.wait_for(api.get(f"/jobs/{job_id}/history", headers=EVENTS), SIGN_OF_LIFE_S)).text
    assert [event["event"] for event in parsed(text)] == ["accepted"]
    assert ": ping" in text


async def test_there_is_no_history_of_an_unknown_job(api: httpx.AsyncClient) -> None:
    for headers in ({}, EVENTS):
        assert (await api.get("/jobs/nothing/history", headers=headers)).status_code == 404
