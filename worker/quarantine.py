"""How a worker makes room for a quarantined job, whose worker died twice: nothing runs beside it that would be hurt."""

import time
from collections.abc import Callable

from mailer.store.runs import Claim
from worker.running import Runs

ANSWERS_S = 2.0
"""How long a quarantined job waits for the runs it found. Then those that can be given back are, and one that waits for
its relay's answer is left to its policy, should the worker die."""


class Quarantine:
    def __init__(self, runs: Runs, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._runs = runs
        self._monotonic = monotonic
        self._waiting_since: float | None = None
        self._alone = False
        self.had_its_turn = False
        """The claim before was of a quarantined job: the next one is for the streams, where they have something due."""

    @property
    def is_here(self) -> bool:
        """This worker is the one that takes care of quarantined jobs."""
        return self._alone or self._waiting_since is not None

    def heard(self, claim: Claim) -> None:
        """What a claim said: a quarantined job came, or waits for this worker, or neither."""
        self._alone = claim.alone
        self.had_its_turn = claim.alone
        self._waiting_since = self._monotonic() if claim.waiting else None

    def in_the_way(self) -> int:
        """How many runs a quarantined job has to wait for, or may not be joined by others because of itself."""
        if self._alone or self._is_over_patience():
            return self._runs.before_journal
        return len(self._runs)

    def make_room(self) -> None:
        """To be called now and then while a quarantined job waits."""
        if self._is_over_patience():
            self._runs.stop()

    def _is_over_patience(self) -> bool:
        return self._waiting_since is not None and self._monotonic() - self._waiting_since > ANSWERS_S
