"""One mailbox is one mailbox (RFC 5322 3.4): parse and normalise an address, internationalised domains included. Pure.

The trap: a name is any text; only `parse_address` reads syntax. Normalising twice changes nothing.
"""

import re
import unicodedata
from dataclasses import dataclass

import idna

from mailer.errors import AddressError, HeaderError

MAX_ADDRESS = 254  # octets: RFC 5321 4.5.3.1.3, less the angle brackets
MAX_LOCAL_PART = 64  # octets: RFC 5321 4.5.3.1.1
MAX_DOMAIN = 253
SHOWN = 80  # characters of an input that an error repeats

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
_DOT_ATOM = re.compile(rf"{_ATOM}(?:\.{_ATOM})*+")
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_QUOTED_STRING = re.compile(_QUOTED)
_MAILBOX = re.compile(rf'((?:[^<>()\[\]:;@\\,"]|{_QUOTED})*+)<((?:[^<>"]|{_QUOTED})*+)>')
_PAIR = re.compile(r"\\(.)")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?+"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*+")


@dataclass(frozen=True, slots=True)
class Address:
    """`email` is an addr-spec whose domain is in lower case and in A-labels; `name` is the display name."""

    email: str
    name: str | None = None

    @property
    def needs_smtputf8(self) -> bool:
        """Only a relay that offers SMTPUTF8 (RFC 6531) can take this address."""
        return not self.email.isascii()


def parse_address(text: str) -> Address:
    """The one mailbox in `ada@example.com`, `Ada <ada@example.com>` or `"Lovelace, Ada" <ada@example.com>`."""
    check_text("An address", text, AddressError)
    text = text.strip()
    if not text.endswith(">"):
        return make_address(text, None)
    mailbox = _MAILBOX.fullmatch(text)
    if mailbox is None:
        raise AddressError(
            f"{shown(text)} is not one mailbox: write Name <address>, "
            'with the name in "double quotes" where it has punctuation.'
        )
    phrase, email = mailbox.groups()
    return make_address(email, _QUOTED_STRING.sub(lambda quoted: _unquoted(quoted[0]), phrase))


def make_address(email: str, name: str | None) -> Address:
    """Normalise a bare addr-spec and a name, which is any text; a blank name is no name."""
    check_text("An address", email, AddressError)
    email = email.strip()
    local, at, domain = email.rpartition("@")
    if not at:
        raise AddressError(f"{shown(email)} is not an email address: it has no @.")
    try:
        normalised = f"{_local_part(local)}@{_domain(domain)}"
    except AddressError as error:
        raise AddressError(f"{shown(email)} is not an email address: {error}.") from None
    if len(normalised.encode()) > MAX_ADDRESS:
        raise AddressError(f"{shown(email)} is not an email address: it is longer than {MAX_ADDRESS} octets.")
    if name is not None:
        check_text("The name of an address", name, AddressError)
    return Address(normalised, (name or "").strip() or None)


def check_text(what: str, value: str, error: type[HeaderError] = HeaderError) -> None:
    """Refuse what no header may hold: control characters, line separators, half of a surrogate pair."""
    if control := _CONTROL.search(value):
        raise error(
            f"{what} has the control character U+{ord(control[0]):04X} "
            f"at position {control.start()}; remove it: {shown(value)}",
            injection=True,
        )
    if half := _SURROGATE.search(value):
        raise error(f"{what} has half of a surrogate pair at position {half.start()}; send it as valid UTF-8.")


def shown(text: str) -> str:
    """A foreign text as an error message repeats it: escaped and short."""
    quoted = repr(text[:SHOWN])
    return quoted if len(text) <= SHOWN and len(quoted) <= SHOWN else f"{quoted[: SHOWN - 3]}..."


def _local_part(local: str) -> str:
    local = unicodedata.normalize("NFC", local)
    if local.startswith('"'):
        if not _QUOTED_STRING.fullmatch(local):
            raise AddressError("the quotes before the @ do not match")
        local = _unquoted(local)
        if not local:
            raise AddressError("nothing stands before the @")
        if not _DOT_ATOM.fullmatch(local):
            local = quoted_string(local)
    elif not local:
        raise AddressError("nothing stands before the @")
    elif not _DOT_ATOM.fullmatch(local):
        raise AddressError("give one address without spaces, lists, comments or stray dots before the @")
    _check_local_characters(local)
    return local


def _check_local_characters(local: str) -> None:
    if "=?" in local:
        # It would be legal, but readers that decode encoded words too eagerly see another address.
        raise AddressError("'=?' before the @ looks like an encoded word")
    if len(local.encode()) > MAX_LOCAL_PART:
        raise AddressError(f"what stands before the @ is longer than {MAX_LOCAL_PART} octets")
    if not local.isascii() and any(
        not character.isascii() and unicodedata.category(character)[0] in "CZ" for character in local
    ):
        raise AddressError("an invisible character stands before the @")


def _domain(text: str) -> str:
    if text.startswith("["):
        raise AddressError("an address literal is not accepted, use a domain name")
    if len(text) > MAX_DOMAIN:
        raise AddressError(f"its domain is longer than {MAX_DOMAIN} characters")
    domain = text.lower()
    if not text.isascii() or "xn--" in domain:
        try:
            domain = idna.encode(text, uts46=True).decode("ascii")
        except UnicodeError as error:  # idna.IDNAError is one
            raise AddressError("its domain is not a valid internationalised name") from error
    if not _HOST.fullmatch(domain) or len(domain) > MAX_DOMAIN:
        raise AddressError("its domain is not a host name, such as example.com")
    if "." not in domain and domain != "localhost":
        raise AddressError("its domain needs a dot, as in example.com (only localhost goes without)")
    if domain.rpartition(".")[2].isdigit():
        raise AddressError("an IP address is not accepted, use a domain name")
    return domain


def quoted_string(text: str) -> str:
    """RFC 5322 3.2.4."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _unquoted(quoted: str) -> str:
    return _PAIR.sub(r"\1", quoted[1:-1])
