"""The certificate that a relay shows, read whether it is believed or not.

The trap: a context that takes any certificate is for looking at one. Nothing secret may be said over it.
"""

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from worker.relays.relay import Relay

NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which ssl has no name for."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The relay's. `names`: hosts and addresses it is for. Times: seconds since 1970."""

    names: tuple[str, ...]
    issuer: str
    begins_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Handshake:
    """`version`: of TLS. `shown`: the certificate (DER), and what is in it where it was believed."""

    version: str
    shown: bytes | None
    certificate: Certificate | None


def witnessed(context: ssl.SSLContext) -> list[Handshake]:
    """Fills with the handshakes that come about in this context, also where the conversation breaks off after one."""
    handshakes: list[Handshake] = []

    class Witnessed(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            shown = self.getpeercert(binary_form=True)
            handshakes.append(Handshake(self.version() or "", shown, _certificate(self.getpeercert())))

    context.sslobject_class = Witnessed
    return handshakes


def unbelieving(relay: Relay) -> ssl.SSLContext:
    """Takes any certificate. For a look at it: nothing secret may be said then."""
    context = relay.tls_context() or ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def believing(relay: Relay, certificate: bytes) -> ssl.SSLContext:
    """Takes this certificate (DER), be it over or for another host: ssl shows only what is in one that it believes."""
    context = relay.tls_context() or ssl.create_default_context()
    context.check_hostname = False
    context.load_verify_locations(cadata=certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME
    return context


def _certificate(shown: Mapping[str, Any] | None) -> Certificate | None:
    if not shown:
        return None
    alternative = tuple(name for _, name in shown.get("subjectAltName", ()))
    issuer = _named(shown.get("issuer", ()))
    return Certificate(
        names=alternative or tuple(filter(None, [_named(shown.get("subject", ())).get("commonName")])),
        issuer=issuer.get("organizationName") or issuer.get("commonName") or "nobody",
        begins_at=ssl.cert_time_to_seconds(shown["notBefore"]),
        expires_at=ssl.cert_time_to_seconds(shown["notAfter"]),
    )


def _named(distinguished: Iterable[Iterable[tuple[str, str]]]) -> dict[str, str]:
    return {key: value for part in distinguished for key, value in part}
