"""What one worker runs: what was not sent is given back when it is stopped, what may be sent goes on."""

import asyncio

import pytest

from mailer.jobs import JournalMark
from mailer.store.runs import JournalEntry
from tests.support.leases import LeasesToldWhatToSay, claimed
from tests.support.waiting import until
from worker.lease import Lease
from worker.running import Runs


class Worker:
    """Runs, each of which waits for `go_on`."""

    def __init__(self) -> None:
        self.store = LeasesToldWhatToSay()
        self.runs = Runs(self.count)
        self.ended = 0
        self.finished: list[str] = []
        self.go_on = asyncio.Event()

    def count(self) -> None:
        self.ended += 1

    async def start(self, job_id: str, *, journaled: bool = False) -> None:
        lease = Lease(claimed(job_id), self.store)  # type: ignore[arg-type]  # the stand-in has what a lease asks for
        self.runs.start(lease, self.work(lease, journaled=journaled))
        await asyncio.sleep(0.001)

    async def work(self, lease: Lease, *, journaled: bool) -> None:
        if journaled:
            await lease.journal(JournalEntry(lease.held, JournalMark("relay", 1, 2), (), 3, b""))
        await self.go_on.wait()
        self.finished.append(lease.held.job_id)

    async def all_ended(self) -> None:
        async def none_is_left() -> bool:
            return not len(self.runs)

        await until(none_is_left, what="the end of all runs", within_s=5)

    @property
    def given_back(self) -> list[str]:
        return sorted(item.held.job_id for item in self.store.released)


@pytest.fixture
async def worker() -> Worker:
    return Worker()


async def test_what_runs_is_held_until_it_ends(worker: Worker) -> None:
    await worker.start("a")
    await worker.start("b", journaled=True)
    assert (len(worker.runs), worker.runs.before_journal) == (2, 1)
    assert [held.job_id for held in worker.runs.held()] == ["a", "b"]
    worker.go_on.set()
    await worker.all_ended()
    assert (worker.finished, worker.given_back, worker.ended) == (["a", "b"], [], 2)
    assert worker.runs.held() == []


async def test_a_stop_gives_back_what_is_before_its_journal_and_lets_the_rest_go_on(worker: Worker) -> None:
    for job_id in ("a", "b"):
        await worker.start(job_id)
    await worker.start("c", journaled=True)
    worker.runs.stop()
    await asyncio.sleep(0.01)
    assert worker.given_back == ["a", "b"]
    assert len(worker.runs) == 1
    worker.go_on.set()
    await worker.all_ended()
    assert worker.finished == ["c"]


async def test_only_those_that_were_lost_are_stopped(worker: Worker) -> None:
    for job_id in ("a", "b"):
        await worker.start(job_id)
    worker.runs.stop([held for held in worker.runs.held() if held.job_id == "a"])
    await asyncio.sleep(0.01)
    assert worker.given_back == ["a"]
    assert [held.job_id for held in worker.runs.held()] == ["b"]
    worker.go_on.set()
    await worker.all_ended()


async def test_a_stop_that_was_swallowed_is_said_again(worker: Worker) -> None:
    """asyncio.wait_for on Python 3.11 can swallow a cancellation."""

    async def deaf_once() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    worker.runs.start(Lease(claimed("a"), worker.store), deaf_once())  # type: ignore[arg-type]  # as above
    await asyncio.sleep(0.001)
    worker.runs.stop()
    await asyncio.sleep(0.001)
    assert len(worker.runs) == 1
    worker.runs.stop()
    await worker.all_ended()
    assert worker.given_back == ["a"]


async def test_a_job_that_is_being_given_back_is_not_forgotten_by_a_second_stop(worker: Worker) -> None:
    await worker.start("a")
    for _ in range(3):
        worker.runs.stop()
        await asyncio.sleep(0)
    await worker.all_ended()
    assert worker.given_back == ["a"]
    worker.go_on.set()
