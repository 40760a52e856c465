"""Reading the header of a mail that was captured: the standard library's parser, and never an exception. Pure.

The trap: any byte may come in. What is returned is always text that can be encoded, on one line.
"""

import codecs
import re
from dataclasses import dataclass
from email import policy
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import getaddresses

MAX_HEAD_BYTES = 256 * 1024
MAX_ADDRESSES = 100
# Python's codecs that are no charsets of mail: they warn, are slow on purpose-made input, or depend on the machine.
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"})
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_LINE_ENDS = re.compile(r"[\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]+")
_JOB_ID = re.compile(r"\s*<([0-9a-f]{32})@[^<>@]+>\s*")


@dataclass(frozen=True, slots=True)
class ReadAddress:
    """An address as a mail shows it. Where it cannot be understood, `email` is empty and `name` is the field's text."""

    email: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """What a list of mails shows of each."""

    subject: str
    sender: ReadAddress | None
    to: tuple[ReadAddress, ...]
    job_id: str | None
    """From the Message-ID that Postroom writes; None for mail of another origin."""


def read_head(raw: bytes) -> Head:
    end = _END_OF_HEAD.search(raw, 0, MAX_HEAD_BYTES)
    message = BytesHeaderParser(policy=policy.compat32).parsebytes(raw[: end.end() if end else MAX_HEAD_BYTES])
    job = _JOB_ID.fullmatch(first_value(message, "message-id"))
    return Head(
        subject=header_text(first_value(message, "subject")),
        sender=next(iter(addresses(message, "from")), None),
        to=addresses(message, "to"),
        job_id=job[1] if job else None,
    )


def fields(message: Message) -> tuple[tuple[str, str], ...]:
    """Name and value of every header field in their order, values on one line, encoded words not yet decoded."""
    return tuple((clean(name), unfolded(str(value))) for name, value in message.raw_items())


def first_value(message: Message, name: str) -> str:
    return next((value for key, value in fields(message) if key.lower() == name), "")


def addresses(message: Message, name: str) -> tuple[ReadAddress, ...]:
    """The addresses of every field of that name, at most MAX_ADDRESSES."""
    values = [value for key, value in fields(message) if key.lower() == name]
    found: list[ReadAddress] = []
    for value in filter(None, values):
        pairs = getaddresses([value])
        if any(email for _, email in pairs):
            found += [ReadAddress(email, header_text(text) or None) for text, email in pairs if email]
        else:
            found.append(ReadAddress("", header_text(value)))
    return tuple(found[:MAX_ADDRESSES])


def header_text(value: str) -> str:
    """A value with its encoded words (RFC 2047) decoded; what cannot be decoded stays as it is written."""
    if "=?" not in value:
        return value
    try:
        pieces = decode_header(value)
    except (HeaderParseError, ValueError):
        return value
    return unfolded("".join(piece if isinstance(piece, str) else decode(piece, charset) for piece, charset in pieces))


def decode(octets: bytes, charset: str | None) -> str:
    """Text that can be encoded again, whatever the octets and the charset's name are."""
    try:
        name = codecs.lookup(charset or "utf-8").name
        return clean(octets.decode("utf-8" if name in _NO_CHARSETS else name, "replace"))
    except (LookupError, ValueError):  # unknown, no text encoding, or a name with a NUL in it
        return octets.decode("utf-8", "replace")


def unfolded(value: str) -> str:
    """On one line. Bytes above 127, which the parser hides in surrogates, are read as UTF-8."""
    try:
        value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        value = clean(value)
    return _LINE_ENDS.sub("", value).strip()


def clean(text: str) -> str:
    """Without halves of surrogate pairs, which no encoder accepts."""
    return text.encode("utf-8", "replace").decode()
