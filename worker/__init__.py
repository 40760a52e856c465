"""SMTP and HTTP out: the process that delivers.

Lazy, so that `arq worker.WorkerSettings` works while importing `worker.backoff` reads no environment.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.main import WorkerSettings

__all__ = ["WorkerSettings"]


def __getattr__(name: str) -> Any:
    if name == "WorkerSettings":
        from worker.main import WorkerSettings  # noqa: PLC0415 - reads the environment: only when it is asked for

        return WorkerSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
