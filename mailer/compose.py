"""A message's bytes (RFC 5322, 2045-2047, 6532): the only place that writes headers and MIME. Pure and deterministic.

The trap: Python's `email` must not write here. Its releases differ in which texts they turn into headers of their own;
what this module writes is 7-bit, unless a local part is not ASCII, and each field is checked again once rendered.
"""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from mailer import transfer_encoding
from mailer.addresses import Address, check_text, make_address, quoted_string, shown
from mailer.errors import HeaderError, RenderingError

LINE = 76  # RFC 2045 6.7 and RFC 2047 2; RFC 5322 2.1.1 asks for 78
MAX_LINE = 998  # octets without CRLF: RFC 5322 2.1.1
MAX_WORD = 75  # an encoded word: RFC 2047 2
WORD_FRAME = len("=?utf-8?q??=")
SHORTEST_FIRST = 40  # after a name that leaves less, the first encoded word gets a line of its own
MAX_UNBROKEN = 900  # a longer word of an author's header would pass MAX_LINE with the header's name
MAX_PHRASE = 60  # a longer word of a display name becomes encoded words, which fold

# fmt: off
RESERVED = frozenset({
    "apparently-to", "authentication-results", "auto-submitted", "bcc", "cc", "date", "delivered-to", "dkim-signature",
    "domainkey-signature", "from", "list-unsubscribe", "list-unsubscribe-post", "message-id", "mime-version",
    "received", "received-spf", "reply-to", "return-path", "sender", "subject", "to",
})
# fmt: on
RESERVED_PREFIXES = ("arc-", "content-", "resent-")

_NAME = re.compile(r"[!-9;-~]{1,76}")  # ftext, RFC 5322 2.2
_ID = re.compile(r"[A-Za-z0-9_-]{1,50}")
_DOMAIN = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*+")
_PLAIN_TEXT = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_SINGLE_SPACE = re.compile(r"(?<=[^ ]) (?=[^ ])")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*+")
_TEXT = r"[^\0-\x1f\x7f-\x9f\u2028\u2029]"
_FIELD = re.compile(rf"[!-9;-~]+:(?: {_TEXT}+)?(?:\r\n [^\0- \x7f]{_TEXT}*+)*+")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# What RFC 2047 5 (3) allows unescaped in a phrase, the strictest of its three places.
_Q = {byte: f"={byte:02X}" for byte in range(256)} | {ord(c): c for c in "!*+-/"} | {ord(" "): "_"}
_Q |= {byte: chr(byte) for byte in range(128) if chr(byte).isalnum()}


_CONSTANT_HEAD = ("Auto-Submitted: auto-generated", "MIME-Version: 1.0")
_CONTENT_TYPES = {subtype: f"Content-Type: text/{subtype}; charset=utf-8" for subtype in ("plain", "html")}
_ENCODINGS = {name: f"Content-Transfer-Encoding: {name}" for name in ("7bit", "quoted-printable", "base64")}
_CONSTANT = frozenset((*_CONSTANT_HEAD, *_CONTENT_TYPES.values(), *_ENCODINGS.values()))
"""What this module writes word for word."""


@dataclass(frozen=True, slots=True)
class Message:
    """What a mail says. `date` is aware; at least one of `html` and `text` is there; bcc is the envelope's business."""

    job_id: str
    message_id_domain: str
    date: datetime
    sender: Address
    to: tuple[Address, ...]
    subject: str
    html: str | None
    text: str | None
    cc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    """A MIME part: its Content- fields, and its encoded bytes, which end with CRLF."""

    fields: tuple[str, ...]
    body: bytes


def compose(message: Message) -> bytes:
    """The same message gives the same bytes. Raises HeaderError or RenderingError; neither is mended by time."""
    fields = [*_head(message)]
    part = _content(message)
    fields += part.fields
    for field in fields:
        if field not in _CONSTANT:
            _check_field(field)
    return b"".join(("\r\n".join([*fields, "", ""]).encode(), part.body))  # of megabytes, it lets other threads go on


def check_header(name: str, value: str) -> None:
    """Raise HeaderError unless an author may set this header to this value."""
    check_text("The name of a header", name)
    if not _NAME.fullmatch(name):
        raise HeaderError(
            f"{shown(name)} is not a header's name: 1 to 76 printable ASCII characters, no space or colon."
        )
    lower = name.lower()
    if lower in RESERVED or lower.startswith(RESERVED_PREFIXES):
        raise HeaderError(f"The header {name} is set by Postroom; choose another name.")
    check_header_text(f"The header {name[:30]}", value)


def check_header_text(what: str, value: str) -> None:
    """Raise HeaderError unless the text can stand in a header; `what` begins the sentence of the error."""
    check_text(what, value)


def _head(message: Message) -> Iterable[str]:
    check_header_text("The subject", message.subject)
    if not _ID.fullmatch(message.job_id) or not _DOMAIN.fullmatch(message.message_id_domain):
        raise HeaderError(f"No Message-ID: {shown(message.job_id)} at {shown(message.message_id_domain)}.")
    yield f"Date: {_date(message.date)}"
    yield _from(message.sender)
    if message.reply_to:
        yield _addresses("Reply-To", message.reply_to)
    if message.to:
        yield _addresses("To", message.to)
    elif not message.cc:
        yield "To: undisclosed-recipients:;"
    if message.cc:
        yield _addresses("Cc", message.cc)
    yield _unstructured("Subject", message.subject, longest=LINE - len("Subject: "))
    yield f"Message-ID: <{message.job_id}@{message.message_id_domain}>"
    yield from _CONSTANT_HEAD
    for name, value in message.headers:
        check_header(name, value)
        yield _unstructured(name, value, longest=MAX_UNBROKEN)


def _check_field(field: str) -> None:
    """The last look: whatever the code above did, this is one field, not two, and none of its lines is too long."""
    if not _FIELD.fullmatch(field) or any(len(line.encode()) > MAX_LINE for line in field.split("\r\n")):
        raise HeaderError(f"A header cannot be written safely: {shown(field)}")


@lru_cache(maxsize=16)  # mails of one second have the same
def _date(date: datetime) -> str:
    """RFC 5322 3.3, in UTC. Not strftime, whose names depend on the locale."""
    if date.tzinfo is None:
        raise HeaderError("The date of a message needs a time zone.")
    date = date.astimezone(UTC)
    return f"{_DAYS[date.weekday()]}, {date.day} {_MONTHS[date.month - 1]} {date.year:04} {date:%H:%M:%S} +0000"


@lru_cache(maxsize=256)  # an application has few senders
def _from(sender: Address) -> str:
    return _addresses("From", (sender,))


def _addresses(name: str, addresses: tuple[Address, ...]) -> str:
    words: list[str] = []
    for address in addresses:
        mailbox = make_address(address.email, address.name)  # nothing says that the value was made by it
        if mailbox.name is None:
            words.append(f"{mailbox.email},")
        else:
            first = LINE - len(f"{name}: ") if not words else LINE - 1
            words += [*_phrase(mailbox.name, first), f"<{mailbox.email}>,"]
    words[-1] = words[-1].removesuffix(",")
    return _folded(name, words)


def _phrase(name: str, first: int) -> list[str]:
    """A display name as words that folding must not break."""
    if name.isascii() and "=?" not in name:
        if _PHRASE.fullmatch(name) and max(map(len, name.split(" "))) <= MAX_PHRASE:
            return name.split(" ")
        if len(quoted := quoted_string(name)) <= MAX_PHRASE:
            return [quoted]
    return _encoded_words(name, first)


def _unstructured(name: str, value: str, *, longest: int) -> str:
    """A field of text. A value with "=?" in it is encoded, so that no reader takes it for an encoded word."""
    if not value:
        return f"{name}:"
    if _PLAIN_TEXT.fullmatch(value) and "=?" not in value:
        words = _SINGLE_SPACE.split(value)
        if max(map(len, words)) <= longest:
            return _folded(name, words)
    return _folded(name, _encoded_words(value, LINE - len(f"{name}: ")))


def _folded(name: str, words: list[str]) -> str:
    """Words joined by single spaces, or by a fold where the line is full. None begins or ends with a space."""
    lines = [f"{name}:"]
    for position, word in enumerate(words):
        fits = len(lines[-1]) + 1 + len(word) <= LINE
        if fits or (position == 0 and len(word) >= LINE):  # a line of its own would not help
            lines[-1] += f" {word}"
        else:
            lines.append(f" {word}")
    return "\r\n".join(lines)


def _encoded_words(text: str, first: int) -> list[str]:
    """RFC 2047: words of at most 75 characters, none splits a character; the first has `first`, or its own line."""
    encoded = [char.encode() for char in text]
    quoted = sum(len(_Q[byte]) for char in encoded for byte in char)
    use_q = quoted <= (sum(map(len, encoded)) + 2) // 3 * 4
    words: list[str] = []
    octets, length = b"", 0
    room = (min(first, MAX_WORD) if first >= SHORTEST_FIRST else MAX_WORD) - WORD_FRAME
    for char in encoded:
        size = sum(len(_Q[byte]) for byte in char) if use_q else len(char)
        if octets and length + size > (room if use_q else room // 4 * 3):
            words.append(_encoded_word(octets, use_q))
            octets, length, room = b"", 0, MAX_WORD - WORD_FRAME
        octets += char
        length += size
    return [*words, _encoded_word(octets, use_q)]


def _encoded_word(octets: bytes, use_q: bool) -> str:
    if use_q:
        return f"=?utf-8?q?{''.join(_Q[byte] for byte in octets)}?="
    return f"=?utf-8?b?{base64.b64encode(octets).decode()}?="


def _content(message: Message) -> _Part:
    """Only the levels that are needed; a further level wraps the part that this returns."""
    parts = [
        _text_part(subtype, text)
        for subtype, text in (("plain", message.text), ("html", message.html))  # the last is preferred
        if text is not None
    ]
    if not parts:
        raise RenderingError("A message needs a text or an html part.")
    return parts[0] if len(parts) == 1 else _multipart("alternative", message.job_id, parts)


def _multipart(subtype: str, job_id: str, parts: list[_Part]) -> _Part:
    """The boundary has `=_`, which no encoded body has. RFC 2046 5.1.1: at most 70 characters."""
    boundary = f"=_{subtype}.{job_id}"
    pieces = []
    for part in parts:
        head = "\r\n".join([f"--{boundary}", *part.fields, "", ""])
        pieces += [head.encode("ascii"), part.body, b"\r\n"]
    body = b"".join([*pieces, f"--{boundary}--\r\n".encode("ascii")])
    return _Part((f'Content-Type: multipart/{subtype};\r\n boundary="{boundary}"',), body)


def _text_part(subtype: str, text: str) -> _Part:
    try:
        octets = text.encode()
    except UnicodeEncodeError as error:
        raise RenderingError(
            f"The {subtype} text has half of a surrogate pair at position {error.start}; send it as valid UTF-8."
        ) from error
    encoding, body = transfer_encoding.encoded(octets)
    return _Part((_CONTENT_TYPES[subtype], _ENCODINGS[encoding]), body)
