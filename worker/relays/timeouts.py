"""Bounds of a conversation with a relay, in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each part may take."""

    slot_s: float = 300.0
    """Waiting for one of the pool's connections to become free."""
    connect_s: float = 45.0
    """All of it: the wait for others that are being opened, TCP, banner, EHLO, TLS and AUTH."""
    reply_s: float = 30.0
    """Each reply while connecting."""
    command_s: float = 60.0
    """MAIL and RCPT."""
    data_s: float = 600.0
    """From DATA to the verdict: RFC 5321 4.5.3.2.6 asks for ten minutes after the final dot. Less makes duplicates."""
    reset_s: float = 10.0
    idle_s: float = 20.0
    """How long an open connection is kept for the next mail."""
