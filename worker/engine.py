"""arq's Worker with leases: jobs are held for seconds and kept by signs of life; a dead worker's jobs come due again.

arq's keys, blobs and command line; none of its polling. The trap: arq builds the instance, so there is no `__init__`
here, and its signal handlers are set before `main` runs.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Coroutine
from signal import Signals
from typing import Any

import structlog
from arq.worker import Worker

from mailer import queue
from mailer.errors import QueueRefused, QueueUnavailable
from mailer.store.connection import RedisClient
from mailer.store.reconciling import Reconciler
from mailer.store.runs import MOST_CLAIMED, Claim, Claimed
from mailer.store.wake import listen_for_work
from mailer.store.watch import ServerWatch
from worker.heartbeat import AWAY_S, Heartbeat
from worker.lease import PUSHED_BACK_S, Lease
from worker.quarantine import Quarantine
from worker.running import Runs
from worker.shares import Shares

log = structlog.get_logger()

POLL_S = 1.0
"""The net below wake and timer: how long a job may wait that nobody spoke of."""
FULL_S = 0.2
"""How often a worker without a free slot looks whether runs that are in the way have passed their journals."""
GATHER_S = 0.005
"""Least time between two claims: the next takes all that became due, or free, meanwhile."""
BARRED_S = 1.0
BARRED_JOBS = 10
"""While no relay may be asked, so few jobs are claimed so rarely, only to end those whose time is over."""
TELL_EVERY_S = 30.0
RECONCILE_EVERY_S = 5.0
LEAVE_S = 10.0
"""How long a stopping worker tries to give its jobs back."""
STOP_AGAIN_S = 0.1


class LeasedWorker(Worker):
    """One process. `ctx` is filled by on_startup: redis, leases, watch, board, deps, lease_s."""

    name: str
    _runs: Runs
    _quarantine: Quarantine
    _shares: Shares
    _heartbeat: Heartbeat
    _claims = 0
    _unheard = False
    """A claim was made whose answer did not come."""
    _attention: asyncio.Event | None = None
    _woken = True
    _held_back = False
    """Jobs are due for which there is no room among the slots of their streams."""
    _hurry = False
    _defect: BaseException | None = None

    async def main(self) -> None:
        """Run until told to stop; in burst mode, until the queues are empty."""
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._attention = asyncio.Event()
        self._runs = Runs(self._run_ended)
        self._shares = Shares(int(self.max_jobs))
        self._quarantine = Quarantine(self._runs)
        if self.on_startup:
            await self.on_startup(self.ctx)
        self._heartbeat = Heartbeat(self.name, self.ctx["leases"], self._runs, self._quarantine, self.ctx["lease_s"])
        try:
            async with self._background():
                await self._claim_jobs()
                await self._leave()
        except asyncio.CancelledError:
            if self._defect is not None:
                raise self._defect from None
            raise

    async def close(self) -> None:
        """Ends what main began. The health key is left to expire: it may be another worker's by now."""
        if self.main_task is not None and not self.main_task.done():
            self.handle_sig(signal.SIGTERM)
            await self.main_task
        if self.on_shutdown:
            await self.on_shutdown(self.ctx)
        self.allow_pick_jobs, self._hurry = True, False  # `arq --watch` runs this instance again

    def handle_sig(self, signum: Signals) -> None:
        """Take no more jobs, let those past their journal end, give the others back. Told twice: wait for none."""
        log.info("worker.stopping", signal=Signals(signum).name)
        self._hurry = not self.allow_pick_jobs
        self.allow_pick_jobs = False
        if self._attention is not None:
            self._attention.set()

    handle_sig_wait_for_completion = handle_sig

    @contextlib.asynccontextmanager
    async def _background(self) -> AsyncIterator[None]:
        redis: RedisClient = self.ctx["redis"]
        watch: ServerWatch = self.ctx["watch"]
        tasks = [
            asyncio.create_task(work)
            for work in (
                listen_for_work(redis, self._wake),
                watch.run(),
                self.ctx["board"].run(),
                self._heartbeat.run(),
                self._reconcile(Reconciler(redis)),
            )
        ]
        for task in tasks:
            task.add_done_callback(self._background_ended)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        """These never end by themselves. One that did is a defect, and a worker without it must not go on."""
        if not task.cancelled() and self.main_task is not None:
            self._defect = task.exception()
            self.main_task.cancel()

    def _wake(self) -> None:
        """Something became due."""
        self._woken = True
        if self._attention is not None:
            self._attention.set()

    def _run_ended(self) -> None:
        self._woken = self._woken or self.burst or self._held_back
        if self._attention is not None:
            self._attention.set()

    async def _wait(self, seconds: float) -> None:
        """Until something happens, or for `seconds`. Not by asyncio.wait_for, which can swallow a cancellation."""
        if self._attention is not None and seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._attention.wait()
            self._attention.clear()

    async def _claim_jobs(self) -> None:
        look_at, not_before, told = 0.0, 0.0, -TELL_EVERY_S
        while self.allow_pick_jobs:
            wanted, now = self._wanted(), time.monotonic()
            if not wanted or now < not_before or (now < look_at and not self._woken):
                await self._wait(max(look_at, not_before) - now if wanted else FULL_S)
                continue
            self._woken = False
            if self._is_barred():
                wanted, not_before = min(wanted, BARRED_JOBS), now + BARRED_S
            try:
                claim = await self._claim(wanted)
            except QueueUnavailable as error:
                told = self._tell_once_a_while(told, error)
                await self._after_absence()
                continue
            self._begin(claim)
            if self.burst and claim.is_last and not self._runs:
                return
            more = len(claim.jobs) == wanted or claim.alone or claim.waiting
            look_at = 0.0 if more else time.monotonic() + min(POLL_S, _until(claim))
            await asyncio.sleep(GATHER_S)

    async def _claim(self, wanted: int) -> Claim:
        """The next claim, or again the one whose reply was lost."""
        self._unheard = True
        quota = self._shares.quota(wanted, self._runs.held())
        claim: Claim = await self.ctx["leases"].claim(
            self.name,
            self._claims + 1,
            wanted=wanted,
            running=self._quarantine.in_the_way(),
            streams_first=self._quarantine.had_its_turn,
            quota=quota,
        )
        self._unheard = False
        self._shares.heard(quota, claim)
        self._held_back = claim.held_back
        self._claims += 1
        return claim

    async def _after_absence(self) -> None:
        """When the server is back, each worker first says that it lives: a lease that ran out meanwhile is taken up
        again by who held it, before others claim its job."""
        self._heartbeat.hasten()
        while self.allow_pick_jobs and not self._heartbeat.beaten:
            await self._wait(AWAY_S)
        await asyncio.sleep(2 * AWAY_S)

    def _tell_once_a_while(self, told: float, error: QueueUnavailable) -> float:
        """The watch raises the alarm for what concerns all calls; what concerns claims alone is seen here."""
        now = time.monotonic()
        if now - told < TELL_EVERY_S:
            return told
        log.warning("worker.cannot_claim", detail=str(error))
        return now

    def _is_barred(self) -> bool:
        """Every relay is paused or open."""
        return self.ctx["deps"].router.obstacle() is not None

    def _wanted(self) -> int:
        """Free slots, as far as one claim can fill them; none while a quarantined job runs, or waits for the others."""
        if self._quarantine.is_here:
            self._quarantine.make_room()
            if self._quarantine.in_the_way():
                return 0
        return min(MOST_CLAIMED, int(self.max_jobs) - len(self._runs))

    def _begin(self, claim: Claim) -> None:
        self._quarantine.heard(claim)
        if claim.newer:
            log.error("job.record_too_new", job_ids=claim.newer, fix="upgrade this worker")
        for claimed in claim.jobs:
            self._start(claimed)

    def _start(self, claimed: Claimed) -> None:
        lease = Lease(claimed, self.ctx["leases"])
        call = _call_of(claimed)
        work = self._work(call, lease) if call is not None else None
        if call is None or work is None:
            asked = call.function if call is not None else None
            log.error("job.not_understood", job_id=claimed.job_id, function=asked, fix="upgrade this worker")
            work = lease.give_back(PUSHED_BACK_S)
        self._runs.start(lease, work)

    def _work(self, call: queue.Call, lease: Lease) -> Coroutine[Any, Any, None] | None:
        """None where there is no such function, or it takes other arguments here."""
        function = self.functions.get(call.function)
        if function is None:
            return None
        starts = int(lease.claimed.record.get(b"starts", b"1"))
        ctx: dict[str, Any] = {**self.ctx, "job_id": lease.claimed.job_id, "job_try": starts, "lease": lease}
        try:
            work: Coroutine[Any, Any, None] = function.coroutine(ctx, *call.args, **call.kwargs)
        except TypeError:  # of the call itself: nothing of the function has run yet
            return None
        return work

    async def _reconcile(self, reconciler: Reconciler) -> None:
        while True:
            await asyncio.sleep(RECONCILE_EVERY_S)
            try:
                put_back = await reconciler.step(self.name)
            except QueueRefused as error:
                log.error("reconciler.refused", detail=str(error))
            except QueueUnavailable:
                continue
            else:
                if put_back:
                    log.error("job.was_in_no_queue", job_ids=put_back)

    async def _leave(self) -> None:
        """Those past their journal have the grace time for their answers; what then still waits follows its policy."""
        began = time.monotonic()
        await self._give_back_unheard()
        while len(self._runs) and not self._hurry:
            self._runs.stop()
            patience_s = self._job_completion_wait if self._runs.before_journal < len(self._runs) else LEAVE_S
            if time.monotonic() - began > patience_s:
                log.error("worker.left_behind", job_ids=[held.job_id for held in self._runs.held()])
                return
            await self._wait(STOP_AGAIN_S)

    async def _give_back_unheard(self) -> None:
        """What a claim took whose answer was lost: asked for again, with the same number and for nothing more."""
        if not self._unheard:
            return
        with contextlib.suppress(QueueUnavailable):
            for claimed in (await self._claim(0)).jobs:
                lease = Lease(claimed, self.ctx["leases"])
                self._runs.start(lease, lease.give_back())


def _call_of(claimed: Claimed) -> queue.Call | None:
    """Without a blob the record is enough: the blob only repeats the id."""
    if claimed.blob is None:
        return queue.Call(queue.DELIVER, (claimed.job_id,), {})
    return queue.read_blob(claimed.blob)


def _until(claim: Claim) -> float:
    """Seconds until the next job is due."""
    return POLL_S if claim.next_due is None else (claim.next_due - claim.server_time) / 1000
