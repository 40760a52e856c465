"""Whose mail is in doubt where the relay did not say the same of all recipients, and what becomes of a doubt."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mailer.jobs import RecipientStatus, Status
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobView
from tests.integration.conftest import Run
from tests.integration.two_relays import Relayed, named, relayed, set_up
from tests.support.smtp import DROP, ScriptedRelay, scripted_relay

TO_ONE = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi\n"}
TO_TWO = {**TO_ONE, "to": ["ada@example.com", "bob@example.com"]}
BUSY = "450 4.2.1 Mailbox busy"
LOST = ("250 taken, but the answer is", DROP)
SENT, FAILED = RecipientStatus.SENT, RecipientStatus.FAILED
DEFERRED, UNKNOWN = RecipientStatus.DEFERRED, RecipientStatus.UNKNOWN

NewWorld = Callable[..., Awaitable[Relayed]]


@pytest.fixture
async def new_world(make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path) -> AsyncIterator[NewWorld]:
    """A worker with these relays, "first" and "second", under a policy for lost answers."""
    async with AsyncExitStack() as stack:

        async def make(policy: str, *relays: ScriptedRelay) -> Relayed:
            servers = [await stack.enter_async_context(scripted_relay(relay)) for relay in relays]
            tables = [named(name, server) for name, server in zip(("first", "second"), servers, strict=False)]
            options = {"unknown_policy": f'{{"normal": "{policy}"}}'}
            return await stack.enter_async_context(relayed(make_run, redis, set_up(tmp_path, *tables), **options))

        yield make


def statuses(view: JobView) -> list[RecipientStatus]:
    return [item.status for item in view.job.recipients or ()]


def recipients(relay: ScriptedRelay) -> list[list[str]]:
    return [mail.recipients for mail in relay.received]


@pytest.mark.parametrize(
    ("policy", "ada", "in_the_end"), [("hold", UNKNOWN, Status.UNKNOWN), ("accept", SENT, Status.SENT)]
)
async def test_one_who_was_put_off_before_the_dot_has_the_mail_later_whatever_the_policy_says_of_the_others(
    new_world: NewWorld, policy: str, ada: RecipientStatus, in_the_end: Status
) -> None:
    first = ScriptedRelay({"RCPT bob@example.com": [BUSY, "250 ok"], "DOT": [*LOST, "250 ok"]})
    world = await new_world(policy, first)
    job_id = await world.run.submit(TO_TWO)
    view = await world.run.once(job_id)
    assert (view.job.status, statuses(view)) == (Status.DEFERRED, [ada, DEFERRED])
    view = await world.run.once(job_id)
    assert (view.job.status, statuses(view)) == (in_the_end, [ada, SENT])
    assert (view.job.unknown_outcomes, view.job.assumed) == (1, policy == "accept")
    assert recipients(first) == [["ada@example.com"], ["bob@example.com"]]


async def test_a_second_copy_that_is_refused_leaves_the_doubt_about_the_first(new_world: NewWorld) -> None:
    first = ScriptedRelay({"DOT": [*LOST, "554 5.6.0 Duplicate message"]})
    world = await new_world("resend", first)
    job_id = await world.run.submit(TO_ONE)
    await world.run.once(job_id)
    view = await world.run.once(job_id)
    assert (view.job.status, statuses(view), view.job.reason) == (Status.UNKNOWN, [UNKNOWN], None)
    assert view.job.detail is not None
    assert "may have the mail" in view.job.detail
    assert "Duplicate message" in view.job.detail
    assert view.attempts[-1].row == "content_refused"


async def test_once_nobody_is_in_doubt_any_more_the_others_may_have_another_relay(new_world: NewWorld) -> None:
    """Ada's second copy has to go to the relay that may have the first. Bob was put off each time."""
    first = ScriptedRelay({"RCPT bob@example.com": [BUSY, BUSY], "DOT": [*LOST, "250 ok"], "MAIL": ["250 ok"] * 2})
    second = ScriptedRelay()
    world = await new_world("resend", first, second)
    job_id = await world.run.submit(TO_TWO)
    view = await world.run.once(job_id)
    assert (statuses(view), view.job.stays_at) == ([RecipientStatus.PENDING, DEFERRED], "first")
    view = await world.run.once(job_id)
    assert (view.job.status, statuses(view), view.job.stays_at) == (Status.DEFERRED, [SENT, DEFERRED], None)
    first.script["MAIL"] = ["451 4.3.0 Later"]
    view = await world.run.once(job_id)
    assert (view.job.status, statuses(view), view.job.partial) == (Status.SENT, [SENT, SENT], False)
    assert (recipients(first), recipients(second)) == ([["ada@example.com"]] * 2, [["bob@example.com"]])


async def test_a_refusal_by_the_second_copy_is_each_recipients_own(new_world: NewWorld) -> None:
    """Ada's first copy may have arrived; Bob never had one."""
    first = ScriptedRelay(
        {
            "RCPT ada@example.com": ["250 ok", "550 5.1.1 No such user"],
            "RCPT bob@example.com": [BUSY, "550 5.1.1 No such user"],
            "DOT": [*LOST],
        }
    )
    world = await new_world("resend", first)
    job_id = await world.run.submit(TO_TWO)
    await world.run.once(job_id)
    view = await world.run.once(job_id)
    assert (view.job.status, statuses(view)) == (Status.UNKNOWN, [UNKNOWN, FAILED])
