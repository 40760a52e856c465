"""What a worker's slots are for: some are kept for critical mail, a part of each claim is for the lower streams. Pure.

Without the one a worker that is full of digests would keep a code waiting; without the other an endless stream of codes
would keep receipts waiting for ever.
"""

from collections import Counter
from collections.abc import Mapping

from mailer import queue
from mailer.jobs import Stream
from mailer.store.runs import Claim, Held, Quota

LOWER_PART = 0.7
"""Of a worker's slots, for all streams but critical together."""
SHARES: Mapping[Stream, float] = {Stream.NORMAL: 0.2, Stream.BULK: 0.1}
"""Of the jobs that are claimed while higher streams have more than enough. What one does not need is for the others."""
_STREAM_OF = {name: stream for stream, name in queue.QUEUES.items()}


class Shares:
    """`slots`: jobs that the worker runs at a time."""

    def __init__(self, slots: int) -> None:
        self._lower_most = max(1, int(slots * LOWER_PART))
        self._owed = dict.fromkeys(SHARES, 0.0)

    def quota(self, wanted: int, running: list[Held]) -> Quota:
        """For a claim of so many jobs, beside those that run."""
        lower = sum(_STREAM_OF.get(held.queue) in SHARES for held in running)
        left, least = wanted, {}
        for stream, share in SHARES.items():
            least[stream] = min(int(self._owed[stream] + share * wanted), left)
            left -= least[stream]
        return Quota(least, max(0, self._lower_most - lower))

    def heard(self, quota: Quota, claim: Claim) -> None:
        """What was taken: a stream that could not have its part in full is owed the rest of it, up to one job. Where
        none was due, nothing is owed."""
        taken = Counter(_STREAM_OF.get(claimed.queue) for claimed in claim.jobs)
        for stream, share in SHARES.items():
            owed = self._owed[stream] + share * len(claim.jobs) - taken[stream]
            none_due = quota.least[stream] > 0 and not taken[stream]
            self._owed[stream] = 0.0 if none_due else min(1.0, max(0.0, owed))
