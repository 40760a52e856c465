"""Settings as they may be shown: without what is secret in them. Pure.

The trap: what is wrong with a secret often is that it is not where it belongs, and some providers have a user name that
is the password as well. What is not surely harmless is masked.
"""

from urllib.parse import urlsplit

from mailer.errors import SettingsError
from mailer.server import parse_queue_url
from mailer.settings import SECRET_NAMES
from service.settings import parse_api_keys
from worker.relays.relay_options import IN_URL
from worker.relays.smtp_url import parse_smtp_url

MASK = "***"
PLAIN_OPTIONS = (IN_URL | {"password_file"}) - {"url"}
"""Of `[[relays]]`."""


def shown(variable: str, value: str) -> str:
    """The value of a variable of the settings classes."""
    match variable:
        case "POSTROOM_REDIS_URL":
            return queue_url(value)
        case "POSTROOM_SMTP_URL":
            return smtp_url(value)
        case "POSTROOM_API_KEYS":
            return api_keys(value)
        case "POSTROOM_URL":
            return http_url(value)
        case "POSTROOM_SMTP_USERNAME":
            return MASK
        case _:
            return MASK if value and variable in SECRET_NAMES else value


def option(name: str, value: object) -> str:
    """A key of `[[relays]]`."""
    if name == "url":
        return smtp_url(value) if isinstance(value, str) else MASK
    if name not in PLAIN_OPTIONS:
        return MASK
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def queue_url(url: str) -> str:
    try:
        server = parse_queue_url(url)
    except SettingsError:
        return MASK
    who = f"{MASK}@" if server.username or server.password else ""
    if server.socket_path is not None:
        return f"unix://{who}{server.socket_path}" + (f"?db={server.database}" if server.database else "")
    return f"redis{'s' * server.tls}://{who}{_host(server.host)}:{server.port}/{server.database}"


def smtp_url(url: str) -> str:
    try:
        parsed = parse_smtp_url(url, "")
    except SettingsError:
        return MASK
    who = f"{MASK}@" if parsed.credentials else ""
    options = "&".join(f"{name}={value}" for name, value in parsed.options.items())
    if parsed.options.keys() - IN_URL:
        options = MASK
    scheme = "smtps" if parsed.tls_from_start else "smtp"
    return f"{scheme}://{who}{_host(parsed.host)}:{parsed.port}{'?' * bool(options)}{options}"


def http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    who, at, host = parts.netloc.rpartition("@")
    if "@" in parts.path or "@" in parts.query or "@" in parts.fragment:  # the end of a password that is not encoded
        return MASK
    return f"{parts.scheme}://{MASK * bool(who)}{at}{host}{parts.path}" + (f"?{MASK}" if parts.query else "")


def api_keys(keys: str) -> str:
    """Whose they are."""
    try:
        return ", ".join(f"{owner}:{MASK}" for owner in parse_api_keys(keys)) or "none"
    except ValueError:
        return MASK


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
