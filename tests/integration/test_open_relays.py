"""A relay that is open: what opens it, who waits and for how long, who finds out, and what closes it. Job by job."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from structlog.testing import capture_logs

from mailer.jobs import Phase, Reason, Status
from mailer.relays import OpenedBy, RelayState, paused, resumed
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobView
from mailer.store.relays import Transition
from tests.integration.conftest import QUEUES, Run
from tests.integration.two_relays import Relayed, named, relayed, set_up
from tests.support.smtp import DROP, ScriptedRelay, scripted_relay
from tests.support.waiting import until
from worker.delivery import deliver
from worker.relays import board as boards
from worker.relays.breaker import Barred, Usable
from worker.relays.timeouts import Timeouts

JOB: dict[str, Any] = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi\n"}
SENT = (1, "first", "sent", Phase.DOT)
BY_CONNECTION = "first: open (connection)"
Tables = dict[str, str]
Hire = Callable[..., Awaitable[Relayed]]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "LOOK_EVERY_S", 0.02)  # 1 s, shortened


@pytest.fixture
async def hire(make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path) -> AsyncIterator[Hire]:
    """A worker by its name, with relays of these tables."""
    async with AsyncExitStack() as stack:

        async def make(name: str, *tables: Tables) -> Relayed:
            relays = set_up(tmp_path, *tables)
            return await stack.enter_async_context(relayed(make_run, redis, relays, Timeouts(), name))

        yield make


@asynccontextmanager
async def at_work(*workers: Relayed) -> AsyncIterator[None]:
    """Their boards look and tell."""
    running = [asyncio.create_task(worker.board.run()) for worker in workers]
    try:
        yield
        assert not any(task.done() for task in running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)


async def sent(worker: Relayed, job_id: str | None = None) -> JobView:
    """That job once more, or a new one."""
    return await worker.run.once(job_id or await worker.run.submit(JOB))


async def opens(*workers: Relayed, name: str = "first") -> None:
    """As if nobody could have been reached there just now."""
    for worker in workers[:1]:
        await worker.store.change(
            name,
            lambda _, now: RelayState(
                opened_at=now, open_until=now + 30_000, openings=1, opened_by=OpenedBy.CONNECTION
            ),
        )
    for worker in workers:
        await worker.board.look()


async def half_opens(*workers: Relayed, name: str = "first") -> None:
    """As if its time were over."""

    def over(state: RelayState, now: int) -> RelayState:
        open_until = None if state.open_until is None else now - 1
        return replace(state, open_until=open_until, refused=dict.fromkeys(state.refused, now - 1))

    await changed(workers, name, over)


async def changed(workers: tuple[Relayed, ...], name: str, transition: Transition) -> None:
    """And all of them know."""
    await workers[0].store.change(name, transition)
    for worker in workers:
        await worker.board.look()


async def closed(worker: Relayed, name: str = "first") -> None:
    """For all, and this one has seen it."""

    async def look() -> bool:
        return (await worker.state(name)).opened_at is None and worker.board.standing(name) == Usable()

    await until(look, what=f"the breaker of {name} closed")


def tries(view: JobView) -> list[tuple[int, str | None, str, Phase]]:
    return [(each.number, each.relay, each.outcome, each.phase) for each in view.attempts]


def waits(view: JobView, detail: str) -> bool:
    """Without an attempt."""
    return (view.job.status, view.job.attempts, view.job.detail) == (Status.PENDING, 0, detail)


async def due_in_s(worker: Relayed, job_id: str) -> float:
    (due,) = [at for name in QUEUES if (at := await worker.run.redis.zscore(name, job_id)) is not None]
    seconds, microseconds = await worker.run.redis.time()
    return float(due / 1000 - seconds - microseconds / 1_000_000)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def secured(folder: Path, ca: trustme.CA, relay: ScriptedRelay, password: str = "wrong") -> Tables:
    """TLS from the start, and a login."""
    ca.cert_pem.write_to_path(folder / "ca.pem")
    url = f"smtps://localhost:{relay.port}"
    return {"name": "first", "url": url, "ca_file": "ca.pem", "username": "postroom", "password": password}


def with_tls(ca: trustme.CA, script: dict[str, list[str]]) -> ScriptedRelay:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    return ScriptedRelay(script, ["AUTH PLAIN LOGIN"], context)


# What opens it


async def test_connections_that_fail_one_after_another_open_it_and_then_no_attempt_is_burned(hire: Hire) -> None:
    """Three of them, or half of its connections; those of all workers together."""
    async with scripted_relay(ScriptedRelay({"BANNER": [DROP]})) as relay:
        table = named("first", relay, connections="2")
        anna, bert = await hire("anna", table), await hire("bert", table)
        with capture_logs() as logs:
            views = [await sent(worker) for worker in (anna, bert, anna)]
        assert [(view.job.status, view.job.attempts) for view in views] == [(Status.DEFERRED, 1)] * 3
        await bert.board.look()
        assert waits(new := await sent(bert), BY_CONNECTION)
        old = await sent(anna, views[0].job.id)
        assert (old.job.status, old.job.attempts, len(old.attempts)) == (Status.DEFERRED, 1, 1)
        assert old.job.detail == BY_CONNECTION
        assert 25 < await due_in_s(bert, new.job.id) <= 31, "when somebody may find out"
        assert relay.connections == 3
    assert [(each["by"], each["openings"]) for each in logs if each["event"] == "relay.opened"] == [("connection", 1)]


async def test_a_mail_that_goes_through_forgets_the_failures_before_it(hire: Hire) -> None:
    script = {"BANNER": [DROP, DROP, "220 here", DROP, DROP, "220 here"]}
    async with scripted_relay(ScriptedRelay(script)) as relay:
        worker = await hire("anna", named("first", relay, connections="2"))
        statuses = []
        for _ in range(6):
            statuses.append((await sent(worker)).job.status)
            await worker.run.deps.router.close()  # the next one needs a connection of its own
    assert statuses == [Status.DEFERRED, Status.DEFERRED, Status.SENT] * 2
    assert (await worker.state()).opened_at is None


async def test_logins_that_are_cut_three_times_are_a_refused_password_and_somebody_is_told(
    hire: Hire, tmp_path: Path, authority: trustme.CA
) -> None:
    """With no login between them that goes well."""
    relay = with_tls(authority, {"AUTH": [DROP, DROP, "235 2.7.0 Yes", DROP]})
    async with scripted_relay(relay, implicit_tls=True):
        worker = await hire("anna", secured(tmp_path, authority, relay))
        opened, alerts = [], []
        for _ in range(6):
            with capture_logs() as logs:
                await sent(worker)
            await worker.run.deps.router.close()
            opened.append((await worker.state()).opened_by)
            alerts.append([each["row"] for each in logs if each["event"] == "relay.alert"])
        assert opened == [None] * 5 + [OpenedBy.CREDENTIALS]
        assert alerts == [[]] * 5 + [["dropped_at_auth"]]
        assert waits(view := await sent(worker), "first: open (credentials)")
        assert await due_in_s(worker, view.job.id) > 55, "five minutes, looked at each minute"
    assert relay.connections == 6


async def test_a_relay_that_is_busy_at_the_door_is_used_with_half_the_connections(hire: Hire) -> None:
    inside, most = 0, 0

    async def count() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.05)
        inside -= 1

    async with scripted_relay(ScriptedRelay({"BANNER": ["421 4.3.2 Busy", "220 here"]})) as relay:
        relay.before_dot = count
        worker = await hire("anna", named("first", relay, connections="8"))
        assert (await sent(worker)).job.status is Status.DEFERRED
        jobs = [await worker.run.submit(JOB) for _ in range(12)]
        views = await asyncio.gather(*(worker.run.once(job_id) for job_id in jobs))
    assert {view.job.status for view in views} == {Status.SENT}
    assert 1 <= most <= 4
    assert len(relay.received) == 12


# Who waits


async def test_where_all_are_open_the_mail_waits_for_the_first_of_them_and_goes_through_it_once(hire: Hire) -> None:
    first = ScriptedRelay({"BANNER": ["554 5.7.1 Go away"]})
    second = ScriptedRelay({"BANNER": ["554 5.7.1 Nor here", "220 here"]})
    async with scripted_relay(first), scripted_relay(second):
        worker = await hire("anna", named("first", first), named("second", second))
        view = await sent(worker)
        assert tries(view) == [(1, "first", "failed_over", Phase.BANNER), (1, "second", "deferred", Phase.BANNER)]
        job_id = view.job.id
        for _ in range(3):
            view = await sent(worker, job_id)
            assert (view.job.status, view.job.attempts, len(view.attempts)) == (Status.DEFERRED, 1, 2)
            assert view.job.detail == "first: open (refused); second: open (refused)"
        assert (first.connections, second.connections) == (1, 1)
        await half_opens(worker, name="second")
        view = await sent(worker, job_id)
    assert (view.job.status, view.job.attempts, tries(view)[2:]) == (
        Status.SENT,
        2,
        [(2, "second", "sent", Phase.DOT)],
    )
    assert (first.connections, len(second.received)) == (1, 1)


async def test_a_mail_that_waits_to_the_end_of_its_time_ends_with_what_it_waited_for(hire: Hire) -> None:
    async with scripted_relay() as relay:
        worker = await hire("anna", named("first", relay))
        await opens(worker)
        view = await sent(worker)
        await worker.run.age(view.job.id, 3 * 86_400)
        view = await sent(worker, view.job.id)
    assert (view.job.status, view.job.reason, view.attempts) == (Status.FAILED, Reason.NO_USABLE_RELAY, ())
    assert BY_CONNECTION in (view.job.detail or "")
    assert relay.connections == 0


# Who finds out


@asynccontextmanager
async def finding_out(worker: Relayed, relay: ScriptedRelay) -> AsyncIterator[asyncio.Task[None]]:
    """A mail of this worker is at the greeting, which comes at the end of the block."""
    go_on = asyncio.Event()

    async def hold(moment: str) -> None:
        if moment == "BANNER":
            await go_on.wait()

    async def connected() -> bool:
        return relay.connections == before + 1

    before, relay.before_reply = relay.connections, hold
    lease = await worker.run.claim(await worker.run.submit(JOB))
    assert lease is not None
    probe = asyncio.create_task(deliver(lease, worker.run.deps))
    try:
        await until(connected, what="the probe")
        yield probe
    finally:
        go_on.set()
        relay.before_reply = None
        with contextlib.suppress(asyncio.CancelledError):
            await probe


async def test_of_two_workers_one_finds_out_and_when_it_is_well_both_use_it(hire: Hire) -> None:
    async with scripted_relay() as relay:
        anna, bert = [await hire(name, named("first", relay)) for name in ("anna", "bert")]
        await opens(anna, bert)
        assert waits(await sent(bert), BY_CONNECTION)
        await half_opens(anna, bert)
        async with at_work(anna, bert):
            async with finding_out(anna, relay):
                views = [await sent(worker) for worker in (bert, anna, bert)]
                assert all(waits(view, BY_CONNECTION) for view in views), "of the same worker as well"
                assert max([await due_in_s(bert, view.job.id) for view in views]) <= 3, "it is decided soon"
                assert relay.connections == 1
            await closed(anna)
            await bert.board.look()
            assert bert.board.standing("first") == Usable()
            assert [tries(await sent(bert, view.job.id)) for view in views] == [[SENT]] * 3
        state = await anna.state()
    assert (state.openings, state.failures, state.probe, state.open_until) == (0, 0, None, None)
    assert len(relay.received) == 4


async def test_mail_of_others_goes_to_the_other_relay_while_one_finds_out(hire: Hire) -> None:
    """And so does the one that found out that nothing is well."""
    async with scripted_relay(ScriptedRelay({"BANNER": [DROP]})) as first, scripted_relay() as second:
        tables = named("first", first), named("second", second)
        anna, bert = [await hire(name, *tables) for name in ("anna", "bert")]
        await opens(anna, bert)
        await half_opens(anna, bert)
        async with finding_out(anna, first):
            assert tries(await sent(bert)) == [(1, "second", "sent", Phase.DOT)]
            assert second.connections == 1
        state = await anna.state()
    assert (first.connections, len(second.received)) == (1, 2)
    assert (state.openings, state.probe) == (2, None)


async def test_a_mail_that_is_stopped_while_it_finds_out_leaves_that_to_another(hire: Hire) -> None:
    async with scripted_relay() as relay:
        anna, bert = [await hire(name, named("first", relay)) for name in ("anna", "bert")]
        await opens(anna, bert)
        await half_opens(anna, bert)

        async def nobody() -> bool:
            return (await anna.state()).probe is None

        async with at_work(anna):
            async with finding_out(anna, relay) as probe:
                assert (await anna.state()).probe == "anna"
                probe.cancel()
                await asyncio.wait({probe})
            await until(nobody, what="the probe given back")
        await bert.board.look()
        assert tries(await sent(bert)) == [SENT]
    assert len(relay.received) == 1


async def test_a_relay_that_refuses_a_recipient_is_well(hire: Hire) -> None:
    async with scripted_relay(ScriptedRelay({"RCPT": ["550 5.1.1 No such user", "250 ok"]})) as relay:
        worker = await hire("anna", named("first", relay))
        await opens(worker)
        await half_opens(worker)
        async with at_work(worker):
            view = await sent(worker)
            assert (view.job.status, view.job.reason) == (Status.FAILED, Reason.REFUSED)
            await closed(worker)
        assert tries(await sent(worker)) == [SENT]


@pytest.mark.parametrize(
    ("script", "by", "seconds"),
    [
        ({"BANNER": [DROP]}, OpenedBy.CONNECTION, [60, 120, 240, 300, 300]),
        ({"BANNER": ["421 4.3.2 Busy"]}, OpenedBy.CONNECTION, [60, 120, 240, 300, 300]),
        ({"BANNER": ["554 5.7.1 Go away"]}, OpenedBy.REFUSED, [60, 120, 240, 300, 300]),
        ({"AUTH": ["454 4.7.0 Later"]}, OpenedBy.CONNECTION, [60, 120, 240, 300, 300]),
        ({"AUTH": ["535 5.7.8 No"]}, OpenedBy.CREDENTIALS, [300] * 5),
    ],
    ids=str,
)
async def test_each_failure_of_the_one_that_finds_out_bars_it_for_longer(
    hire: Hire, tmp_path: Path, authority: trustme.CA, script: dict[str, list[str]], by: OpenedBy, seconds: list[int]
) -> None:
    """One connection and one login each time, and the mail waits between them; a password is tried every 5 minutes."""
    relay = with_tls(authority, script)
    async with scripted_relay(relay, implicit_tls=True):
        worker = await hire("anna", secured(tmp_path, authority, relay))
        await opens(worker)
        job_id, open_s = await worker.run.submit(JOB), []
        for probes in range(1, len(seconds) + 1):
            await half_opens(worker)
            for _ in range(3):
                view = await sent(worker, job_id)
            assert (relay.connections, view.job.attempts, view.job.detail) == (probes, probes, f"first: open ({by})")
            state = await worker.state()
            assert state.opened_by is by
            assert state.open_until is not None
            assert state.trouble is not None
            open_s.append((state.open_until - state.trouble.at) / 1000)
    assert open_s == seconds
    assert view.job.status is Status.DEFERRED, "no code at the door is the mail's"


async def test_a_relay_without_tls_is_open_for_a_quarter_of_an_hour_in_the_end(
    hire: Hire, tmp_path: Path, authority: trustme.CA
) -> None:
    async with scripted_relay() as relay:
        table = secured(tmp_path, authority, relay)
        worker = await hire("anna", {**table, "url": f"smtp://localhost:{relay.port}"})
        job_id, open_s = await worker.run.submit(JOB), []
        for _ in range(7):
            await sent(worker, job_id)
            state = await worker.state()
            assert state.open_until is not None
            assert state.trouble is not None
            open_s.append((state.open_until - state.trouble.at) / 1000)
            await half_opens(worker)
    assert open_s == [30, 60, 120, 240, 480, 900, 900]
    assert {command.split()[0] for command in relay.commands} == {"EHLO"}


async def test_whoever_has_the_right_password_goes_on_while_another_has_the_wrong_one(
    hire: Hire, tmp_path: Path, authority: trustme.CA
) -> None:
    """At once. The wrong one is tried every five minutes, and bars nobody else."""
    relay = with_tls(authority, {"AUTH": ["535 5.7.8 No", "235 2.7.0 Yes", "535 5.7.8 No", "235 2.7.0 Yes"]})
    async with scripted_relay(relay, implicit_tls=True):
        wrong = await hire("anna", secured(tmp_path, authority, relay, "wrong"))
        right = await hire("bert", secured(tmp_path, authority, relay, "right"))
        async with at_work(wrong, right):
            waiting = await sent(wrong)
            assert (waiting.job.status, waiting.attempts[0].phase) == (Status.DEFERRED, Phase.AUTH)
            await right.board.look()
            assert tries(await sent(right)) == [SENT]
            await closed(right)
            await wrong.board.look()
            assert waits(await sent(wrong), "first: open (credentials)")
            assert tries(await sent(right)) == [SENT]
            await half_opens(wrong, right)
            view = await sent(wrong, waiting.job.id)
            assert (view.job.status, view.job.attempts) == (Status.DEFERRED, 2)
            await right.board.look()
            assert isinstance(wrong.board.standing("first"), Barred)
            assert right.board.standing("first") == Usable()
            await right.run.deps.router.close()
            assert tries(await sent(right)) == [SENT]
            assert (await sent(right, waiting.job.id)).job.status is Status.SENT, "a mail is nobody's own"
    assert sum(command.startswith("AUTH") for command in relay.commands) == 4
    assert len(relay.received) == 4


async def test_a_job_that_waits_behind_many_others_leaves_them_their_turn_first(hire: Hire) -> None:
    async with scripted_relay() as relay:
        worker = await hire("anna", named("first", relay))
        await changed((worker,), "first", paused)
        few, many = await worker.run.submit(JOB), await worker.run.submit(JOB)
        assert waits(await sent(worker, few), "first: paused")
        assert await due_in_s(worker, few) == pytest.approx(10, abs=1)
        for _ in range(4000):
            worker.run.deps.lookout.next_s(10.0)
        assert waits(await sent(worker, many), "first: paused")
        assert await due_in_s(worker, many) == pytest.approx(40, abs=5)


@pytest.mark.parametrize("backoff", [{"max_attempts": 1}, ["1s"]], ids=["max_attempts", "list"])
async def test_a_mail_that_found_the_relay_shut_does_not_end_by_its_number_of_attempts(
    hire: Hire, backoff: object
) -> None:
    """It waits for the relay as all the others do; what the relay then says of it counts."""
    async with scripted_relay(ScriptedRelay({"BANNER": [*["554 5.3.2 No service"] * 3, "220 ready"]})) as relay:
        worker = await hire("anna", named("first", relay))
        job_id = await worker.run.submit({**JOB, "backoff": backoff})
        for attempt in range(1, 4):
            view = await sent(worker, job_id)
            assert (view.job.status, view.job.attempts) == (Status.DEFERRED, attempt)
            assert view.attempts[-1].row == "turned_away_at_the_door"
            assert waits(await sent(worker), "first: open (refused)")
            await half_opens(worker)
        assert (await sent(worker, job_id)).job.status is Status.SENT


@pytest.mark.parametrize(
    "script", [{"MAIL": ["550 5.1.8 Sender address rejected"]}, {}], ids=["its sender is refused", "it is too large"]
)
@pytest.mark.parametrize("backoff", [{"max_attempts": 1}, ["1s"]], ids=["max_attempts", "list"])
async def test_a_mail_that_only_a_relay_can_take_which_is_paused_is_not_given_up_meanwhile(
    hire: Hire, script: dict[str, list[str]], backoff: object
) -> None:
    """The one that refuses it for good is asked, and this does not count: else the pause would have ended the job."""
    script = {name: replies * 3 for name, replies in script.items()}
    small = ScriptedRelay(script, extensions=["SIZE 100"] if not script else [])
    async with scripted_relay(small) as first, scripted_relay() as second:
        worker = await hire("anna", named("first", first), named("second", second))
        await changed((worker,), "second", paused)
        job_id = await worker.run.submit({**JOB, "backoff": backoff})
        for attempt in range(1, 4):
            view = await sent(worker, job_id)
            assert (view.job.status, view.job.attempts, view.job.counted) == (Status.DEFERRED, attempt, 0)
        await changed((worker,), "second", lambda state, _: resumed(state))
        view = await sent(worker, job_id)
        assert (view.job.status, view.job.counted) == (Status.SENT, 1)
        assert tries(view)[-1] == (4, "second", "sent", Phase.DOT)


@pytest.mark.parametrize("names", [("first", "second"), ("second", "first")], ids=["shut first", "shut last"])
async def test_a_mail_that_finds_out_that_the_only_relay_for_it_is_shut_waits_as_those_after_it_do(
    hire: Hire, names: tuple[str, str]
) -> None:
    """Another one refuses it for good: as little an attempt as when the first one is known to be shut."""
    shut = ScriptedRelay({"BANNER": ["554 no service", "220 here again"]})
    refusing = ScriptedRelay({"MAIL": ["550 5.1.8 Sender address rejected"] * 3})
    async with scripted_relay(shut), scripted_relay(refusing):
        relays = {"first": shut, "second": refusing}
        worker = await hire("anna", *(named(name, relays[name]) for name in names))
        job_id = await worker.run.submit({**JOB, "backoff": {"max_attempts": 1}})
        for attempt in (1, 2):  # it finds out; it is known
            view = await sent(worker, job_id)
            assert (view.job.status, view.job.attempts, view.job.counted) == (Status.DEFERRED, attempt, 0)
        await half_opens(worker)
        view = await sent(worker, job_id)
        assert (view.job.status, view.job.counted) == (Status.SENT, 1)


async def test_a_mail_that_a_relay_put_off_has_made_an_attempt_whatever_other_relays_are_paused(hire: Hire) -> None:
    first, second = ScriptedRelay({"RCPT": ["451 4.3.0 Later"]}), ScriptedRelay()
    async with scripted_relay(first), scripted_relay(second):
        worker = await hire("anna", named("first", first), named("second", second))
        await changed((worker,), "second", paused)
        view = await sent(worker, await worker.run.submit({**JOB, "backoff": {"max_attempts": 1}}))
        assert (view.job.status, view.job.reason, view.job.counted) == (Status.FAILED, Reason.GAVE_UP, 1)


async def test_a_relay_that_took_somebody_was_of_use_whatever_its_quota_is_now(hire: Hire) -> None:
    """Such an attempt counts."""
    async with scripted_relay(ScriptedRelay({"RCPT bob@example.com": ["550 5.4.5 Daily sending quota"]})) as relay:
        worker = await hire("anna", named("first", relay))
        body = {**JOB, "to": ["ada@example.com", "bob@example.com"], "backoff": {"max_attempts": 1}}
        view = await sent(worker, await worker.run.submit(body))
        assert (view.job.status, view.job.partial, view.job.attempts) == (Status.SENT, True, 1)
