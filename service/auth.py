"""Who may use the API: closed by default, keys compared in constant time, never echoed or logged.

With `POSTROOM_AUTH=off` the door is open, so only requests addressed to a loopback name pass: a web page elsewhere
that points its own name at 127.0.0.1 (DNS rebinding) is turned away.
"""

import base64
import hmac
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers

from mailer.errors import InvalidRequest
from service.settings import ServiceSettings, parse_api_keys

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/docs", "/openapi.json"})
OPEN_PREFIXES = ("/static/",)
BROWSER_PREFIXES = ("/mailbox", "/jobs/")
"""What a browser opens by itself, to read: there a key may also come as the password of HTTP Basic. Only to read: a
browser adds the password to what other sites' pages send here, too."""
READING = frozenset({"GET", "HEAD"})

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARDS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - what is not a name to be addressed by
ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Gate:
    """Decides on each request before anything else looks at it."""

    keys: dict[str, str]
    is_open: bool
    hosts: frozenset[str] = LOOPBACK_NAMES

    @classmethod
    def of(cls, settings: ServiceSettings) -> "Gate":
        return cls(
            keys=parse_api_keys(settings.api_keys.get_secret_value()),
            is_open=settings.auth == "off",
            hosts=LOOPBACK_NAMES | ({settings.host} - WILDCARDS),
        )

    def admit(self, method: str, path: str, headers: Headers) -> str:
        """The owner's name. Raises InvalidRequest for whoever is not let in."""
        if self.is_open:
            self._check_host(headers.get("host", ""))
            self._check_origin(headers)
            return ANONYMOUS
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIXES):
            return ANONYMOUS
        return self._owner(_presented_key(method, path, headers))

    def _owner(self, presented: str | None) -> str:
        if presented is None:
            hint = "" if self.keys else " No key is configured yet: set POSTROOM_API_KEYS, or POSTROOM_AUTH=off."
            raise _unauthorized("missing_key", f"Send your key as `Authorization: Bearer <key>`.{hint}")
        found = None
        for owner, key in self.keys.items():  # every key is compared, so that time tells nothing
            if hmac.compare_digest(key.encode(), presented.encode("utf-8", "replace")):
                found = owner
        if found is None:
            raise _unauthorized("invalid_key", "This key is not known here.")
        return found

    def _check_host(self, host: str) -> None:
        if _split(f"//{host}").hostname not in self.hosts:
            raise InvalidRequest(
                "host_not_allowed",
                "The Host is not allowed",
                "Without authentication only requests to localhost are answered. Use http://localhost, or set keys.",
                status=HTTPStatus.FORBIDDEN,
            )

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is not None and _split(origin).netloc != headers.get("host"):
            raise InvalidRequest(
                "origin_not_allowed",
                "The Origin is not allowed",
                "Without authentication a page of another site may not call this API.",
                status=HTTPStatus.FORBIDDEN,
            )


def _split(url: str) -> SplitResult:
    """What is no URL has no parts."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _unauthorized(code: str, detail: str) -> InvalidRequest:
    return InvalidRequest(code, "A valid API key is needed", detail, status=HTTPStatus.UNAUTHORIZED)


def _presented_key(method: str, path: str, headers: Headers) -> str | None:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value:
        return value.strip()
    if scheme.lower() == "basic" and _is_for_browsers(method, path):
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except ValueError:  # no Base64 (binascii.Error), or not UTF-8 inside
            return ""
    return None


def challenge(method: str, path: str) -> str:
    """The WWW-Authenticate of a 401 (RFC 9110 11.6.1)."""
    return 'Basic realm="Postroom: any name, the key as password"' if _is_for_browsers(method, path) else "Bearer"


def _is_for_browsers(method: str, path: str) -> bool:
    return method in READING and path.startswith(BROWSER_PREFIXES)
