"""What an attempt produced decides whether a job is tried again or at its end: one table."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.addresses import Address
from mailer.jobs import OPEN_RECIPIENT, Job, Phase, Reason, Recipient, RecipientStatus, Reply, Status, Stream
from worker.outcomes import Deferred, Expired, Failed, HandedOver, Skipped, Timing, conclude
from worker.settings import BackoffSchedule

P, D, S, F = RecipientStatus.PENDING, RecipientStatus.DEFERRED, RecipientStatus.SENT, RecipientStatus.FAILED
NOW = 1_700_000_000_000
TIMING = Timing(NOW - 250, NOW)
SCHEDULE = BackoffSchedule(base_s=30, cap_s=900, give_up_s=3600)
NO = Reply(550, "No such user here", "5.1.1")


def people(*statuses: RecipientStatus) -> tuple[Recipient, ...]:
    return tuple(Recipient(Address(f"r{number}@example.com"), status=status) for number, status in enumerate(statuses))


def job(*statuses: RecipientStatus, waited_s: int = 0, expires_at: int | None = None, attempts: int = 0) -> Job:
    due_at = NOW - waited_s * 1000
    recipients = people(*statuses) if statuses else None
    return Job(
        "1",
        Status.DEFERRED,
        Stream.NORMAL,
        due_at,
        due_at,
        recipients=recipients,
        attempts=attempts,
        expires_at=expires_at,
    )


def ended(about: Job, outcome):
    return conclude(about, outcome, TIMING, SCHEDULE, lambda: 0.5)


def handed_over(*statuses: RecipientStatus, reply: Reply = NO) -> HandedOver:
    return HandedOver("relay", Phase.RCPT, reply, people(*statuses))


def statuses(ending) -> tuple[RecipientStatus, ...] | None:
    return None if ending.recipients is None else tuple(item.status for item in ending.recipients)


@pytest.mark.parametrize(
    ("verdict", "status", "partial", "attempt"),
    [
        ((S,), Status.SENT, False, "sent"),
        ((S, S), Status.SENT, False, "sent"),
        ((S, F), Status.SENT, True, "partial"),
        ((F, S, F), Status.SENT, True, "partial"),
        ((F,), Status.FAILED, False, "failed"),
        ((F, F), Status.FAILED, False, "failed"),
        ((D,), Status.DEFERRED, False, "deferred"),
        ((S, D), Status.DEFERRED, False, "deferred"),
        ((F, D), Status.DEFERRED, False, "deferred"),
        ((S, F, D), Status.DEFERRED, False, "deferred"),
        ((S, P), Status.DEFERRED, False, "deferred"),
    ],
)
def test_any_open_is_deferred_else_any_accepted_is_sent_else_failed(verdict, status, partial, attempt):
    ending = ended(job(*[P] * len(verdict)), handed_over(*verdict))
    assert (ending.status, ending.partial, ending.attempt.outcome) == (status, partial, attempt)
    assert statuses(ending) == verdict
    assert ending.reason == (Reason.REFUSED if status is Status.FAILED else None)
    assert (ending.next_attempt_at is not None) == (status is Status.DEFERRED)
    assert ending.attempt.next_attempt_at == ending.next_attempt_at


@given(st.lists(st.sampled_from(RecipientStatus), min_size=1, max_size=6))
def test_a_job_at_its_end_has_nobody_left_to_write_to(verdict):
    for about in (job(*verdict), job(*verdict, waited_s=7200), job(*verdict, expires_at=NOW + 1)):
        ending = ended(about, handed_over(*verdict))
        is_open = bool(OPEN_RECIPIENT & set(statuses(ending)))
        assert is_open == (ending.status is Status.DEFERRED)
        assert (S in statuses(ending)) == (ending.status is Status.SENT) or is_open


def test_an_attempt_says_when_where_and_what():
    attempt = ended(job(P, attempts=2), handed_over(S, reply=Reply(250, "OK"))).attempt
    assert (attempt.number, attempt.at, attempt.duration_ms, attempt.relay) == (3, NOW - 250, 250, "relay")
    assert (attempt.phase, attempt.reply) == (Phase.RCPT, Reply(250, "OK"))


def test_a_refusal_is_told_in_the_relays_words():
    assert ended(job(P), handed_over(F)).detail == "No such user here"
    assert ended(job(P), handed_over(S)).detail is None


LOST = Deferred(Phase.CONNECT, Reply(None, "Connection refused"), "relay")


def test_a_lost_connection_is_another_attempt():
    ending = ended(job(P), LOST)
    assert ending.status is Status.DEFERRED
    assert ending.next_attempt_at == NOW + 22_500
    assert ending.recipients is None, "what the record says of them stays"
    assert ended(job(P, attempts=3), LOST).next_attempt_at == NOW + 8 * 22_500


def test_what_is_expected_to_pass_is_tried_again_soon():
    assert ended(job(P, attempts=9), replace(LOST, at_most_s=10)).next_attempt_at == NOW + 7_500


@pytest.mark.parametrize(
    ("before", "status", "after", "partial"),
    [
        ((P,), Status.FAILED, (F,), False),
        ((D, F), Status.FAILED, (F, F), False),
        ((S, D), Status.SENT, (S, F), True),
        ((), Status.FAILED, None, False),
    ],
)
def test_after_the_streams_time_the_job_gives_up(before, status, after, partial):
    ending = ended(job(*before, waited_s=7200), LOST)
    assert (ending.status, statuses(ending), ending.partial) == (status, after, partial)
    assert ending.reason == (Reason.GAVE_UP if status is Status.FAILED else None)
    assert ending.detail == "Its stream keeps trying for 3600 s, which are over: Connection refused"
    assert ending.next_attempt_at is None
    assert ending.attempt.outcome == "deferred"


@pytest.mark.parametrize(
    ("before", "status", "after", "partial"),
    [((P,), Status.EXPIRED, (F,), False), ((S, D), Status.SENT, (S, F), True), ((), Status.EXPIRED, None, False)],
)
@pytest.mark.parametrize("outcome", [LOST, Expired()])
def test_after_the_authors_time_the_job_expires(outcome, before, status, after, partial):
    ending = ended(job(*before, expires_at=NOW + 1000), outcome)
    assert (ending.status, statuses(ending), ending.partial) == (status, after, partial)
    assert ending.reason is None
    assert "time set by its author" in ending.detail


def test_the_authors_time_comes_before_the_streams():
    assert ended(job(P, waited_s=7200, expires_at=NOW), LOST).status is Status.EXPIRED


def test_some_accepted_and_one_still_open_at_the_end_is_sent_in_part():
    for about in (job(P, P, expires_at=NOW + 1000), job(P, P, waited_s=7200)):
        ending = ended(about, handed_over(S, D))
        assert (ending.status, ending.partial, statuses(ending)) == (Status.SENT, True, (S, F))
        assert ending.attempt is not None


MISSING = Failed(Reason.MISSING_DATA, "user answered 404", Phase.FETCH, Reply(404, "user answered 404"))


@pytest.mark.parametrize("outcome", [MISSING, Failed(Reason.RENDERING, "welcome/body.txt, line 1: 'x' is undefined")])
def test_what_would_fail_again_ends_the_job_with_its_reason(outcome):
    ending = ended(job(P, P), outcome)
    assert (ending.status, ending.reason, ending.detail) == (Status.FAILED, outcome.reason, outcome.detail)
    assert statuses(ending) == (F, F)
    assert (ending.attempt is not None) == (outcome.phase is not None)


def test_nothing_to_send_is_skipped():
    ending = ended(job(P), Skipped("`when` says so"))
    assert (ending.status, ending.detail, ending.attempt) == (Status.SKIPPED, "`when` says so", None)


@pytest.mark.parametrize("outcome", [MISSING, Skipped("`when` says so"), Expired()])
def test_a_job_that_reached_somebody_is_sent_in_part_however_it_ends(outcome):
    ending = ended(job(S, D), outcome)
    assert (ending.status, ending.partial, ending.reason) == (Status.SENT, True, None)
    assert statuses(ending) == (S, F)
