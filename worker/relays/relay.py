"""What a relay is: `POSTROOM_SMTP_URL` understood, or refused with the part in the wrong named."""

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from mailer.errors import SettingsError
from worker.settings import WorkerProcessSettings

VARIABLE = "POSTROOM_SMTP_URL"
DEFAULT_CONNECTIONS = 30
MOST_CONNECTIONS = 1000
_DEFAULT_PORTS = {"smtp": 587, "smtps": 465}
_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?\Z|[0-9A-Fa-f:.]+\Z")
_OPTIONS = frozenset({"tls", "name", "connections"})


@dataclass(frozen=True, slots=True)
class Relay:
    """An SMTP server we hand mail to. `tls`: STARTTLS required, TLS from the start, or none."""

    name: str
    host: str
    port: int
    tls: Literal["starttls", "implicit", "none"]
    username: str | None
    password: str | None = field(repr=False)
    connections: int = DEFAULT_CONNECTIONS


def relay_from(settings: WorkerProcessSettings) -> Relay:
    """Raises SettingsError; its message never holds the URL, which may hold a password."""
    try:
        parts = urlsplit(settings.smtp_url.get_secret_value())
        port = parts.port
    except ValueError:  # its text may repeat a part of the password
        raise SettingsError(
            f"{VARIABLE} is not a URL with a port: percent-encode special characters in user and password"
        ) from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise SettingsError(f"{VARIABLE} must begin with smtp:// or smtps://")
    if port == 0:
        raise SettingsError(f"{VARIABLE}: 0 is no port")
    if not parts.hostname or not HOST.match(parts.hostname):
        raise SettingsError(f"{VARIABLE} names no host that can be one: write smtp://host:587")
    if parts.path not in {"", "/"} or parts.fragment or "@" in parts.query:
        raise SettingsError(f"{VARIABLE} has something after the port; percent-encode / ? # in user and password")
    options = _options(parts)
    username = settings.smtp_username or (unquote(parts.username) if parts.username else None)
    password = unquote(parts.password) if parts.password else None
    if settings.smtp_password is not None:
        password = settings.smtp_password.get_secret_value()
    tls = _tls(parts.scheme, options)
    if (username is None) != (password is None):
        raise SettingsError(f"{VARIABLE} needs both user and password, or neither")
    if username is not None and tls == "none":
        raise SettingsError(f"{VARIABLE}: with tls=none the password would travel in clear; remove one of them")
    port = port or _DEFAULT_PORTS[parts.scheme]
    return Relay(
        name=options.get("name", f"{parts.hostname}:{port}"),
        host=parts.hostname,
        port=port,
        tls=tls,
        username=username,
        password=password,
        connections=_connections(options.get("connections", str(DEFAULT_CONNECTIONS))),
    )


def _options(parts: SplitResult) -> dict[str, str]:
    options = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    if unknown := sorted(options.keys() - _OPTIONS):
        raise SettingsError(f"{VARIABLE}: there is no option {unknown[0]!r}; known are {', '.join(sorted(_OPTIONS))}")
    return options


def _tls(scheme: str, options: dict[str, str]) -> Literal["starttls", "implicit", "none"]:
    wanted = options.get("tls", "required")
    if wanted not in {"required", "none"}:
        raise SettingsError(f"{VARIABLE}: tls must be required or none, not {wanted!r}")
    if scheme == "smtps":
        if wanted == "none":
            raise SettingsError(f"{VARIABLE}: smtps:// is TLS from the start; tls=none does not go with it")
        return "implicit"
    return "none" if wanted == "none" else "starttls"


def _connections(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_CONNECTIONS:
        raise SettingsError(f"{VARIABLE}: connections must be a number from 1 to {MOST_CONNECTIONS}")
    return int(text)
