"""SMTP and HTTP out: the process that delivers.

Lazy, so that `arq worker.WorkerSettings` works while importing `worker.backoff` reads no environment.
"""

import sys
from typing import TYPE_CHECKING, Any

from mailer.errors import SettingsError

if TYPE_CHECKING:
    from worker.main import WorkerSettings

__all__ = ["WorkerSettings"]

WRONG_SETTINGS = 2
"""Exit code, as the `postroom` command has it."""


def __getattr__(name: str) -> Any:
    if name == "WorkerSettings":
        try:
            from worker.main import WorkerSettings  # noqa: PLC0415 - reads the environment: only when it is asked for
        except SettingsError as error:  # arq's command line would show a traceback
            sys.stderr.write(f"worker: {error}\n")
            raise SystemExit(WRONG_SETTINGS) from None
        return WorkerSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
