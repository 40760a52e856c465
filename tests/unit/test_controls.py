"""What a person may do to a job, status by status, and what becomes of it."""

from dataclasses import replace

import pytest

from mailer.addresses import Address
from mailer.errors import NotAllowedInStatus
from mailer.jobs import Job, JournalMark, Reason, Recipient, RecipientStatus, Reply, Status, Stream
from mailer.store.controls import Standing
from service.controls import cancelled, rescheduled, resolved, retried
from service.submissions import ResolveAs

P, D, S, F = RecipientStatus.PENDING, RecipientStatus.DEFERRED, RecipientStatus.SENT, RecipientStatus.FAILED
U, C = RecipientStatus.UNKNOWN, RecipientStatus.CANCELLED
NOW = 1_795_000_000_000


def job(status: Status, *recipients: RecipientStatus, **more) -> Job:
    named = tuple(Recipient(Address(f"r{at}@example.com"), status=item) for at, item in enumerate(recipients))
    return replace(Job("1", status, Stream.NORMAL, NOW, NOW, recipients=named or None), **more)


def seen(about: Job, *, leased: bool = False) -> Standing:
    return Standing(about, leased, NOW)


def statuses(change) -> tuple[RecipientStatus, ...]:
    return tuple(item.status for item in change.recipients or ())


ALLOWED = {
    "cancel": (cancelled, {Status.PENDING, Status.DEFERRED, Status.CANCELLED}),
    "retry": (retried, {Status.FAILED, Status.EXPIRED, Status.CANCELLED}),
    "resolve": (lambda standing: resolved(standing, ResolveAs.SENT), {Status.UNKNOWN}),
    "reschedule": (lambda standing: rescheduled(standing, NOW + 1000, None), {Status.PENDING, Status.DEFERRED}),
}


@pytest.mark.parametrize("control", ALLOWED)
@pytest.mark.parametrize("status", Status)
def test_each_control_is_for_certain_statuses_and_the_others_are_named(control: str, status: Status) -> None:
    decide, allowed = ALLOWED[control]
    if status in allowed:
        decide(seen(job(status, P)))
        return
    with pytest.raises(NotAllowedInStatus) as refused:
        decide(seen(job(status, P)))
    assert refused.value.job_status == ("queued" if status is Status.PENDING else status)


@pytest.mark.parametrize("control", ["cancel", "reschedule"])
def test_a_mail_whose_final_dot_may_be_written_cannot_be_called_back(control: str) -> None:
    with pytest.raises(NotAllowedInStatus) as refused:
        ALLOWED[control][0](seen(job(Status.DEFERRED, D, journal=JournalMark("relay", 1, 1)), leased=True))
    assert refused.value.job_status == "sending"


def test_a_job_that_a_worker_has_may_be_cancelled_and_not_rescheduled() -> None:
    assert cancelled(seen(job(Status.PENDING, P), leased=True)).status is Status.CANCELLED
    with pytest.raises(NotAllowedInStatus):
        rescheduled(seen(job(Status.PENDING, P), leased=True), NOW, None)


@pytest.mark.parametrize(
    ("before", "status", "after", "partial"),
    [
        ((P,), Status.CANCELLED, (C,), "0"),
        ((D, F), Status.CANCELLED, (C, F), "0"),
        ((S, D), Status.SENT, (S, C), "1"),
        ((U, D), Status.UNKNOWN, (U, C), "0"),
        ((), Status.CANCELLED, (), "0"),
    ],
)
def test_cancel_stops_what_is_not_sent_yet(before, status, after, partial) -> None:
    change = cancelled(seen(job(Status.DEFERRED, *before)))
    assert (change.status, statuses(change), change.fields["partial"], change.at) == (status, after, partial, None)
    assert ("finished_at" in change.fields) == (status is not Status.UNKNOWN)


def test_who_may_have_a_first_copy_is_in_doubt_when_the_second_is_cancelled() -> None:
    about = job(Status.DEFERRED, P, D)
    first, second = about.recipients
    change = cancelled(seen(replace(about, recipients=(replace(first, in_doubt="relay"), second))))
    assert (change.status, statuses(change)) == (Status.UNKNOWN, (U, C))


def test_cancelled_is_cancelled() -> None:
    assert cancelled(seen(job(Status.CANCELLED, C))) is None


def test_retry_begins_anew_for_those_who_have_not_got_it() -> None:
    about = job(Status.FAILED, F, S, C, attempts=7, expires_at=NOW - 1, finished_at=NOW, reason=Reason.GAVE_UP)
    about = replace(about, recipients=tuple(replace(item, reply=Reply(451, "Later")) for item in about.recipients))
    change = retried(seen(about))
    assert (change.status, statuses(change), change.at) == (Status.PENDING, (P, S, P), NOW)
    assert [item.reply for item in change.recipients] == [None, Reply(451, "Later"), None]
    assert change.fields["uncounted"] == "7", "its attempts are counted anew"
    assert (change.fields["due_at"], change.fields["expires_at"], change.fields["reason"]) == (str(NOW), "", "")
    assert "expires_at" not in retried(seen(replace(about, expires_at=NOW + 1))).fields


@pytest.mark.parametrize(
    ("verdict", "status", "after"),
    [
        (ResolveAs.SENT, Status.SENT, (S, F)),
        (ResolveAs.FAILED, Status.FAILED, (F, F)),
        (ResolveAs.RETRY, Status.PENDING, (P, F)),
    ],
)
def test_a_person_says_what_became_of_those_in_doubt(verdict, status, after) -> None:
    about = job(Status.UNKNOWN, U, F, unknown_outcomes=2)
    change = resolved(seen(about), verdict)
    assert (change.status, statuses(change)) == (status, after)
    assert change.fields.get("assumed") == ("1" if verdict is ResolveAs.SENT else None), "no relay said so"
    if verdict is ResolveAs.FAILED:
        assert change.fields["reason"] == Reason.RESOLVED
    if verdict is ResolveAs.RETRY:
        assert change.recipients[0].in_doubt is None


def test_one_whom_a_relay_has_taken_keeps_the_job_sent_whatever_is_said_of_the_others() -> None:
    change = resolved(seen(job(Status.UNKNOWN, S, U)), ResolveAs.FAILED)
    assert (change.status, statuses(change), change.fields["partial"]) == (Status.SENT, (S, F), "1")


def test_another_time_is_when_it_is_due_or_tried_again() -> None:
    later = NOW + 60_000
    pending = rescheduled(seen(job(Status.PENDING, P)), later, None)
    assert (pending.at, pending.fields, pending.stream) == (later, {"due_at": str(later)}, None)
    deferred = rescheduled(seen(job(Status.DEFERRED, D, next_attempt_at=NOW + 5)), later, Stream.BULK)
    assert (deferred.at, deferred.stream) == (later, Stream.BULK)
    assert deferred.fields == {"next_attempt_at": str(later), "due_at": str(later)}, "its time for trying begins anew"
    assert rescheduled(seen(job(Status.PENDING, P)), NOW - 5, None).at == NOW


def test_another_stream_leaves_the_time_as_it_is() -> None:
    change = rescheduled(seen(job(Status.DEFERRED, D, next_attempt_at=NOW + 5)), None, Stream.CRITICAL)
    assert (change.at, change.fields, change.stream) == (NOW + 5, {}, Stream.CRITICAL)
