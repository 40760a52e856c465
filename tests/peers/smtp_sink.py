"""Postfix's smtp-sink: an SMTP server that is fast, forgets or keeps what it gets, and is at fault as its options say.

Not as root, and without namespaces: what `make peers` unpacked of Postfix is enough.
"""

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers.private_root import UNPACKED
from tests.support.processes import free_port
from tests.support.waiting import until

BACKLOG = 512
START = b"----- 4f7c1d smtp-sink -----"
"""Between the mails of one file. The sink's other way, a file for each, shows mails that are not whole."""
FIELD = re.compile(rb"X-(?:Mail|Rcpt)-Args: <(.*)>")
COUNTS = re.compile(rb"sess=(\d+) quit=(\d+) mesg=(\d+)")


@dataclass(frozen=True, slots=True)
class Kept:
    """A mail that came to its final dot, whatever the sink said then."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes


@dataclass(frozen=True, slots=True)
class Counts:
    sessions: int = 0
    quits: int = 0
    mails: int = 0


@dataclass(frozen=True, slots=True)
class Sink:
    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}?tls=none"

    def kept(self) -> list[Kept]:
        """Each mail that came to its final dot, where the sink keeps them."""
        mails = self.folder / "mails"
        return [_read(stored) for stored in mails.read_bytes().split(START)[1:]] if mails.exists() else []

    def counts(self) -> Counts:
        """Of sessions that ended, and of mails that came to their final dot."""
        found = COUNTS.findall((self.folder / "counts").read_bytes())
        return Counts(*map(int, found[-1])) if found else Counts()


def lacking_sink() -> str | None:
    """Why there is none here, and the fix."""
    return None if sink_program() else "smtp-sink is not here: run `make peers` (it needs apt-get), or install postfix"


@asynccontextmanager
async def smtp_sink(*options: str, port: int | None = None, keeps: bool = True) -> AsyncIterator[Sink]:
    """Ready to be connected to, until the context ends. `options` as in smtp-sink(1). Without `keeps` it is many times
    faster and only counts."""
    with tempfile.TemporaryDirectory() as name:
        sink = Sink(port or free_port(), Path(name))
        keeping = ("-S", START.decode(), "-D", str(sink.folder / "mails")) if keeps else ()
        command = sink_command(sink.port, *options, *keeping)
        with (sink.folder / "counts").open("wb") as counts:
            child = await asyncio.create_subprocess_exec(*command, env=sink_environment(), stdout=counts)
        try:

            async def listens() -> bool:
                assert child.returncode is None, f"{command} ended with {child.returncode}"
                return _is_listening(sink.port)

            await until(listens, what="the start of smtp-sink")
            yield sink
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()


def sink_command(port: int, *options: str) -> list[str]:
    """One that counts, on stdout."""
    program = sink_program()
    assert program is not None, lacking_sink()
    user = ("-u", "root") if os.geteuid() == 0 else ()
    return [str(program), *options, "-c", *user, f"127.0.0.1:{port}", str(BACKLOG)]


def sink_program() -> Path | None:
    unpacked = UNPACKED / "postfix" / "usr" / "sbin" / "smtp-sink"
    installed = shutil.which("smtp-sink", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    return unpacked if unpacked.exists() else Path(installed) if installed else None


def sink_environment() -> dict[str, str]:
    libraries = UNPACKED / "postfix" / "usr" / "lib"
    own = (libraries / "postfix", *libraries.glob("*-linux-gnu*"))
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, own))}


def _is_listening(port: int) -> bool:
    """Without a connection, which the sink would count. Linux only."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    return any(wanted in line for line in Path("/proc/net/tcp").read_text().splitlines())


def _read(stored: bytes) -> Kept:
    """RFC 5322 with LF, after fields of its own that end with Received; the line of the final dot is left as an empty
    one."""
    own = re.match(rb"(?:X-.*\n)+Received:.*\n(?:\t.*\n)+", stored)
    assert own is not None, stored[:300]
    sender, *recipients = (address.decode() for address in FIELD.findall(own[0]))
    return Kept(sender, tuple(recipients), stored[own.end() :].removesuffix(b"\n").replace(b"\n", b"\r\n"))
