"""One recipient is taken, one refused, one put off: what the job is at each moment, and who has the mail in the end."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.integration.conftest import Run
from tests.support.smtp import DROP, ScriptedRelay
from worker.delivery import deliver

ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"
TO_THREE = {"to": [ADA, BOB, EVE], "subject": "Hello", "text": "Hi"}
LATER = "450 4.2.1 Busy"


@pytest.fixture
def relay_says(relay: ScriptedRelay) -> ScriptedRelay:
    relay.script |= {f"RCPT {BOB}": ["550 5.1.1 No such user"], f"RCPT {EVE}": [LATER]}
    return relay


async def shown(api: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    """Status, whether in part, and that of Ada, Bob and Eve."""
    found = (await api.get(f"/jobs/{job_id}")).json()
    people = [item["status"] for item in found["recipients"]]
    return {"status": found["status"], "partial": found["partial"], "people": people}


def is_(status: str, ada: str, bob: str, eve: str, *, partial: bool = False) -> dict[str, Any]:
    return {"status": status, "partial": partial, "people": [ada, bob, eve]}


PUT_OFF = is_("deferred", "sent", "failed", "deferred")


async def test_only_who_was_put_off_is_tried_again_until_it_is_taken(
    api: httpx.AsyncClient, run: Run, relay_says: ScriptedRelay
) -> None:
    job_id = await run.submit(TO_THREE)
    assert await shown(api, job_id) == is_("queued", "pending", "pending", "pending")
    lease = await run.claim(job_id)
    assert lease is not None
    assert await shown(api, job_id) == is_("sending", "pending", "pending", "pending")
    await deliver(lease, run.deps)
    assert await shown(api, job_id) == PUT_OFF
    await run.once(job_id)
    assert await shown(api, job_id) == PUT_OFF
    relay_says.script[f"RCPT {EVE}"] = ["250 ok"]
    await run.once(job_id)
    assert await shown(api, job_id) == is_("sent", "sent", "failed", "sent", partial=True)
    assert [mail.recipients for mail in relay_says.received] == [[ADA], [EVE]]
    assert [command for command in relay_says.commands if command.startswith("RCPT")] == [
        f"RCPT TO:<{email}>" for email in (ADA, BOB, EVE, EVE, EVE)
    ]


async def test_when_its_time_for_trying_is_over_it_is_sent_in_part(
    api: httpx.AsyncClient, run: Run, relay_says: ScriptedRelay
) -> None:
    job_id = await run.submit(TO_THREE)
    await run.once(job_id)
    await run.age(job_id, 4 * 24 * 3600)
    await run.once(job_id)
    assert await shown(api, job_id) == is_("sent", "sent", "failed", "failed", partial=True)


async def test_when_its_authors_time_is_over_it_is_sent_in_part(
    api: httpx.AsyncClient, run: Run, relay_says: ScriptedRelay
) -> None:
    expires_at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    job_id = await run.submit({**TO_THREE, "expires_at": expires_at})
    await run.once(job_id)
    assert await shown(api, job_id) == PUT_OFF
    await run.age(job_id, 2 * 3600)
    await run.once(job_id)
    assert await shown(api, job_id) == is_("sent", "sent", "failed", "failed", partial=True)
    assert len([command for command in relay_says.commands if command.startswith("MAIL")]) == 1


async def test_when_it_is_cancelled_it_is_sent_in_part(
    api: httpx.AsyncClient, run: Run, relay_says: ScriptedRelay
) -> None:
    job_id = await run.submit(TO_THREE)
    await run.once(job_id)
    assert (await api.post(f"/jobs/{job_id}/cancel")).status_code == 200
    assert await shown(api, job_id) == is_("sent", "sent", "failed", "cancelled", partial=True)
    await run.once(job_id)
    assert [mail.recipients for mail in relay_says.received] == [[ADA]]


async def test_where_the_answer_to_its_dot_is_lost_each_has_a_status_of_its_own(
    api: httpx.AsyncClient, run: Run, relay_says: ScriptedRelay
) -> None:
    """The second copy is for Ada, who may have the first; Eve never had one."""
    relay_says.script["DOT"] = ["250 taken, but", DROP, "250 ok"]
    job_id = await run.submit(TO_THREE)
    await run.once(job_id)
    assert await shown(api, job_id) == is_("deferred", "pending", "failed", "deferred")
    await run.once(job_id)
    assert await shown(api, job_id) == PUT_OFF
    assert (await api.post(f"/jobs/{job_id}/cancel")).status_code == 200
    assert await shown(api, job_id) == is_("sent", "sent", "failed", "cancelled", partial=True)
    assert [mail.recipients for mail in relay_says.received] == [[ADA], [ADA]]


async def test_who_may_have_it_is_in_doubt_when_it_is_cancelled(
    api: httpx.AsyncClient, run: Run, relay_says: ScriptedRelay
) -> None:
    relay_says.script["DOT"] = ["250 taken, but", DROP, "250 ok"]
    job_id = await run.submit(TO_THREE)
    await run.once(job_id)
    assert (await api.post(f"/jobs/{job_id}/cancel")).status_code == 200
    assert await shown(api, job_id) == is_("unknown", "unknown", "failed", "cancelled")
    await run.once(job_id)
    assert [mail.recipients for mail in relay_says.received] == [[ADA]]
