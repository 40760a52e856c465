"""A run can be stopped up to its journal, and not after; and what was sent is not forgotten because Redis blinked."""

import asyncio

import pytest

from mailer.errors import QueueUnavailable
from mailer.jobs import Job, JournalMark, Status, Stream
from mailer.store.runs import Ending, FinishVerdict, JournalEntry, JournalVerdict
from tests.support.leases import AWAY, LeasesToldWhatToSay, claimed
from worker import lease as lease_module
from worker.lease import Lease

JOB = Job("a", Status.PENDING, Stream.NORMAL, 1, 1)
SENT = Ending(Status.SENT, at=2)
GO, LOST, EXPIRED = JournalVerdict.GO, JournalVerdict.LOST, JournalVerdict.EXPIRED


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pauses and patience, a hundred times shorter."""
    for name in ("FIRST_PAUSE_S", "LONGEST_PAUSE_S", "JOURNAL_PATIENCE_S"):
        monkeypatch.setattr(lease_module, name, getattr(lease_module, name) / 100)


@pytest.fixture
def store() -> LeasesToldWhatToSay:
    return LeasesToldWhatToSay()


@pytest.fixture
def lease(store: LeasesToldWhatToSay) -> Lease:
    return Lease(claimed(), store)  # type: ignore[arg-type]  # the stand-in has what a lease asks for


def entry(lease: Lease) -> JournalEntry:
    return JournalEntry(lease.held, JournalMark("relay", 1, 2), (), 3, b"")


async def test_a_run_may_be_stopped_until_its_journal(lease: Lease, store: LeasesToldWhatToSay) -> None:
    assert lease.stop()
    assert await lease.journal(entry(lease)) is LOST
    assert store.asked == [], "a run that was stopped does not even ask"
    assert not lease.past_journal


async def test_a_run_past_its_journal_is_not_stopped(lease: Lease) -> None:
    assert await lease.journal(entry(lease)) is GO
    assert lease.past_journal
    assert not lease.stop()


async def test_a_run_is_not_stopped_while_it_asks_for_the_journal(lease: Lease, store: LeasesToldWhatToSay) -> None:
    """The server may have said go already."""
    store.hold = asyncio.Event()
    asking = asyncio.create_task(lease.journal(entry(lease)))
    await asyncio.sleep(0)
    assert not lease.stop()
    store.hold.set()
    assert await asking is GO


@pytest.mark.parametrize("verdict", [LOST, EXPIRED, JournalVerdict.REST])
async def test_a_run_that_was_refused_its_journal_may_be_stopped_again(
    lease: Lease, store: LeasesToldWhatToSay, verdict: JournalVerdict
) -> None:
    store.journals = [verdict]
    assert await lease.journal(entry(lease)) is verdict
    assert not lease.past_journal
    assert lease.stop()


async def test_a_journal_is_asked_for_again_while_the_server_is_away(lease: Lease, store: LeasesToldWhatToSay) -> None:
    store.journals = [AWAY, AWAY, GO]
    assert await lease.journal(entry(lease)) is GO
    assert store.asked == ["journal"] * 3


async def test_a_server_that_stays_away_means_no_final_dot_and_the_mark_is_taken_back(
    lease: Lease, store: LeasesToldWhatToSay
) -> None:
    store.journals = [AWAY]
    with pytest.raises(QueueUnavailable):
        await lease.journal(entry(lease))
    assert not lease.past_journal
    await lease.give_back()
    assert [item.unsent for item in store.released] == [True], "the mark may be on the server, but no dot was written"


async def test_a_mail_that_the_relay_refused_after_its_dot_may_be_stopped_before_the_next_relay_has_it(
    lease: Lease, store: LeasesToldWhatToSay
) -> None:
    await lease.journal(entry(lease))
    await lease.refused(entry(lease))
    assert not lease.past_journal
    assert lease.stop()
    assert await lease.journal(entry(lease)) is LOST
    await lease.give_back()
    assert [item.unsent for item in store.released] == [True], "its mark means nothing any more"


async def test_a_second_journal_after_a_refusal_is_a_point_of_no_return_too(
    lease: Lease, store: LeasesToldWhatToSay
) -> None:
    await lease.journal(entry(lease))
    await lease.refused(entry(lease))
    assert await lease.journal(entry(lease)) is GO
    assert not lease.stop()
    await lease.give_back()
    assert [item.unsent for item in store.released] == [False], "the second relay may have it"


async def test_a_run_that_never_asked_leaves_the_mark_of_an_earlier_one(
    lease: Lease, store: LeasesToldWhatToSay
) -> None:
    await lease.give_back()
    assert [item.unsent for item in store.released] == [False]


async def test_an_end_is_written_however_long_the_server_is_away(lease: Lease, store: LeasesToldWhatToSay) -> None:
    store.finishes = [*[AWAY] * 12, FinishVerdict.FINISHED]
    assert await lease.finish(JOB, SENT) is FinishVerdict.FINISHED
    assert store.asked == ["finish"] * 13


async def test_a_run_that_has_ended_is_not_stopped_while_its_end_is_written(
    lease: Lease, store: LeasesToldWhatToSay
) -> None:
    store.finishes = [AWAY, FinishVerdict.FINISHED]
    ending = asyncio.create_task(lease.finish(JOB, SENT))
    await asyncio.sleep(0)
    assert not lease.stop()
    await ending


async def test_after_its_end_nothing_is_given_back(lease: Lease, store: LeasesToldWhatToSay) -> None:
    await lease.finish(JOB, SENT)
    await lease.give_back()
    assert store.released == []


@pytest.mark.parametrize("verdict", [FinishVerdict.STALE, FinishVerdict.GONE])
async def test_a_run_whose_end_did_not_count_says_at_least_that_it_lives(
    lease: Lease, store: LeasesToldWhatToSay, verdict: FinishVerdict
) -> None:
    """Else the crash that it was blamed for would stay with the job."""
    store.finishes = [verdict]
    assert await lease.finish(JOB, SENT) is verdict
    await lease.give_back()
    assert len(store.released) == 1


async def test_a_job_is_given_back_once_and_at_the_time_that_was_asked_for(
    lease: Lease, store: LeasesToldWhatToSay
) -> None:
    store.releases = [AWAY, None]
    await lease.give_back(60, "relay: paused")
    await lease.give_back()
    assert [(item.held, item.delay_ms, item.detail) for item in store.released] == [
        (lease.held, 60_000, "relay: paused")
    ]


async def test_an_entry_that_means_nothing_is_dropped(lease: Lease, store: LeasesToldWhatToSay) -> None:
    await lease.drop()
    assert [item.delay_ms for item in store.released] == [None]
