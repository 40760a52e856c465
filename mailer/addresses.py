"""One mailbox is one mailbox (RFC 5322 3.4): parse and normalise an address, internationalised domains included. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """`email` is an addr-spec whose domain is in lower case and in A-labels; `name` is the display name."""

    email: str
    name: str | None = None
