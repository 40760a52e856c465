"""What an attempt produced decides whether a job is tried again or at its end: one table."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.addresses import Address
from mailer.jobs import (
    OPEN_RECIPIENT,
    Attempt,
    Backoff,
    Job,
    Phase,
    Reason,
    Recipient,
    RecipientStatus,
    Reply,
    Status,
    Stream,
    UnknownPolicy,
)
from worker.conclusion import RESEND_AFTER_MS, Timing, conclude
from worker.outcomes import Deferred, Expired, Failed, HandedOver, Skipped, Unknown
from worker.relays.attempt import Tried
from worker.settings import BackoffSchedule

P, D, S, F = RecipientStatus.PENDING, RecipientStatus.DEFERRED, RecipientStatus.SENT, RecipientStatus.FAILED
U = RecipientStatus.UNKNOWN
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


def tried(phase: Phase, reply: Reply, relay: str | None = "relay") -> tuple[Tried]:
    return (Tried(phase, reply, relay),)


def handed_over(*statuses: RecipientStatus, reply: Reply = NO) -> HandedOver:
    return HandedOver(tried(Phase.RCPT, reply), people(*statuses))


def last(ending) -> Attempt:
    return ending.attempts[-1]


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
    assert (ending.status, ending.partial, last(ending).outcome) == (status, partial, attempt)
    assert statuses(ending) == verdict
    assert ending.reason == (Reason.REFUSED if status is Status.FAILED else None)
    assert (ending.next_attempt_at is not None) == (status is Status.DEFERRED)
    assert last(ending).next_attempt_at == ending.next_attempt_at


@given(st.lists(st.sampled_from(RecipientStatus), min_size=1, max_size=6))
def test_a_job_at_its_end_has_nobody_left_to_write_to(verdict):
    for about in (job(*verdict), job(*verdict, waited_s=7200), job(*verdict, expires_at=NOW + 1)):
        ending = ended(about, handed_over(*verdict))
        is_open = bool(OPEN_RECIPIENT & set(statuses(ending)))
        assert is_open == (ending.status is Status.DEFERRED)
        assert (U in statuses(ending)) == (ending.status is Status.UNKNOWN) or is_open
        reached = S in statuses(ending) and U not in statuses(ending)
        assert reached == (ending.status is Status.SENT) or is_open


def test_an_attempt_says_when_where_and_what():
    (attempt,) = ended(job(P, attempts=2), handed_over(S, reply=Reply(250, "OK"))).attempts
    assert (attempt.number, attempt.at, attempt.duration_ms, attempt.relay) == (3, NOW - 250, 250, "relay")
    assert (attempt.phase, attempt.reply) == (Phase.RCPT, Reply(250, "OK"))


def test_a_failover_is_one_attempt_that_names_each_relay_and_what_it_said():
    away = Tried(Phase.BANNER, Reply(421, "Closing"), "first", timings={"connect": 4, "banner": 36})
    taken = Tried(Phase.DOT, Reply(250, "ok"), "second", "4fXyz", {"dot": 9}, ("12 > MAIL FROM:<a@example.com>",))
    ending = ended(job(P, attempts=2), HandedOver((away, taken), people(S)))
    assert [(item.number, item.relay, item.outcome) for item in ending.attempts] == [
        (3, "first", "failed_over"),
        (3, "second", "sent"),
    ]
    assert [item.duration_ms for item in ending.attempts] == [40, 250], "the last one tells of the whole attempt"
    first, second = ending.attempts
    assert (first.phase, first.reply, first.queue_id) == (Phase.BANNER, away.reply, None)
    assert (second.queue_id, second.timings, second.conversation) == ("4fXyz", taken.timings, taken.conversation)


def test_of_several_relays_the_last_tells_when_it_is_tried_again():
    both = tried(Phase.BANNER, Reply(421, "Closing"), "first") + tried(Phase.MAIL, Reply(451, "Later"), "second")
    ending = ended(job(P), HandedOver(both, people(D)))
    assert [item.next_attempt_at for item in ending.attempts] == [None, ending.next_attempt_at]
    assert [item.outcome for item in ending.attempts] == ["failed_over", "deferred"]
    assert ended(job(P, waited_s=7200), HandedOver(both, people(D))).detail.endswith("Later")


def test_one_that_has_to_wait_waits_at_least_so_long_and_comes_back_to_its_relay():
    greylisted = replace(handed_over(D), at_least_s=60, stays_at="relay")
    ending = ended(job(P), greylisted)
    assert (ending.next_attempt_at, ending.stays_at) == (NOW + 60_000, "relay")
    assert ended(job(P), handed_over(D)).stays_at is None


def test_a_refusal_is_told_in_the_relays_words():
    assert ended(job(P), handed_over(F)).detail == "No such user here"
    assert ended(job(P), handed_over(S)).detail is None


LOST = Deferred(Tried(Phase.FETCH, Reply(503, "user answered 503")))


def test_a_source_in_trouble_is_another_attempt():
    ending = ended(job(P), LOST)
    assert ending.status is Status.DEFERRED
    assert ending.next_attempt_at == NOW + 22_500
    assert ending.recipients is None, "what the record says of them stays"
    assert (last(ending).phase, last(ending).relay) == (Phase.FETCH, None)
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
    assert ending.detail == "The time that its backoff allows (3600 s) is over: user answered 503"
    assert ending.next_attempt_at is None
    assert last(ending).outcome == "deferred"


@pytest.mark.parametrize(
    ("own", "detail"),
    [
        (Backoff(give_up_s=60), "The time that its backoff allows (60 s) is over: user answered 503"),
        (Backoff(max_attempts=3), "The attempts that its backoff allows (3) are made: user answered 503"),
        (Backoff(delays_s=(5, 5)), "The attempts that its backoff allows (3) are made: user answered 503"),
    ],
)
def test_a_job_that_gives_up_says_which_limit_of_its_backoff_it_met(own, detail):
    about = replace(job(P, attempts=2, waited_s=90), backoff=own)
    assert ended(replace(about, backoff=None), LOST).status is Status.DEFERRED
    ending = ended(about, LOST)
    assert (ending.status, ending.reason, ending.detail) == (Status.FAILED, Reason.GAVE_UP, detail)


@pytest.mark.parametrize("own", [Backoff(max_attempts=1), Backoff(delays_s=(5,))])
def test_no_number_of_attempts_ends_a_job_that_no_relay_had_a_use_for(own):
    """The relays were shut for all mail: it waits for them as all the others do."""
    shut = replace(handed_over(D), uncounted=True)
    about = replace(job(P), backoff=own)
    ending = ended(about, shut)
    assert (ending.status, ending.uncounted, last(ending).number) == (Status.DEFERRED, 1, 1)
    assert ended(about, replace(shut, uncounted=False)).status is (
        Status.FAILED if own.max_attempts else Status.DEFERRED
    )
    assert ended(replace(about, due_at=NOW - 7_200_000), shut).reason is Reason.GAVE_UP, "time does"


@pytest.mark.parametrize(("waited_s", "at_least_s"), [(0, 0), (400, 100), (3_000, 750), (100_000, 900)])
@pytest.mark.parametrize(
    ("own", "base_s"), [(Backoff(), 22.5), (Backoff(base_s=1, cap_s=1, max_attempts=3), 0.75), (Backoff((5,)), 5)]
)
def test_what_does_not_count_is_tried_more_and_more_seldom_all_the_same(waited_s, at_least_s, own, base_s):
    about = replace(job(P, attempts=9, waited_s=waited_s), uncounted=9, backoff=replace(own, give_up_s=10**6))
    ending = ended(about, replace(handed_over(D), uncounted=True))
    assert ending.next_attempt_at == NOW + 1000 * max(at_least_s, base_s)


def test_attempts_that_do_not_count_take_none_away_from_those_that_do():
    about = replace(job(P, attempts=3), uncounted=3, backoff=Backoff(max_attempts=3))
    ending = ended(about, handed_over(D))
    assert (ending.status, last(ending).number) == (Status.DEFERRED, 4)
    assert ending.next_attempt_at == NOW + 22_500, "the first wait of its backoff"
    assert ended(replace(about, attempts=5), handed_over(D)).reason is Reason.GAVE_UP


def test_a_jobs_own_waits_are_kept():
    about = replace(job(P, attempts=1), backoff=Backoff(delays_s=(30, 120)))
    assert ended(about, LOST).next_attempt_at == NOW + 120_000
    assert ended(about, replace(handed_over(D), at_least_s=1800)).next_attempt_at == NOW + 1_800_000


def test_giving_up_and_expiring_are_two_ends():
    last_one = replace(job(P, expires_at=NOW + 1), backoff=Backoff(max_attempts=1))
    assert (ended(last_one, LOST).status, ended(last_one, LOST).reason) == (Status.FAILED, Reason.GAVE_UP)
    late = replace(last_one, backoff=Backoff(max_attempts=2))
    assert (ended(late, LOST).status, ended(late, LOST).reason) == (Status.EXPIRED, None)


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
        assert len(ending.attempts) == 1


MISSING = Failed(Reason.MISSING_DATA, "user answered 404", Tried(Phase.FETCH, Reply(404, "user answered 404")))


@pytest.mark.parametrize("outcome", [MISSING, Failed(Reason.RENDERING, "welcome/body.txt, line 1: 'x' is undefined")])
def test_what_would_fail_again_ends_the_job_with_its_reason(outcome):
    ending = ended(job(P, P), outcome)
    assert (ending.status, ending.reason, ending.detail) == (Status.FAILED, outcome.reason, outcome.detail)
    assert statuses(ending) == (F, F)
    assert [(item.outcome, item.reply) for item in ending.attempts] == (
        [("failed", outcome.tried.reply)] if outcome.tried else []
    )


def test_nothing_to_send_is_skipped():
    ending = ended(job(P), Skipped("`when` says so"))
    assert (ending.status, ending.detail, ending.attempts) == (Status.SKIPPED, "`when` says so", ())


@pytest.mark.parametrize("outcome", [MISSING, Skipped("`when` says so"), Expired()])
def test_a_job_that_reached_somebody_is_sent_in_part_however_it_ends(outcome):
    ending = ended(job(S, D), outcome)
    assert (ending.status, ending.partial, ending.reason) == (Status.SENT, True, None)
    assert statuses(ending) == (S, F)


CUT = Reply(None, "Connection lost")
TAKEN, REFUSED, BUSY = Reply(250, "ok"), Reply(550, "No such user here"), Reply(450, "Busy")
RESEND, HOLD, ACCEPT = UnknownPolicy.RESEND, UnknownPolicy.HOLD, UnknownPolicy.ACCEPT
ADA = (P, TAKEN)


def in_doubt(policy: UnknownPolicy, *journaled: tuple[RecipientStatus, Reply | None]) -> Unknown:
    """The answer to the final dot was lost. `journaled`: each recipient's status, and what the relay said to it."""
    named = zip(people(*[status for status, _ in journaled]), journaled, strict=True)
    return Unknown(tried(Phase.DOT, CUT), tuple(replace(item, reply=reply) for item, (_, reply) in named), policy)


def lost_again(policy: UnknownPolicy, *journaled: tuple[RecipientStatus, Reply | None]) -> Unknown:
    """Those who were taken had been in doubt before."""
    lost = in_doubt(policy, *journaled)
    known = tuple(replace(item, in_doubt="relay") if item.was_taken else item for item in lost.recipients)
    return replace(lost, recipients=known)


def after(lost: int, **more) -> Job:
    """A job with so many answers lost already."""
    about = job(P, **more)
    doubtful = tuple(replace(item, in_doubt="relay" if lost else None) for item in about.recipients)
    return replace(about, recipients=doubtful, unknown_outcomes=lost)


def second_copy(about: Job, *verdicts: RecipientStatus) -> HandedOver:
    """What the relay said to a later copy for those of a job."""
    both = zip(about.recipients, verdicts, strict=True)
    return HandedOver(tried(Phase.RCPT, NO), tuple(replace(item, status=status) for item, status in both))


def test_a_mail_in_doubt_is_sent_once_more_after_a_minute():
    ending = ended(after(0), in_doubt(RESEND, ADA))
    assert (ending.status, ending.next_attempt_at, ending.unknown_outcomes) == (
        Status.DEFERRED,
        NOW + RESEND_AFTER_MS,
        1,
    )
    attempt = last(ending)
    assert (attempt.outcome, attempt.phase, attempt.relay) == ("unknown", Phase.DOT, "relay")
    assert attempt.next_attempt_at == ending.next_attempt_at
    assert statuses(ending) == (P,)
    assert not ending.assumed


def test_the_second_copy_goes_to_the_relay_that_may_have_the_first():
    failed_over = tried(Phase.BANNER, Reply(421, "Closing"), "first") + tried(Phase.DOT, CUT, "second")
    ending = ended(after(0), replace(in_doubt(RESEND, ADA), tries=failed_over))
    assert [item.in_doubt for item in ending.recipients] == ["second"]
    assert [item.outcome for item in ending.attempts] == ["failed_over", "unknown"]


def test_a_second_copy_that_has_to_wait_still_goes_to_the_relay_that_may_have_the_first():
    ending = ended(after(1), replace(second_copy(after(1), D), stays_at="first"))
    assert ([item.in_doubt for item in ending.recipients], ending.stays_at) == (["relay"], "first")
    assert ended(after(1), LOST).recipients is None, "what the record says of them stays"


def test_a_source_in_trouble_leaves_a_job_at_the_relay_that_asked_for_patience():
    about = replace(job(P), stays_at="relay")
    assert ended(about, LOST).stays_at == "relay"
    assert ended(about, handed_over(D)).stays_at is None, "unless it asks again"


def test_a_mail_in_doubt_twice_is_not_sent_a_third_time():
    ending = ended(after(1), lost_again(RESEND, ADA))
    assert (ending.status, ending.next_attempt_at, ending.unknown_outcomes) == (Status.UNKNOWN, None, 2)
    assert statuses(ending) == (U,)
    assert "may have the mail" in ending.detail
    assert "Connection lost" in ending.detail


@pytest.mark.parametrize("lost", [0, 1, 5])
def test_a_mail_in_doubt_is_held_for_a_person(lost):
    ending = ended(after(lost), in_doubt(HOLD, ADA))
    assert (ending.status, ending.next_attempt_at, ending.unknown_outcomes) == (Status.UNKNOWN, None, lost + 1)
    assert (statuses(ending), ending.reason, ending.assumed) == ((U,), None, False)
    assert last(ending).outcome == "unknown"


def test_a_mail_in_doubt_is_taken_for_sent_and_the_record_says_that_it_was_assumed():
    ending = ended(after(0), in_doubt(ACCEPT, ADA))
    assert (ending.status, ending.assumed, ending.partial, ending.unknown_outcomes) == (Status.SENT, True, False, 1)
    assert (statuses(ending), last(ending).outcome) == ((S,), "unknown")


@pytest.mark.parametrize(
    ("late", "why"),
    [({"expires_at": NOW + RESEND_AFTER_MS - 1}, "its author's time"), ({"waited_s": 3541}, "its stream's time")],
)
def test_no_second_copy_is_sent_late(late, why):
    ending = ended(after(0, **late), in_doubt(RESEND, ADA))
    assert (ending.status, statuses(ending), ending.unknown_outcomes) == (Status.UNKNOWN, (U,), 1), why


def test_a_second_copy_is_an_attempt_that_its_backoff_has_to_allow():
    for own in (Backoff(max_attempts=1), Backoff(give_up_s=59)):
        ending = ended(replace(after(0), backoff=own), in_doubt(RESEND, ADA))
        assert (ending.status, statuses(ending), ending.unknown_outcomes) == (Status.UNKNOWN, (U,), 1)
    for own in (Backoff(max_attempts=2), Backoff(give_up_s=60), Backoff(delays_s=(1,))):
        assert ended(replace(after(0), backoff=own), in_doubt(RESEND, ADA)).status is Status.DEFERRED


def test_a_second_copy_that_is_just_in_time_is_sent():
    for in_time in ({"expires_at": NOW + RESEND_AFTER_MS}, {"waited_s": 3540}):
        assert ended(after(0, **in_time), in_doubt(RESEND, ADA)).status is Status.DEFERRED


@pytest.mark.parametrize(
    ("policy", "status", "recipients", "partial"),
    [
        (RESEND, Status.DEFERRED, (P, F, S), False),
        (HOLD, Status.UNKNOWN, (U, F, S), False),
        (ACCEPT, Status.SENT, (S, F, S), True),
    ],
)
def test_only_those_whom_the_relay_took_are_in_doubt(policy, status, recipients, partial):
    ending = ended(job(P, P, S), in_doubt(policy, ADA, (F, REFUSED), (S, TAKEN)))
    assert (ending.status, statuses(ending), ending.partial) == (status, recipients, partial)


@pytest.mark.parametrize(("policy", "ada", "assumed"), [(ACCEPT, S, True), (HOLD, U, False)])
def test_one_that_was_not_taken_is_tried_again_whatever_becomes_of_the_others(policy, ada, assumed):
    ending = ended(job(P, P), in_doubt(policy, ADA, (D, BUSY)))
    assert (ending.status, statuses(ending), last(ending).outcome) == (Status.DEFERRED, (ada, D), "unknown")
    assert (ending.assumed, ending.next_attempt_at, ending.stays_at) == (assumed, NOW + 22_500, None)
    about = replace(job(P, P), recipients=ending.recipients, unknown_outcomes=1)
    in_the_end = Status.SENT if assumed else Status.UNKNOWN
    for verdict in (S, F):
        assert ended(about, second_copy(about, ada, verdict)).status is in_the_end


def test_one_that_is_still_open_is_tried_again_where_the_second_copy_is_in_doubt_too():
    ending = ended(replace(job(P, P), unknown_outcomes=1), lost_again(RESEND, ADA, (D, BUSY)))
    assert (ending.status, statuses(ending), ending.unknown_outcomes) == (Status.DEFERRED, (U, D), 2)


def test_each_recipient_may_have_a_second_copy_of_its_own():
    """Ada had hers before Bob was taken for the first time."""
    bobs = replace(in_doubt(RESEND, (S, TAKEN), ADA), tries=tried(Phase.DOT, CUT, "second"))
    ending = ended(replace(job(S, P), unknown_outcomes=1), bobs)
    assert (ending.status, statuses(ending), ending.unknown_outcomes) == (Status.DEFERRED, (S, P), 2)
    assert [item.in_doubt for item in ending.recipients] == [None, "second"]


def test_of_two_in_doubt_the_one_that_was_so_before_has_no_third_copy():
    both = in_doubt(RESEND, ADA, ADA)
    known = (replace(both.recipients[0], in_doubt="relay"), both.recipients[1])
    ending = ended(replace(job(P, P), unknown_outcomes=1), replace(both, recipients=known))
    assert (ending.status, statuses(ending)) == (Status.DEFERRED, (U, P))


@pytest.mark.parametrize("policy", [HOLD, ACCEPT])
def test_one_that_was_put_off_waits_as_it_would_without_the_doubt_of_others(policy):
    lost = replace(in_doubt(policy, ADA, (D, BUSY)), at_least_s=1800, stays_at="relay")
    ending = ended(job(P, P), lost)
    assert (ending.status, ending.next_attempt_at, ending.stays_at) == (Status.DEFERRED, NOW + 1_800_000, "relay")


@pytest.mark.parametrize(
    "outcome",
    [
        Expired(),
        replace(LOST),
        Failed(Reason.RENDERING, "welcome/body.txt, line 1: 'x' is undefined"),
        Failed(Reason.NO_USABLE_RELAY, "Its time for trying is over."),
        Failed(Reason.POISON, "The worker died 5 times while it ran this job."),
    ],
)
def test_a_mail_that_may_have_arrived_is_never_said_to_have_failed_or_expired(outcome):
    """A copy that came to no verdict says nothing of the one before it."""
    ending = ended(after(1, waited_s=7200), outcome)
    assert (ending.status, statuses(ending), ending.reason) == (Status.UNKNOWN, (U,), None)
    assert "may have the mail" in ending.detail


def test_a_second_copy_that_the_relay_refuses_says_nothing_of_the_first():
    ending = ended(after(1), second_copy(after(1), F))
    assert (ending.status, statuses(ending), ending.reason) == (Status.UNKNOWN, (U,), None)
    assert "may have the mail" in ending.detail
    assert "No such user here" in ending.detail


def test_a_second_copy_that_is_taken_leaves_no_doubt():
    ending = ended(after(1), second_copy(after(1), S))
    assert (ending.status, statuses(ending), ending.detail) == (Status.SENT, (S,), None)


def test_each_recipient_has_a_doubt_of_its_own():
    """Ada's copy may have arrived; Bob was only put off."""
    first = ended(job(P, P), in_doubt(RESEND, ADA, (D, BUSY)))
    assert [item.in_doubt for item in first.recipients] == ["relay", None]
    about = replace(job(P, P), recipients=first.recipients, unknown_outcomes=1)
    given_up = ended(replace(about, due_at=0), second_copy(about, D, D))
    assert (given_up.status, statuses(given_up)) == (Status.UNKNOWN, (U, F))
    assert statuses(ended(replace(about, due_at=0), second_copy(about, S, D))) == (S, F)


def test_one_that_was_never_taken_fails_though_the_others_were_taken_for_sent():
    about = replace(job(S, D, waited_s=7200), unknown_outcomes=1, assumed=True)
    ending = ended(about, LOST)
    assert (ending.status, ending.partial, statuses(ending)) == (Status.SENT, True, (S, F))
