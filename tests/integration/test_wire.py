"""A mail larger than the line takes at once: TLS has buffers of its own."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from mailer.addresses import Address
from mailer.jobs import Phase, Reply
from tests.support.smtp import ScriptedRelay, scripted_relay
from worker.relays.answers import Kind, Verdicts
from worker.relays.pool import Pool
from worker.relays.relay import relays_from
from worker.relays.timeouts import Timeouts
from worker.relays.transaction import Envelope
from worker.settings import WorkerProcessSettings

LARGE = b"Subject: Hi\r\n\r\n" + b"a line of the mail, as long as most of them are\r\n" * 200_000
WAYS = pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "TLS from the start"])


@asynccontextmanager
async def sent_over_tls(
    relay: ScriptedRelay, folder: Path, content: bytes, *, implicit: bool
) -> AsyncIterator[Verdicts]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    relay.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(relay.tls)
    relay.extensions = ["PIPELINING"] if implicit else ["PIPELINING", "STARTTLS"]

    async def journal(_: Mapping[str, Reply]) -> None:
        pass

    async with scripted_relay(relay, implicit_tls=implicit):
        url = f"{'smtps' if implicit else 'smtp'}://127.0.0.1:{relay.port}?ca_file={folder / 'ca.pem'}"
        pool = Pool(*relays_from(WorkerProcessSettings.load({"POSTROOM_SMTP_URL": url})), Timeouts(stall_s=0.5))
        envelope = Envelope(Address("hello@postroom.example"), (Address("ada@example.com"),), content)
        verdicts = (await pool.send(envelope, journal)).verdicts
        await pool.close()
        yield verdicts


@WAYS
@pytest.mark.parametrize("content", [LARGE, LARGE[:100_000], LARGE[:20]], ids=["large", "a few pieces", "two pieces"])
async def test_a_mail_in_pieces_goes_through_tls(tmp_path: Path, content: bytes, implicit: bool) -> None:
    relay = ScriptedRelay()
    async with sent_over_tls(relay, tmp_path, content, implicit=implicit) as verdicts:
        assert verdicts.accepted is not None
    (received,) = relay.received
    same = received.content.removesuffix(b"\r\n") == content.removesuffix(b"\r\n")
    assert same


@WAYS
async def test_a_relay_that_stops_reading_tls_is_not_waited_for_without_end(tmp_path: Path, implicit: bool) -> None:
    reads_again = asyncio.Event()
    relay = ScriptedRelay(in_body=reads_again.wait)
    async with sent_over_tls(relay, tmp_path, LARGE, implicit=implicit) as verdicts:
        assert (verdicts.decisive.phase, verdicts.decisive.kind) == (Phase.DATA, Kind.SILENT)
        reads_again.set()
    assert relay.dots == 0
