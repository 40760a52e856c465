"""Bounds of a conversation with a relay, in seconds (RFC 5321 4.5.3.2)."""

from dataclasses import dataclass

SLOT_PATIENCE_S = 60.0
"""How long a mail waits, with a connection in hand, until its relay's rate lets it pass."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each part may take."""

    free_s: float = 120.0
    """Until one of the relay's connections is free."""
    tcp_s: float = 10.0
    banner_s: float = 30.0
    ehlo_s: float = 30.0
    tls_s: float = 15.0
    auth_s: float = 30.0
    connect_s: float = 45.0
    """All of these together, over all addresses of the relay."""
    command_s: float = 60.0
    """MAIL, RCPT and DATA, each."""
    envelope_s: float = 300.0
    """All of them together."""
    stall_s: float = 60.0
    """Without the relay taking any of the content."""
    content_s: float = 600.0
    """From the relay's go-ahead until the content has drained."""
    verdict_s: float = 600.0
    """From the final dot to the verdict. RFC 5321 4.5.3.2.6 asks for ten minutes: less makes duplicates."""
    unasked_s: float = 10.0
    """Until what the relay says unasked has come to its end."""
    reset_s: float = 1.0
    """From RSET to its answer, where the next mail needs that connection: opening another one takes about so long."""
    idle_s: float = 20.0
    """How long an open connection is kept for the next mail."""

    @property
    def longest_try_s(self) -> float:
        """One relay: on a connection that turns out to be stale, then on a fresh one."""
        before = self.connect_s + self.envelope_s
        return self.free_s + SLOT_PATIENCE_S + 2 * before + self.content_s + self.verdict_s
