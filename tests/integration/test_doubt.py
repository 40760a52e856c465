"""Whose mail is in doubt where the relay did not say the same of all recipients, and what becomes of a doubt."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest

from mailer.jobs import Reason, RecipientStatus, Status
from mailer.relays import paused
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobView
from mailer.store.packing import unpack
from tests.integration.conftest import Run
from tests.integration.two_relays import Relayed, named, relayed, set_up
from tests.support.smtp import DROP, HANG, ScriptedRelay, scripted_relay
from tests.support.waiting import until
from worker.delivery import deliver

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
    assert statuses(view) == [RecipientStatus.PENDING, DEFERRED]
    view = await world.run.once(job_id)
    assert (view.job.status, statuses(view)) == (Status.DEFERRED, [SENT, DEFERRED])
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


async def test_one_who_was_only_put_off_does_not_wait_for_the_relay_that_another_is_bound_to(
    new_world: NewWorld,
) -> None:
    """Ada's second copy does: her relay may have the first."""
    first, second = ScriptedRelay({"RCPT bob@example.com": [BUSY], "DOT": [*LOST, "250 ok"]}), ScriptedRelay()
    world = await new_world("resend", first, second)
    job_id = await world.run.submit(TO_TWO)
    await world.run.once(job_id)
    await world.store.change("first", paused)
    await world.board.look()
    view = await world.run.once(job_id)
    assert (view.job.status, statuses(view)) == (Status.DEFERRED, [RecipientStatus.PENDING, SENT])
    waiting = await world.run.once(job_id)
    assert (waiting.job.detail, waiting.job.attempts) == ("first: paused", 2)
    assert (recipients(first), recipients(second)) == ([["ada@example.com"]], [["bob@example.com"]])


@pytest.mark.parametrize("policy", ["hold", "accept"])
async def test_a_greylist_is_waited_for_though_others_are_in_doubt(new_world: NewWorld, policy: str) -> None:
    first = ScriptedRelay({"RCPT bob@example.com": ["450 4.7.1 Greylisted"], "DOT": [*LOST, "250 ok"]})
    world = await new_world(policy, first)
    view = await world.run.once(await world.run.submit(TO_TWO))
    assert view.job.next_attempt_at is not None
    assert view.job.next_attempt_at - view.attempts[-1].at >= 60_000
    assert view.job.stays_at == "first"


@pytest.mark.parametrize("policy", ["hold", "accept"])
@pytest.mark.parametrize("stopped", [True, False], ids=["given back", "killed"])
async def test_what_a_relay_took_in_a_run_that_came_to_nothing_is_no_doubt_later(
    new_world: NewWorld, policy: str, stopped: bool
) -> None:
    """The first relay takes both, and then not the mail; the run ends while the second is asked. In the next run the
    second has the mail for Bob only, and its answer is lost."""
    first = ScriptedRelay(
        {
            "RCPT bob@example.com": ["250 ok", "451 4.3.0 Temporary local trouble"],
            "DOT": ["451 4.3.0 Later", "451 4.3.0 Later"],
            "DATA": ["354 go on", "what?"],
        }
    )
    second = ScriptedRelay({"BANNER": [HANG, "220 ready"], "DOT": [*LOST]})
    world = await new_world(policy, first, second)
    job_id = await world.run.submit(TO_TWO)
    lease = await world.run.claim(job_id)
    assert lease is not None
    running = asyncio.create_task(deliver(lease, world.run.deps))

    async def is_asked() -> bool:
        return second.connections > 0

    await until(is_asked, what="the second relay asked")
    running.cancel()
    await asyncio.wait([running])
    if stopped:
        await lease.give_back()
    else:
        await world.run.redis.delete(keys.arq_in_progress(job_id))  # its lease is over
    view = await world.run.once(job_id)
    assert (recipients(first), recipients(second)) == ([], [["bob@example.com"]])
    assert (view.job.status, view.job.crashes) == (Status.DEFERRED, 0)
    assert statuses(view) == [RecipientStatus.PENDING, UNKNOWN if policy == "hold" else SENT]


async def test_a_second_copy_that_release_0_2_had_promised_is_in_doubt_still(new_world: NewWorld) -> None:
    """It wrote of a job, not of its recipients, that an answer was lost."""
    first = ScriptedRelay({"DOT": [*LOST, "554 5.6.0 Duplicate message"]})
    world = await new_world("resend", first)
    job_id = await world.run.submit(TO_ONE)
    await world.run.once(job_id)
    written = orjson.loads(unpack(await world.run.redis.hget(keys.job(job_id), "recipients") or b""))
    assert [item.pop("in_doubt") for item in written] == ["first"]
    await world.run.redis.hset(keys.job(job_id), "recipients", orjson.dumps(written))
    view = await world.run.once(job_id)
    assert (view.job.status, statuses(view)) == (Status.UNKNOWN, [UNKNOWN])


async def test_one_who_fails_is_not_said_to_have_been_taken_in_a_run_that_came_to_nothing(new_world: NewWorld) -> None:
    """The first relay took her, and then not the mail; the worker died while the second was asked."""
    first, second = ScriptedRelay({"DOT": ["451 4.3.0 Later"] * 2}), ScriptedRelay({"BANNER": [HANG, DROP]})
    world = await new_world("hold", first, second)
    job_id = await world.run.submit(TO_ONE)
    await given_back_at(world, job_id, second)
    first.script["BANNER"] = [DROP]
    first.writers.copy().pop().close()
    await world.run.age(job_id, 4 * 24 * 3600)
    view = await world.run.once(job_id)
    assert (view.job.status, view.job.reason, statuses(view)) == (Status.FAILED, Reason.GAVE_UP, [FAILED])
    assert [item.reply for item in view.job.recipients or ()] == [None]


async def given_back_at(world: Relayed, job_id: str, relay: ScriptedRelay) -> None:
    """A run that is stopped while this relay is asked."""
    lease = await world.run.claim(job_id)
    assert lease is not None
    running = asyncio.create_task(deliver(lease, world.run.deps))

    async def is_asked() -> bool:
        return relay.connections > 0

    await until(is_asked, what="the relay asked")
    running.cancel()
    await asyncio.wait([running])
    await lease.give_back()
