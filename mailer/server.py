"""The address of the queue server, understood once for every client of it: ours and arq's. Pure."""

from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from mailer.errors import SettingsError

VARIABLE = "POSTROOM_REDIS_URL"
DEFAULT_PORT = 6379
MOST_DATABASES = 1024


@dataclass(frozen=True, slots=True)
class QueueServer:
    """Where it listens: `socket_path`, or `host` and `port`."""

    host: str
    port: int
    socket_path: str | None
    database: int
    tls: bool
    username: str | None
    password: str | None = field(repr=False)


def parse_queue_url(url: str) -> QueueServer:
    """`redis://user:password@host:6379/0`, `rediss://` (TLS) or `unix:///path?db=0`; user and password percent-encoded.

    Raises SettingsError; its message never holds a part of the URL, which may be a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text may repeat a part of the password
        raise SettingsError(
            f"{VARIABLE} is not a URL with a port: percent-encode special characters in user and password"
        ) from None
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise SettingsError(f"{VARIABLE} must begin with redis://, rediss:// or unix://")
    options = parse_qs(parts.query, keep_blank_values=True)
    if parts.fragment or options.keys() - {"db"}:
        raise SettingsError(f"{VARIABLE} has something after the database: only ?db= is known; percent-encode # and ?")
    if parts.scheme == "unix":
        database, path = options.get("db", ["0"])[-1], unquote(parts.path)
        if not path:
            raise SettingsError(f"{VARIABLE} names no socket: write unix:///path/to/socket")
    else:
        database, path = options.get("db", [parts.path.strip("/") or "0"])[-1], None
    if not database.isdecimal() or int(database) >= MOST_DATABASES:
        raise SettingsError(f"{VARIABLE} must name its database by a number; percent-encode / in user and password")
    return QueueServer(
        host=parts.hostname or "localhost",
        port=port or DEFAULT_PORT,
        socket_path=path,
        database=int(database),
        tls=parts.scheme == "rediss",
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )
