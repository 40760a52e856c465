"""A captured mail taken apart to be looked at: the standard library's parser, reading only. Pure; never raises.

The trap: a mail may be made to break parsers, so nothing in it is trusted, fetched, or used as a path.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import policy
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser

from mailer.reading import ReadAddress, addresses, clean, decode, fields, first_value, header_text

MAX_PARTS = 1000
# What the standard library's parser is known to raise on purpose-made bytes; RecursionError: parts nested in parts.
_PARSER_FAULTS = (LookupError, ValueError, TypeError, AttributeError, AssertionError, RecursionError)
_HEAD_TAG = re.compile(r"<head(?:\s[^<>]{0,500})?>", re.IGNORECASE)
_DOCTYPE = re.compile(r"\s*<!doctype[^<>]{0,500}>", re.IGNORECASE)
_BASE = '<base target="_blank">'


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part that is neither the text nor the html. `size`: its bytes once decoded; None for an embedded mail."""

    name: str | None
    content_type: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Parts:
    text: str | None = None
    html: str | None = None
    attachments: tuple[Attachment, ...] = ()
    readable: bool = True
    """False where the parser gave up: there is only the source to look at."""


@dataclass(frozen=True, slots=True)
class Mail:
    headers: tuple[tuple[str, str], ...]
    subject: str
    sender: ReadAddress | None
    to: tuple[ReadAddress, ...]
    cc: tuple[ReadAddress, ...]
    parts: Parts


def read_mail(raw: bytes) -> Mail:
    head = BytesHeaderParser(policy=policy.compat32).parsebytes(raw)
    return Mail(
        headers=tuple((name, header_text(value)) for name, value in fields(head)),
        subject=header_text(first_value(head, "subject")),
        sender=next(iter(addresses(head, "from")), None),
        to=addresses(head, "to"),
        cc=addresses(head, "cc"),
        parts=_read_parts(raw),
    )


def source_text(raw: bytes) -> str:
    """The mail's bytes as text, to be shown and not to be parsed."""
    return raw.decode("utf-8", "replace").replace("\r\n", "\n")


def as_page(html: str) -> str:
    """The html as a page whose links open elsewhere, so that following one does not replace the mail."""
    if tag := _HEAD_TAG.search(html, 0, 20_000):
        return html[: tag.end()] + _BASE + html[tag.end() :]
    doctype = _DOCTYPE.match(html)  # what stands before it would change how the page is laid out
    end = doctype.end() if doctype else 0
    return html[:end] + _BASE + html[end:]


def _read_parts(raw: bytes) -> Parts:
    try:
        message = BytesParser(policy=policy.compat32).parsebytes(raw)
        return _sorted_parts(message)
    except _PARSER_FAULTS:
        return Parts(readable=False)


def _sorted_parts(message: Message) -> Parts:
    bodies: dict[str, str] = {}
    attachments: list[Attachment] = []
    for part in _leaves(message):
        content_type = clean(part.get_content_type())
        name = part.get_filename()
        is_body = content_type in {"text/plain", "text/html"} and part.get_content_disposition() != "attachment"
        if is_body and name is None and content_type not in bodies:
            bodies[content_type] = decode(_octets(part), part.get_content_charset()).replace("\r\n", "\n")
            continue
        size = None if part.is_multipart() else len(_octets(part))
        attachments.append(Attachment(header_text(clean(name)) if name else None, content_type, size))
    return Parts(bodies.get("text/plain"), bodies.get("text/html"), tuple(attachments))


def _leaves(message: Message) -> Iterator[Message]:
    """The parts that hold no parts, in their order. An embedded mail is one: its own parts are not this mail's."""
    left = [message]
    for _ in range(MAX_PARTS):
        if not left:
            return
        part = left.pop()
        inner = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(inner, list):
            left += [item for item in reversed(inner) if isinstance(item, Message)]
        else:
            yield part


def _octets(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""
