"""A job's life as the table of moves draws it."""

import pytest

from mailer.addresses import Address
from mailer.jobs import FINAL, MOVES, OPEN, OPEN_RECIPIENT, Field, Recipient, RecipientStatus, Status, distinct


def reachable(status: Status) -> set[Status]:
    seen: set[Status] = set()
    ahead = set(MOVES[status])
    while ahead:
        seen |= ahead
        ahead = {after for step in ahead for after in MOVES[step]} - seen
    return seen


def test_every_status_is_in_the_table():
    assert set(MOVES) == set(Status)


@pytest.mark.parametrize("status", sorted(FINAL))
def test_a_final_status_has_no_way_out(status):
    assert MOVES[status] == frozenset()


@pytest.mark.parametrize("status", sorted(OPEN))
def test_a_job_in_a_queue_can_still_reach_every_end(status):
    assert reachable(status) >= FINAL - {Status.CANCELLED} | {Status.UNKNOWN}


def test_a_job_in_doubt_is_never_taken_up_again_by_itself():
    """The relay may have the mail. All that may come is the answer that was thought lost."""
    assert MOVES[Status.UNKNOWN] == {Status.SENT}


def test_a_status_is_open_in_doubt_or_final():
    assert OPEN | {Status.UNKNOWN} | FINAL == set(Status)
    assert not OPEN & FINAL


def test_no_run_makes_a_job_pending_again_and_every_status_but_a_persons_can_be_reached():
    assert not any(Status.PENDING in to for to in MOVES.values())
    by_a_person = {Status.CANCELLED}
    assert reachable(Status.PENDING) == set(Status) - {Status.PENDING} - by_a_person


def test_a_recipient_is_open_until_a_relay_or_a_person_has_decided_or_it_may_have_the_mail():
    decided = {RecipientStatus.SENT, RecipientStatus.FAILED, RecipientStatus.UNKNOWN, RecipientStatus.CANCELLED}
    assert set(RecipientStatus) - OPEN_RECIPIENT == decided


def test_nobody_gets_one_mail_twice():
    ada, eve = Address("ada@example.com", "Ada"), Address("eve@example.com")
    recipients = (Recipient(ada), Recipient(eve, Field.CC), Recipient(Address("ada@example.com"), Field.BCC))
    assert distinct(recipients) == (Recipient(ada), Recipient(eve, Field.CC))
    assert distinct(()) == ()
