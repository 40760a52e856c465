"""What an SMTP reply means for a recipient (RFC 5321 4.2.1, RFC 3463). Pure."""

import re

from mailer.jobs import RecipientStatus, Reply

_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|\Z)")
MAX_TEXT = 1000


def reply_of(code: int | None, text: str) -> Reply:
    """A relay's words, its enhanced code set apart, on one line and bounded."""
    words = " ".join(text.split())
    words = words.encode("utf-8", "replace").decode()
    match = _ENHANCED.match(words)
    enhanced = match[1] if match else None
    if enhanced:
        words = re.sub(rf"(?<!\S){re.escape(enhanced)} ", "", words)  # each line of a reply begins with it
    return Reply(code, words[:MAX_TEXT], enhanced)


def status_after(code: int | None) -> RecipientStatus:
    """2xx: the relay has taken the mail on itself; 5xx: it never will; all else may pass."""
    match (code or 0) // 100:
        case 2:
            return RecipientStatus.SENT
        case 5:
            return RecipientStatus.FAILED
        case _:
            return RecipientStatus.DEFERRED
