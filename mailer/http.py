"""The one HTTP client: every outgoing call of the product goes through it.

A name is resolved once, every address it has must be public, and the connection goes to an address that was checked:
no second look-up can point it elsewhere (SSRF, DNS rebinding). No redirects, no proxy from the environment. Hosts that
the operator names in `POSTROOM_SOURCE_*` may be internal.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpcore
import httpx

from mailer import __version__
from mailer.errors import CallFailed

CONNECT_TIMEOUT_S = 5.0
DEADLINE_S = 15.0
MAX_BODY_BYTES = 1_000_000
MAX_CONNECTIONS = 100

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # RFC 4291 2.4: all that is given out
_NOWHERE = ipaddress.IPv6Address("::")
_ISATAP = frozenset({b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe"})


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


def is_public(address: IPAddress) -> bool:
    """Whether an address is out on the Internet, after unwrapping IPv4 inside IPv6."""
    return all(inner.is_global and not inner.is_multicast for inner in _unwrapped(address))


def _unwrapped(address: IPAddress) -> list[IPAddress]:
    """The address and each IPv4 one it carries: mapped, 6to4, Teredo, NAT64 (RFC 6052), ISATAP (RFC 5214)."""
    found: list[IPAddress] = [address]
    if isinstance(address, ipaddress.IPv4Address):
        return found
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found.extend(address.teredo)
    last = ipaddress.IPv4Address(address.packed[12:])
    if address in _NAT64:
        return [last]
    if address not in _GLOBAL_UNICAST:
        return [_NOWHERE]
    if address.packed[8:12] in _ISATAP:
        found.append(last)
    return found


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects only to checked addresses. TLS still verifies the name, for httpcore keeps it as the origin."""

    def __init__(self, allowed_hosts: Iterable[str]) -> None:
        self._allowed = frozenset(host.lower() for host in allowed_hosts)
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await _resolve(host, port)
        if host.lower() not in self._allowed:
            for address in addresses:
                if not is_public(address):
                    raise CallFailed(
                        f"{host} is the internal address {address}; name its base in POSTROOM_SOURCE_<NAME>"
                    )
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - the interface of httpcore
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - the interface of httpcore
    ) -> httpcore.AsyncNetworkStream:
        raise CallFailed(f"calls to a socket file ({path}) are not allowed")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _resolve(host: str, port: int) -> list[IPAddress]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"{host} does not resolve: {error}") from error
    return [ipaddress.ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found]


class GuardedClient:
    """An async context manager around one connection pool."""

    def __init__(self, allowed_hosts: Iterable[str] = ()) -> None:
        transport = httpx.AsyncHTTPTransport()
        transport._pool = httpcore.AsyncConnectionPool(  # noqa: SLF001 - the only place httpx 0.28 takes a network backend
            ssl_context=ssl.create_default_context(),
            max_connections=MAX_CONNECTIONS,
            keepalive_expiry=20.0,
            network_backend=_GuardedBackend(allowed_hosts),
        )
        self._client = httpx.AsyncClient(
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(DEADLINE_S, connect=CONNECT_TIMEOUT_S),
            headers={"User-Agent": f"Postroom/{__version__}"},
        )

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """GET within DEADLINE_S seconds and MAX_BODY_BYTES bytes. Raises CallFailed when no whole answer comes."""
        try:
            parts = urlsplit(url)
            is_web = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError as error:
            raise CallFailed(f"not a URL: {error}") from error
        if not is_web or "@" in parts.netloc:
            raise CallFailed("the URL must be http:// or https://, with a host and without a user")
        try:
            async with asyncio.timeout(DEADLINE_S), self._client.stream("GET", url, headers=dict(headers)) as response:
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        raise CallFailed(f"the answer is larger than {MAX_BODY_BYTES:,} bytes")
                return Answer(response.status_code, bytes(body))
        except TimeoutError as error:
            raise CallFailed(f"no whole answer within {DEADLINE_S:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CallFailed(str(error) or type(error).__name__) from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()
