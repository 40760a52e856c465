"""TLS towards a relay: whose certificates are believed, and the one that we show.

The trap: OpenSSL asks the terminal for the password of an encrypted key unless it is kept from it.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Never

from mailer.errors import SettingsError

CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
PRIVATE_KEY = b"PRIVATE KEY-----"  # PKCS #8 and the older forms, which name the algorithm before it


def client_context(
    ca_file: Path | None, cert_file: Path | None, key_file: Path | None, place: Callable[[str], str]
) -> ssl.SSLContext:
    """`ca_file` stands in place of the system's authorities, and may hold the relay's own certificate.

    Raises SettingsError that begins with `place("ca_file")` and so on, and names the file.
    """
    context = ssl.create_default_context() if ca_file is None else _trusting(ca_file, place("ca_file"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_file is not None:
        _show(context, cert_file, key_file, place)
    return context


def _trusting(ca_file: Path, place: str) -> ssl.SSLContext:
    _require(CERTIFICATE, "certificate", ca_file, place)
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(f"{place} {ca_file} is not a bundle of PEM certificates") from error
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _show(context: ssl.SSLContext, cert_file: Path, key_file: Path | None, place: Callable[[str], str]) -> None:
    _require(CERTIFICATE, "certificate", cert_file, place("cert_file"))
    key_place, holder = (place("cert_file"), cert_file) if key_file is None else (place("key_file"), key_file)
    _require(PRIVATE_KEY, "private key", holder, key_place)

    def refuse_encrypted() -> Never:
        raise SettingsError(f"{key_place} {holder} is encrypted: nobody is there to type its password; decrypt the key")

    try:
        context.load_cert_chain(cert_file, key_file, password=refuse_encrypted)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(f"{key_place} {holder}: the key does not belong to the certificate") from error
        reason = error.reason or "damaged"
        raise SettingsError(f"{place('cert_file')} {cert_file} and its key cannot be used ({reason})") from error
    except OSError as error:
        raise SettingsError(
            f"{place('cert_file')} {cert_file} and its key cannot be read ({error.strerror})"
        ) from error


def _require(marker: bytes, what: str, path: Path, place: str) -> None:
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for its writer
            raise SettingsError(f"{place} {path} is not a file")
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{place} {path} cannot be read ({error.strerror})") from error
    if marker not in content:
        raise SettingsError(f"{place} {path} holds no {what} in PEM form")
