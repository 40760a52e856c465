"""Real mail servers as relays: Postfix, Exim and OpenSMTPD from Debian, each with what it took for its recipients.

Their configuration stands in the .sh files beside this one. Two recipients are special: nobody@refused.test is a 550,
later@deferred.test a 450.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import trustme

from tests.peers.private_root import HERE, private_root
from tests.support.processes import free_port
from tests.support.waiting import until

SERVERS = ("postfix", "exim", "opensmtpd")
USERNAME, PASSWORD = "app", "s3cret: pä/ß?word"
CREDENTIALS = f"{USERNAME}:{quote(PASSWORD, safe='')}"
HEADER_AT_MOST = 5000
TRACE = re.compile(
    rb"(?:(?:return-path|x-original-to|delivered-to|envelope-to|delivery-date|received):.*\n(?:[ \t].*\n)*)+",
    re.IGNORECASE,
)
RECIPIENT = re.compile(rb"^(?:delivered-to|envelope-to): (.*)$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Delivered:
    """A mail in a mailbox: for whom, what the server wrote before it, and the mail, its lines ended with CRLF again."""

    recipient: str
    trace: bytes
    content: bytes


@dataclass(frozen=True, slots=True)
class MailServer:
    """`port` takes mail from anybody, `submission_port` after STARTTLS and AUTH, `submissions_port` after TLS from the
    start and AUTH, of which Postfix and Exim offer only LOGIN there."""

    name: str
    folder: Path
    port: int = field(default_factory=free_port)
    submission_port: int = field(default_factory=free_port)
    submissions_port: int = field(default_factory=free_port)

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}?tls=none"

    @property
    def submission_url(self) -> str:
        return f"smtp://{CREDENTIALS}@127.0.0.1:{self.submission_port}?ca_file={quote(str(self.ca_file))}"

    @property
    def submissions_url(self) -> str:
        return f"smtps://{CREDENTIALS}@127.0.0.1:{self.submissions_port}?ca_file={quote(str(self.ca_file))}"

    def delivered(self, message_id: str) -> list[Delivered]:
        """What is in mailboxes by now of this mail."""
        line = f"message-id: {message_id}\n".encode()
        paths = (self.folder / "peer" / "mails" / "new").glob("*")
        return [_read(path) for path in paths if line in _beginning(path)]

    async def wait_for(self, message_id: str, copies: int = 1) -> list[Delivered]:
        """As many as that, and not one more a moment later: a server delivers after it has said 250."""

        async def look() -> bool:
            return len(self.delivered(message_id)) >= copies

        await until(look, what=f"the delivery of {copies} copies by {self.name}; its log: {self.folder / 'log'}")
        await asyncio.sleep(0.05)
        return self.delivered(message_id)


@asynccontextmanager
async def mail_server(name: str, folder: Path) -> AsyncIterator[MailServer]:
    """One of SERVERS, ready, until the context ends. Ask private_root.lacking before."""
    server = MailServer(name, folder)
    (folder / "peer" / "mails").mkdir(parents=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(server.ca_file)
    certificate = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)  # OpenSMTPD takes no other
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "peer" / "server.pem")
    start = (HERE / f"{name}.sh").read_text()
    env = {
        "PORT": str(server.port),
        "SUBMISSION_PORT": str(server.submission_port),
        "SUBMISSIONS_PORT": str(server.submissions_port),
        "USERNAME": USERNAME,
        "PASSWORD": PASSWORD,
    }
    async with private_root(name, start, folder, env) as child:

        async def answers() -> bool:
            assert child.returncode is None, f"{name} ended: {(folder / 'log').read_text()}"
            return await _greets(server.port)

        await until(answers, what=f"the start of {name}; its log: {folder / 'log'}")
        yield server


async def _greets(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    banner = await reader.readline()
    writer.write(b"QUIT\r\n")
    writer.close()
    return banner.startswith(b"220")


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER_AT_MOST).lower()


def _read(path: Path) -> Delivered:
    stored = path.read_bytes()
    trace = TRACE.match(stored)
    assert trace is not None, stored[:200]
    recipient = RECIPIENT.search(trace[0])
    assert recipient is not None, trace[0]
    return Delivered(recipient[1].decode(), trace[0], re.sub(rb"\r?\n", b"\r\n", stored[trace.end() :]))
