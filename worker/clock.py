"""The queue server's time at a worker: one reading, carried on."""

from collections.abc import Callable


class Clock:
    """The queue server's time, carried on from one reading by the monotonic clock."""

    def __init__(self, server_time: int, monotonic: Callable[[], float]) -> None:
        self._server_time = server_time
        self._monotonic = monotonic
        self._read_at = monotonic()

    def now(self) -> int:
        return self._server_time + int((self._monotonic() - self._read_at) * 1000)
