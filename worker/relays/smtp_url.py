"""The URL of a relay taken apart (RFC 3986). Pure. The trap: a part of it that looks harmless may be a password."""

import re
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from urllib.parse import SplitResult, unquote, urlsplit

from mailer.addresses import shown
from mailer.errors import SettingsError

DEFAULT_PORTS = {"smtp": 587, "smtps": 465}
_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?\Z")
_HOST_AND_PORT = re.compile(r"(?:[a-z]+://)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([^/?#]*)\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z")
LAST_PORT = 65535
_NO_PORT = f"has a port that is no number from 1 to {LAST_PORT}"
_NO_URL_CHARACTER = re.compile("[\x00-\x20\x7f\ud800-\udfff]")  # urlsplit drops some of them without a word


@dataclass(frozen=True, slots=True)
class SmtpUrl:
    """`credentials` has username, password, both or none, and `options` the query, all of them decoded."""

    tls_from_start: bool
    host: str
    port: int
    credentials: dict[str, str] = field(repr=False)
    options: dict[str, str] = field(repr=False)


def parse_smtp_url(url: str, place: str) -> SmtpUrl:
    """Raises SettingsError that begins with `place`; it never holds the URL."""
    if _NO_URL_CHARACTER.search(url):
        raise SettingsError(f"{place} has a space or a control character: remove it, or percent-encode it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text may repeat a part of the password
        raise SettingsError(f"{place} {_why_no_url(url)}") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise SettingsError(f"{place} must begin with smtp:// or smtps://")
    if port == 0:
        raise SettingsError(f"{place} {_NO_PORT}")
    if not _can_be_host(parts.hostname):
        raise SettingsError(f"{place} names no host that can be one: write smtp://host:587")
    if parts.path not in {"", "/"} or parts.fragment or "@" in parts.query:
        raise SettingsError(
            f"{place} has something after the port; percent-encode / ? # in user and password, and @ in options"
        )
    try:
        return SmtpUrl(
            tls_from_start=parts.scheme == "smtps",
            host=parts.hostname or "",
            port=port or DEFAULT_PORTS[parts.scheme],
            credentials=_credentials(parts),
            options=_options(parts.query, place),
        )
    except UnicodeDecodeError:
        raise SettingsError(f"{place} has a percent-encoded part that is not UTF-8") from None


def _why_no_url(url: str) -> str:
    """What is before the last @ may be a password; behind it there is none."""
    behind = _HOST_AND_PORT.match(url.rpartition("@")[2])
    if behind is not None and not (_PORT.match(behind[1]) and int(behind[1]) <= LAST_PORT):
        return _NO_PORT
    return "is not a URL with a port: percent-encode special characters in user and password"


def _can_be_host(host: str | None) -> bool:
    if not host or ":" not in host:
        return bool(host and _HOST.match(host))
    try:
        return "%" not in str(IPv6Address(host))
    except ValueError:
        return False


def _credentials(parts: SplitResult) -> dict[str, str]:
    given = {"username": parts.username, "password": parts.password}
    return {name: _decoded(value) for name, value in given.items() if value}


def _options(query: str, place: str) -> dict[str, str]:
    """Not parse_qs: a plus sign is a plus sign, in an address as in the name of a file."""
    options: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, _, value = (_decoded(part) for part in pair.partition("="))
        if name in options:
            raise SettingsError(f"{place} has the option {shown(name)} twice: keep one of them")
        options[name] = value
    return options


def _decoded(text: str) -> str:
    return unquote(text, errors="strict")
