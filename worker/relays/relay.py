"""What a relay is, and how the settings become relays: those of the file, else the one of the URL.

The trap: a relay's password is in here, and nowhere near a repr or an error; nor is the user, which at some
providers is the same.
"""

import hashlib
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from typing import Literal

from mailer.addresses import Address, shown
from mailer.errors import SettingsError
from mailer.relays import RelayDescription
from mailer.settings import read_secret_file
from worker.relays.certificates import client_context
from worker.relays.relay_file import read_relay_file
from worker.relays.relay_options import DEFAULT_CONNECTIONS, NAME, ReadRelay, WrittenRelay, plain_text, read_relay
from worker.settings import WorkerProcessSettings

Tls = Literal["starttls", "implicit", "none"]
MARK_ROUNDS = 100_000
MARK_DIGITS = 4


def host_name() -> str:
    """This machine's. gethostname asks no name server, as getfqdn would."""
    name = socket.gethostname()
    return name if name.isascii() and " " not in name and name else "localhost"


@dataclass(frozen=True, slots=True)
class Relay:
    """An SMTP server we hand mail to. `tls`: STARTTLS required, TLS from the start, or none. `rate`: mails a second, of
    all workers together. `senders`: domains and addresses as mailer.addresses writes them, all where empty."""

    name: str
    host: str
    port: int
    tls: Tls
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    ehlo_name: str = field(default_factory=host_name)
    connections: int = DEFAULT_CONNECTIONS
    rate: float | None = None
    senders: tuple[str, ...] = ()
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def allows(self, sender: Address) -> bool:
        """A domain stands for its addresses, not for its subdomains."""
        return not self.senders or sender.email in self.senders or sender.email.rpartition("@")[2] in self.senders

    def tls_context(self) -> ssl.SSLContext | None:
        """Reads files, so that one is built and kept; None without TLS. Raises SettingsError."""
        if self.tls == "none":
            return None
        return client_context(self.ca_file, self.cert_file, self.key_file, lambda option: f"{self.name}: {option}")

    def credentials_mark(self) -> str | None:
        """Tells other credentials from these, and gives 16 bits of them away at the most. Slow on purpose: keep it."""
        if self.username is None or self.password is None:
            return None
        secret = f"{self.username}\0{self.password}".encode()
        return hashlib.pbkdf2_hmac("sha256", secret, f"{self.name}\0{self.host}".encode(), MARK_ROUNDS).hex()[
            :MARK_DIGITS
        ]


def describe(relay: Relay, order: int) -> RelayDescription:
    return RelayDescription(
        name=relay.name,
        order=order,
        host=relay.host,
        port=relay.port,
        tls=relay.tls,
        connections=relay.connections,
        rate=relay.rate,
        senders=relay.senders,
    )


def relays_from(settings: WorkerProcessSettings) -> tuple[Relay, ...]:
    """At least one, in order of preference; their files have been read once. Raises SettingsError, whose message holds
    neither a secret nor a URL."""
    if settings.config is None:
        return (_relay(_from_variables(settings)),)
    variable = settings.variable("config")
    for name in ("smtp_url", "smtp_username", "smtp_password"):
        if name in settings.model_fields_set:
            raise SettingsError(f"{variable} and {settings.variable(name)} are both set: keep one of them")
    written = read_relay_file(settings.config, variable)
    relays = tuple(_relay(each) for each in written)
    _require_own_names(relays, [each.place for each in written])
    return relays


def _from_variables(settings: WorkerProcessSettings) -> WrittenRelay:
    given = {"url": settings.smtp_url, "username": settings.smtp_username, "password": settings.smtp_password}
    values = {
        name: value if isinstance(value, str) else value.get_secret_value()
        for name, value in given.items()
        if value is not None
    }
    places = {name: settings.variable(f"smtp_{name}") for name in values}
    return WrittenRelay(places["url"], places, dict(values))


def _relay(written: WrittenRelay) -> Relay:
    read = read_relay(written)
    url, options = read.url, read.options
    username, password = options.username, _password(read, written.folder)
    tls = _tls(read)
    if (username is None) != (password is None):
        raise SettingsError(f"{written.place} needs both user and password, or neither")
    if username is not None and tls == "none":
        raise SettingsError(f"{written.place}: with tls=none the password would travel in clear; remove one of them")
    relay = Relay(
        name=options.name or _default_name(url.host, url.port, read.places["name"]),
        host=url.host,
        port=url.port,
        tls=tls,
        username=username,
        password=password,
        ehlo_name=options.ehlo_name or host_name(),
        connections=options.connections,
        rate=options.rate,
        senders=options.senders,
        ca_file=_in(written.folder, options.ca_file),
        cert_file=_in(written.folder, options.cert_file),
        key_file=_in(written.folder, options.key_file),
    )
    _require_files(relay, read)
    return relay


def _tls(read: ReadRelay) -> Tls:
    if read.url.tls_from_start and read.options.tls == "none":
        raise SettingsError(f"{read.places['tls']} must not be none: smtps:// is TLS from the start")
    if read.url.tls_from_start:
        return "implicit"
    return "none" if read.options.tls == "none" else "starttls"


def _password(read: ReadRelay, folder: Path) -> str | None:
    if read.options.password is not None:
        return read.options.password.get_secret_value()
    path = _in(folder, read.options.password_file)
    if path is None:
        return None
    place = read.places["password_file"]
    try:
        return plain_text(read_secret_file(place, path))
    except ValueError as error:
        raise SettingsError(f"{place}: what {path} holds {error}") from None


def _default_name(host: str, port: int, place: str) -> str:
    name = f"{IPv6Address(host).exploded if host.startswith(':') else host}:{port}"
    if not NAME.match(name):
        raise SettingsError(f"{place} must be given, as {shown(name)} cannot be one")
    return name


def _require_files(relay: Relay, read: ReadRelay) -> None:
    given = [option for option in ("ca_file", "cert_file", "key_file") if getattr(relay, option) is not None]
    if not given:
        return
    if relay.tls == "none":
        raise SettingsError(f"{read.places[given[0]]} is for TLS, and tls is none: remove one of them")
    if relay.cert_file is None and relay.key_file is not None:
        raise SettingsError(f"{read.places['key_file']} needs a cert_file, the certificate that the key is for")
    client_context(relay.ca_file, relay.cert_file, relay.key_file, read.places.__getitem__)


def _require_own_names(relays: Iterable[Relay], places: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for relay, place in zip(relays, places, strict=True):
        if relay.name in seen:
            raise SettingsError(f"{place}.name is {relay.name}, as is that of {seen[relay.name]}: give each its own")
        seen[relay.name] = place


def _in(folder: Path, path: Path | None) -> Path | None:
    return None if path is None else folder / path
