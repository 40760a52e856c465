"""Debian's mail servers without installing them: what `make peers` unpacked, and how one runs in a private root.

A server has PID and mount namespaces of its own, so it sees the paths and users it was built for, and all of it is gone
once the one process that was started here is killed.
"""

import asyncio
import functools
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

HERE = Path(__file__).parent
UNPACKED = HERE.parents[1] / ".peers"


def lacking(package: str) -> str | None:
    """Why what belongs to a package cannot be used here, and the fix."""
    if not (UNPACKED / package / ".complete").exists():
        return f"{package} is not unpacked here: run `make peers` (it needs apt-get)"
    return None


@functools.cache
def lacking_root() -> str | None:
    """Why no private root can be made here."""
    if os.geteuid() != 0:
        return "a mail server runs as several users and needs root: run the tests as root"
    with tempfile.TemporaryDirectory() as folder:
        _lay_out(Path(folder), "exit 0")
        done = subprocess.run(
            _command(next(UNPACKED.iterdir()), Path(folder)), capture_output=True, text=True, check=False
        )
    trouble = (done.stderr.strip().splitlines() or ["no reason given"])[0]
    return None if done.returncode == 0 else f"no private root can be made on this machine: {trouble}"


@asynccontextmanager
async def private_root(
    package: str, start: str, folder: Path, env: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs the shell script `start` over a package's files until the context ends. `folder`/peer is /peer inside, and
    `folder`/log has the output."""
    _lay_out(folder, start)
    with (folder / "log").open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            *_command(UNPACKED / package, folder),
            env={**os.environ, "LC_ALL": "C.UTF-8", **env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


def _lay_out(folder: Path, start: str) -> None:
    (folder / "peer").mkdir(exist_ok=True)
    (folder / "scratch").mkdir()
    (folder / "peer" / "start").write_text(start)


def _command(layer: Path, folder: Path) -> tuple[str, ...]:
    """It dies with this process, and all in its namespaces with it."""
    die_with_us = ("setpriv", "--pdeathsig", "KILL")
    apart = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
    return (*die_with_us, *apart, "sh", str(HERE / "private_root.sh"), str(layer), str(folder))
