"""Bounds of a conversation with a relay, in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each part may take."""

    before_content_s: float = 420.0
    """Everything until the content is sent: waiting for a connection, opening one, MAIL, each RCPT, DATA."""
    connect_s: float = 45.0
    """TCP, banner, EHLO, TLS and AUTH together."""
    reply_s: float = 30.0
    """Each reply while connecting."""
    command_s: float = 60.0
    """MAIL, RCPT and DATA, each."""
    content_s: float = 600.0
    """From the relay's go-ahead until the content has drained."""
    verdict_s: float = 600.0
    """From the final dot to the verdict. RFC 5321 4.5.3.2.6 asks for ten minutes: less makes duplicates."""
    reset_s: float = 10.0
    idle_s: float = 20.0
    """How long an open connection is kept for the next mail."""
