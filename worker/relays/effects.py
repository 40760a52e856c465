"""What a fault means for its relay, beside the mail: words that the fault matrix uses and breaker and pace act on."""

from enum import StrEnum


class Effect(StrEnum):
    """On the breaker."""

    NONE = "none"
    COUNT = "count"  # a connection that failed: some of them open it
    COUNT_LOGIN = "count_login"  # a line that was cut during AUTH: three one after another count as refused credentials
    OPEN = "open"  # at once
    CERTIFICATE = "certificate"  # at once, for longer each time
    CREDENTIALS = "credentials"  # at once, until they change; a probe every five minutes
    QUOTA = "quota"  # suspended for an hour


SHUTS = frozenset({Effect.OPEN, Effect.CERTIFICATE, Effect.CREDENTIALS, Effect.QUOTA})
"""One of them is enough: nobody's mail goes there for a while, whatever it is."""


class Pace(StrEnum):
    KEEP = "keep"
    HALVE = "halve"
