"""A relay that asks for patience is given it: the same one is asked again, after 1, 6 and 16 minutes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mailer.jobs import RecipientStatus, Status
from mailer.relays import paused
from mailer.store.connection import RedisClient
from tests.integration.conftest import Run
from tests.integration.two_relays import named, relayed, set_up
from tests.support.smtp import ScriptedRelay, scripted_relay

MINUTE_MS = 60_000
LATER = "450 4.2.0 Greylisted, please come back"
JOB = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi\n"}
TWO = {**JOB, "to": ["ada@example.com", "bob@example.com"]}


@pytest.mark.parametrize("moment", ["RCPT", "DATA", "DOT"])
async def test_it_is_asked_again_after_one_six_and_sixteen_minutes_and_no_other_relay_is(
    moment: str, make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path
) -> None:
    first = ScriptedRelay(
        {moment: [LATER] * (6 if moment == "DOT" else 3) + ["354 go on" if moment == "DATA" else "250"]}
    )
    async with scripted_relay(first), scripted_relay() as second:
        relays = set_up(tmp_path, named("first", first), named("second", second))
        async with relayed(make_run, redis, relays) as world:
            job_id = await world.run.submit(JOB)
            views = [await world.run.once(job_id) for _ in range(4)]
            state = await world.state()
    assert [view.job.status for view in views] == [Status.DEFERRED] * 3 + [Status.SENT]
    assert [view.job.stays_at for view in views] == ["first"] * 3 + [None]
    waits = [view.job.next_attempt_at - view.attempts[-1].at for view in views[:3] if view.job.next_attempt_at]
    assert [round(wait / MINUTE_MS) for wait in waits] == [1, 5, 10]
    assert (views[-1].job.attempts, len(first.received), second.connections) == (4, 1, 0)
    assert (state.trouble, state.pace) == (None, 1.0), "it is well"


async def test_who_is_greylisted_waits_and_who_is_not_has_the_mail(
    make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path
) -> None:
    first = ScriptedRelay({"RCPT bob@example.com": [LATER, "250 ok"]})
    async with scripted_relay(first), scripted_relay() as second:
        relays = set_up(tmp_path, named("first", first), named("second", second))
        async with relayed(make_run, redis, relays) as world:
            job_id = await world.run.submit(TWO)
            view = await world.run.once(job_id)
            statuses = [item.status for item in view.job.recipients or ()]
            last = await world.run.once(job_id)
    assert (statuses, view.job.stays_at) == ([RecipientStatus.SENT, RecipientStatus.DEFERRED], "first")
    assert (last.job.status, last.job.partial, second.connections) == (Status.SENT, False, 0)
    assert [mail.recipients for mail in first.received] == [["ada@example.com"], ["bob@example.com"]]


async def test_while_its_relay_may_not_be_asked_another_has_the_mail(
    make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path
) -> None:
    """There is no copy to fear, and patience with a relay that is away has no end."""
    first = ScriptedRelay({"RCPT": [LATER, "250 ok"]})
    async with scripted_relay(first), scripted_relay() as second:
        relays = set_up(tmp_path, named("first", first), named("second", second))
        async with relayed(make_run, redis, relays) as world:
            job_id = await world.run.submit(JOB)
            await world.run.once(job_id)
            await world.store.change("first", paused)
            await world.board.look()
            view = await world.run.once(job_id)
    assert (view.job.status, view.job.attempts, view.attempts[-1].relay) == (Status.SENT, 2, "second")
    assert (first.received, len(second.received)) == ([], 1)
