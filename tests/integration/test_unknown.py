"""The answer to the final dot was lost: the relay may have the mail, and the policy decides what becomes of it."""

import email
import email.policy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailer.catalogue import TemplateLibrary
from mailer.jobs import Phase, Reason, RecipientStatus, Status
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobView
from tests.integration.conftest import Run
from tests.support.smtp import DROP, HANG, ScriptedRelay, scripted_relay
from tests.support.source import Application
from worker import delivery, tasks
from worker.relays.board import Unshared
from worker.relays.pool import Pool, Try
from worker.relays.relay import Relay, relays_from
from worker.relays.router import Router
from worker.relays.timeouts import Timeouts

EVENT = {"event": "user.signed_up", "data": {"id": 42}}
TO_TWO = {"to": ["ada@example.com", "bob@example.com"], "subject": "Hello", "text": "Hi\n"}
TO_ONE = {**TO_TWO, "to": ["ada@example.com"]}
TAKEN = "250 taken, but the answer is"
UNSURE = [DROP, HANG, "350 what", "nonsense"]
MINUTE_MS = 60_000

MakeRun = Callable[..., Run]


@pytest.fixture
def under(make_run: MakeRun) -> Callable[[str], Run]:
    """A worker whose streams have this policy."""

    def make(policy: str) -> Run:
        return make_run(unknown_policy=f'{{"normal": "{policy}"}}', timeouts=Timeouts(verdict_s=0.2))

    return make


def lose_answers(relay: ScriptedRelay, *answers: str) -> None:
    """The relay takes each of these mails, and its answer is lost; the next ones are answered as usual."""
    relay.script["DOT"] = [part for answer in answers for part in (TAKEN, answer)] + ["250 2.0.0 ok"]


def recipient_statuses(view: JobView) -> list[str]:
    assert view.job.recipients is not None
    return [item.status for item in view.job.recipients]


def outcomes(view: JobView) -> list[tuple[str, Phase]]:
    return [(attempt.outcome, attempt.phase) for attempt in view.attempts]


@pytest.mark.parametrize("answer", UNSURE)
async def test_resend_sends_it_once_more_after_a_minute(
    under: Callable[[str], Run], relay: ScriptedRelay, answer: str
) -> None:
    run = under("resend")
    lose_answers(relay, answer)
    job_id = await run.submit(TO_ONE)
    view = await run.once(job_id)
    assert (view.job.status, view.job.unknown_outcomes, outcomes(view)) == (
        Status.DEFERRED,
        1,
        [("unknown", Phase.DOT)],
    )
    assert view.job.next_attempt_at is not None
    attempt = view.attempts[0]
    assert view.job.next_attempt_at == attempt.next_attempt_at == attempt.at + attempt.duration_ms + MINUTE_MS
    view = await run.once(job_id)
    assert (view.job.status, view.job.unknown_outcomes, view.job.assumed) == (Status.SENT, 1, False)
    assert outcomes(view) == [("unknown", Phase.DOT), ("sent", Phase.DOT)]
    assert len(relay.received) == 2


async def test_resend_stops_after_the_second(
    under: Callable[[str], Run], relay: ScriptedRelay, redis: RedisClient
) -> None:
    run = under("resend")
    lose_answers(relay, DROP, "nonsense")
    job_id = await run.submit(TO_ONE)
    await run.once(job_id)
    view = await run.once(job_id)
    assert (view.job.status, view.job.unknown_outcomes, view.job.attempts) == (Status.UNKNOWN, 2, 2)
    assert (recipient_statuses(view), view.job.reason) == ([RecipientStatus.UNKNOWN], None)
    assert (await run.once(job_id)).job.status is Status.UNKNOWN, "nothing runs it again"
    assert len(relay.received) == 2
    assert await redis.ttl(keys.payload(job_id)) > 13 * 86400


@pytest.mark.parametrize("answer", UNSURE)
async def test_hold_leaves_it_to_a_person(under: Callable[[str], Run], relay: ScriptedRelay, answer: str) -> None:
    run = under("hold")
    lose_answers(relay, answer)
    view = await run.once(await run.submit(TO_ONE))
    assert (view.job.status, view.status, view.job.next_attempt_at) == (Status.UNKNOWN, "unknown", None)
    assert (outcomes(view), recipient_statuses(view)) == ([("unknown", Phase.DOT)], [RecipientStatus.UNKNOWN])
    assert "may have the mail" in (view.job.detail or "")
    assert len(relay.received) == 1


@pytest.mark.parametrize("answer", UNSURE)
async def test_accept_takes_it_for_sent_and_says_so(
    under: Callable[[str], Run], relay: ScriptedRelay, answer: str
) -> None:
    run = under("accept")
    lose_answers(relay, answer)
    view = await run.once(await run.submit(TO_ONE))
    assert (view.job.status, view.job.assumed, view.job.unknown_outcomes) == (Status.SENT, True, 1)
    assert (outcomes(view), recipient_statuses(view)) == ([("unknown", Phase.DOT)], [RecipientStatus.SENT])
    assert view.job.finished_at is not None
    assert len(relay.received) == 1


async def test_a_template_says_its_own_policy(make_run: MakeRun, relay: ScriptedRelay, tmp_path: Path) -> None:
    folder = tmp_path / "invoice"
    folder.mkdir()
    (folder / "template.toml").write_text('to = { email = "ada@example.com" }\nunknown_policy = "hold"\n')
    (folder / "subject.txt").write_text("Invoice")
    (folder / "body.txt").write_text("Here it is")
    run = make_run()
    run.deps = replace(run.deps, templates=TemplateLibrary(tmp_path))
    lose_answers(relay, DROP)
    view = await run.once(await run.submit({"template": "invoice"}))
    assert view.job.status is Status.UNKNOWN


async def test_some_were_refused_and_only_the_others_are_in_doubt(
    under: Callable[[str], Run], relay: ScriptedRelay
) -> None:
    relay.script["RCPT bob@example.com"] = ["550 5.1.1 No such user"]
    lose_answers(relay, DROP)
    view = await under("hold").once(await under("hold").submit(TO_TWO))
    assert view.job.status is Status.UNKNOWN
    assert recipient_statuses(view) == [RecipientStatus.UNKNOWN, RecipientStatus.FAILED]


async def test_the_second_copy_goes_to_those_in_doubt_and_not_to_those_refused(
    under: Callable[[str], Run], relay: ScriptedRelay
) -> None:
    run = under("resend")
    relay.script["RCPT bob@example.com"] = ["550 5.1.1 No such user"]
    lose_answers(relay, DROP)
    job_id = await run.submit(TO_TWO)
    await run.once(job_id)
    view = await run.once(job_id)
    assert (view.job.status, view.job.partial) == (Status.SENT, True)
    assert recipient_statuses(view) == [RecipientStatus.SENT, RecipientStatus.FAILED]
    assert [mail.recipients for mail in relay.received] == [["ada@example.com"]] * 2


async def test_the_second_copy_is_the_first_byte_for_byte_though_the_source_says_something_else_by_now(
    under: Callable[[str], Run], relay: ScriptedRelay, app_source: Application
) -> None:
    run = under("resend")
    lose_answers(relay, DROP)
    job_id = await run.submit(EVENT)
    await run.once(job_id)
    app_source.answers["/users/42"] |= {"name": "Ada King", "email": "ada.king@example.com"}
    app_source.requests.clear()
    await run.age(job_id, 3600)
    view = await run.once(job_id)
    first, second = relay.received
    assert view.job.status is Status.SENT
    assert second.content == first.content
    assert second.recipients == first.recipients == ["ada@example.com"]
    assert app_source.requests == [], "what was fetched is fixed"
    date = email.message_from_bytes(second.content, policy=email.policy.default)["Date"].datetime
    assert view.attempts[0].at // 1000 in {int(date.timestamp()), int(date.timestamp()) + 1}


async def test_the_second_copy_is_the_first_though_the_source_is_gone(
    under: Callable[[str], Run], relay: ScriptedRelay, app_source: Application
) -> None:
    run = under("resend")
    lose_answers(relay, DROP)
    job_id = await run.submit(EVENT)
    await run.once(job_id)
    app_source.answers.clear()
    assert (await run.once(job_id)).job.status is Status.SENT
    assert relay.received[0].content == relay.received[1].content


async def test_before_anything_was_journaled_each_attempt_fetches_anew(
    run: Run, relay: ScriptedRelay, app_source: Application
) -> None:
    relay.script["RCPT"] = ["450 4.2.0 Busy", "250 ok"]
    job_id = await run.submit(EVENT)
    await run.once(job_id)
    app_source.answers["/users/42"] |= {"name": "Ada King", "email": "ada.king@example.com"}
    await run.once(job_id)
    assert relay.received[0].recipients == ["ada.king@example.com"]


async def test_a_job_in_doubt_whose_time_is_over_stays_in_doubt(
    under: Callable[[str], Run], relay: ScriptedRelay
) -> None:
    run = under("resend")
    lose_answers(relay, DROP)
    job_id = await run.submit(TO_ONE)
    await run.once(job_id)
    relay.script["MAIL"] = ["451 4.3.0 Later"]
    await run.age(job_id, 4 * 86400)
    view = await run.once(job_id)
    assert (view.job.status, recipient_statuses(view)) == (Status.UNKNOWN, [RecipientStatus.UNKNOWN])
    assert view.job.reason is None


def relay_of(run: Run) -> Relay:
    return relays_from(run.deps.settings)[0]


async def test_no_other_relay_is_asked_for_a_mail_that_one_may_have(
    under: Callable[[str], Run], relay: ScriptedRelay
) -> None:
    run = under("resend")
    first = replace(relay_of(run), name="first")
    lose_answers(relay, DROP)
    async with scripted_relay() as other:
        second = replace(first, name="second", port=other.port)
        router = Router([Pool(first), Pool(second)], Unshared())
        run.deps = replace(run.deps, router=router)
        job_id = await run.submit(TO_ONE)
        await run.once(job_id)
        relay.script["BANNER"] = ["421 4.3.2 Closing", "421 4.3.2 Closing", "220 ready"]
        for _ in range(2):
            assert (await run.once(job_id)).job.status is Status.DEFERRED
        view = await run.once(job_id)
        await router.close()
    assert (view.job.status, [attempt.relay for attempt in view.attempts]) == (Status.SENT, ["first"] * 4)
    assert (len(relay.received), other.connections) == (2, 0)


async def died_after_its_dot(run: Run, job_id: str) -> None:
    """The relay takes the mail, and the worker is gone before it could write that down."""
    lease = await run.claim(job_id)
    assert lease is not None

    async def no_more(*_: object) -> None:
        raise ConnectionAbortedError("the worker is dead")

    lease.finish = no_more  # type: ignore[method-assign,assignment]  # the process ends here
    with pytest.raises(ConnectionAbortedError):
        await delivery.deliver(lease, run.deps)
    await run.redis.delete(keys.arq_in_progress(job_id))


@pytest.mark.parametrize(
    ("policy", "status", "copies"),
    [("resend", Status.DEFERRED, 1), ("hold", Status.UNKNOWN, 1), ("accept", Status.SENT, 1)],
)
async def test_a_worker_that_died_after_the_dot_is_a_lost_answer(
    under: Callable[[str], Run], relay: ScriptedRelay, policy: str, status: Status, copies: int
) -> None:
    run = under(policy)
    job_id = await run.submit(TO_ONE)
    await died_after_its_dot(run, job_id)
    view = await run.once(job_id)
    assert (view.job.status, view.job.unknown_outcomes, view.job.crashes) == (status, 1, 0)
    (attempt,) = view.attempts
    assert (attempt.outcome, attempt.phase, attempt.relay) == ("unknown", Phase.DOT, relay_of(run).name)
    assert len(relay.received) == copies, "the run that finds the mark sends nothing"
    assert view.job.journal is None


async def test_its_second_copy_is_the_first_byte_for_byte(
    under: Callable[[str], Run], relay: ScriptedRelay, app_source: Application
) -> None:
    run = under("resend")
    job_id = await run.submit(EVENT)
    await died_after_its_dot(run, job_id)
    app_source.answers["/users/42"] |= {"name": "Ada King"}
    await run.once(job_id)
    assert (await run.once(job_id)).job.status is Status.SENT
    assert relay.received[0].content == relay.received[1].content


async def test_an_answer_that_comes_after_the_job_was_anothers_counts(
    under: Callable[[str], Run], relay: ScriptedRelay
) -> None:
    run = under("hold")
    job_id = await run.submit(TO_ONE)

    async def lease_is_lost() -> None:
        await run.redis.delete(keys.arq_in_progress(job_id))
        assert (await run.once(job_id)).job.status is Status.UNKNOWN

    relay.before_dot = lease_is_lost
    view = await run.once(job_id)
    assert (view.job.status, recipient_statuses(view)) == (Status.SENT, [RecipientStatus.SENT])
    assert len(relay.received) == 1


async def test_a_refusal_that_comes_after_the_job_was_anothers_does_not(
    under: Callable[[str], Run], relay: ScriptedRelay
) -> None:
    run = under("resend")
    relay.script["DOT"] = ["451 4.3.0 Later"]
    job_id = await run.submit(TO_ONE)

    async def lease_is_lost() -> None:
        await run.redis.delete(keys.arq_in_progress(job_id))
        await run.once(job_id)

    relay.before_dot = lease_is_lost
    view = await run.once(job_id)
    assert (view.job.status, outcomes(view)) == (Status.DEFERRED, [("unknown", Phase.DOT)])


async def test_a_mail_whose_job_is_anothers_by_now_is_withheld(run: Run, relay: ScriptedRelay) -> None:
    job_id = await run.submit(TO_ONE)
    late = await run.claim(job_id)
    assert late is not None
    await run.redis.delete(keys.arq_in_progress(job_id))
    assert (await run.once(job_id)).job.status is Status.SENT
    await delivery.deliver(late, run.deps)
    view = await run.view(job_id)
    assert (view.job.status, view.job.attempts, len(relay.received), relay.dots) == (Status.SENT, 1, 1, 1)


class Defective(Pool):
    """Breaks down once the relay has the mail."""

    async def send(self, *mail: Any, **options: Any) -> Try:
        await super().send(*mail, **options)
        raise RuntimeError("a defect")


async def test_a_defect_after_the_dot_is_a_lost_answer_and_no_failure(
    under: Callable[[str], Run], relay: ScriptedRelay
) -> None:
    run = under("hold")
    router = Router([Defective(relay_of(run))], Unshared())
    run.deps = replace(run.deps, router=router)
    view = await run.once(await run.submit(TO_ONE))
    await router.close()
    assert (view.job.status, view.job.unknown_outcomes, len(relay.received)) == (Status.UNKNOWN, 1, 1)


async def test_a_mail_whose_authors_time_passes_while_it_is_sent_expires(run: Run, relay: ScriptedRelay) -> None:
    job_id = await run.submit({"template": "reset-password", "data": {"id": 42, "reset_url": "https://a.test/r"}})

    async def time_passes(moment: str) -> None:
        if moment == "DATA":
            await run.redis.hset(keys.job(job_id), "expires_at", 1)

    relay.before_reply = time_passes
    view = await run.once(job_id)
    assert (view.job.status, relay.dots, view.job.attempts) == (Status.EXPIRED, 0, 0)


async def test_a_mail_whose_job_is_stopped_by_a_person_while_it_is_sent_is_withheld(
    run: Run, relay: ScriptedRelay
) -> None:
    job_id = await run.submit(TO_ONE)

    async def somebody_stops_it(moment: str) -> None:
        if moment == "DATA":
            await run.redis.hset(keys.job(job_id), mapping={"status": "failed", "reason": "internal"})

    relay.before_reply = somebody_stops_it
    view = await run.once(job_id)
    assert (view.job.status, view.job.reason, relay.dots) == (Status.FAILED, Reason.INTERNAL, 0)
    await run.once(job_id)
    assert await run.redis.zscore("arq:queue", job_id) is None, "its entry means nothing any more"


async def test_a_journal_that_cannot_be_written_withholds_the_mail_and_gives_the_job_back(
    run: Run, relay: ScriptedRelay, redis: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.lease.JOURNAL_PATIENCE_S", 0.1)  # 30 s, shortened
    job_id = await run.submit(TO_ONE)

    async def server_changes_its_role(moment: str) -> None:
        if moment == "DATA":
            await redis.execute_command("REPLICAOF", "127.0.0.1", "1")

    relay.before_reply = server_changes_its_role
    lease = await run.claim(job_id)
    assert lease is not None
    release = lease.give_back

    async def server_is_back(delay_s: float = 0.0, detail: str = "") -> None:
        await redis.execute_command("REPLICAOF", "NO", "ONE")
        await release(delay_s, detail)

    lease.give_back = server_is_back  # type: ignore[method-assign]  # the server recovers at this moment
    try:
        await tasks.deliver({"lease": lease, "deps": run.deps}, job_id)
    finally:
        await redis.execute_command("REPLICAOF", "NO", "ONE")
    assert (relay.dots, relay.received) == (0, [])
    relay.before_reply = None
    view = await run.once(job_id)
    assert (view.job.status, view.job.attempts, view.job.crashes, len(relay.received)) == (Status.SENT, 1, 0, 1)


async def test_whoever_asks_is_shown_the_doubt(
    under: Callable[[str], Run], relay: ScriptedRelay, api: httpx.AsyncClient
) -> None:
    shown = {}
    for policy in ("hold", "accept", "resend"):
        run = under(policy)
        lose_answers(relay, DROP)
        job_id = await run.submit(TO_ONE)
        await run.once(job_id)
        answer = (await api.get(f"/jobs/{job_id}")).json()
        assert (answer["unknown_outcomes"], answer["attempts"][0]["phase"]) == (1, "dot")
        assert answer["attempts"][0]["outcome"] == "unknown"
        shown[policy] = (answer["status"], answer["assumed"], answer["recipients"][0]["status"])
    assert shown == {
        "hold": ("unknown", False, "unknown"),
        "accept": ("sent", True, "sent"),
        "resend": ("deferred", False, "pending"),
    }
