"""A mail of twenty megabytes: it goes in pieces, and between two of them others have their turn."""

import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme

from mailer.addresses import Address
from mailer.jobs import Reply
from tests.support.smtp import ScriptedRelay, scripted_relay
from worker.relays.pool import Pool
from worker.relays.relay import Relay
from worker.relays.transaction import Envelope
from worker.relays.wire import CHUNK, Wire

LINE = b".a line of the mail, as long as most of them are, that begins with a dot\r\n"
CONTENT = b"Subject: Hi\r\n\r\n" + LINE * (20_000_000 // len(LINE))
MAIL = Envelope(Address("hello@postroom.example"), (Address("ada@example.com"),), CONTENT)
STUFFED = CHUNK // len(LINE) + 2
"""Octets that are added to a piece (RFC 5321 4.5.2)."""


class Counted(Wire):
    """Counts what is written before the loop goes on to others."""

    longest = 0
    _written = 0

    def put(self, content: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self._turn)
        self._written += len(content)
        Counted.longest = max(Counted.longest, self._written)
        super().put(content)

    def _turn(self) -> None:
        self._written = 0


async def nothing(_: Mapping[str, Reply]) -> None:
    """Not journaled."""


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "TLS"])
async def test_a_large_mail_is_written_a_piece_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secured: bool
) -> None:
    monkeypatch.setattr("worker.relays.opening.Wire", Counted)
    monkeypatch.setattr(Counted, "longest", 0)
    authority, relay = trustme.CA(), ScriptedRelay()
    if secured:
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        relay.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(relay.tls)
    async with scripted_relay(relay, implicit_tls=secured):
        ca_file = tmp_path / "ca.pem" if secured else None
        tls = "implicit" if secured else "none"
        pool = Pool(Relay("first", "127.0.0.1", relay.port, tls, None, None, ca_file=ca_file))
        found = await pool.send(MAIL, nothing)
        await pool.close()
    assert found.verdicts.accepted is not None
    is_same = relay.received[0].content == CONTENT
    assert is_same
    assert Counted.longest <= CHUNK + STUFFED
