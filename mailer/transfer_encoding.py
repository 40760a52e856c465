"""A text's octets as they travel (RFC 2045 6): 7bit, quoted-printable or base64, whichever is the shortest, but that
base64 is not considered for what is nearly all ASCII. Pure and deterministic; never `=_` in it, which boundaries have.

The trap: Python holds all its threads up during one call into C, so what is long is encoded a piece at a time.
"""

import binascii
import re
from collections.abc import Iterable, Sequence

PIECE = 128 * 1024
"""Octets at a time: one or two milliseconds."""
_SHORT_LINES = re.compile(rb"(?:(?:[\t -~]{0,75}[!-~])?+\r\n)*+")
_RISKY = (b"=_", b"\nFrom ", b"\n.\r")  # a boundary; what mbox and SMTP give a meaning
_SPACE_TOO_FAR = re.compile(rb"^([^\r\n]{74,75})(=20|=09)(?=\r$)", re.MULTILINE)
_MBOX_FROM = re.compile(rb"^(?:From )+", re.MULTILINE)
_LONE_DOT = re.compile(rb"^\.(?=\r?$)", re.MULTILINE)
_UNESCAPED = bytes(byte for byte in range(128) if chr(byte).isprintable() and byte != ord("=")) + b"\t\r\n"
_BASE64_LINE = 57
"""Octets that make a line of 76 characters."""


def encoded(text: bytes, piece: int = PIECE) -> tuple[str, bytes]:
    """The Content-Transfer-Encoding, and the body: lines of at most 76, ASCII, CRLF at its end and between its lines.
    Each of CRLF, CR and LF in the text is a line's end."""
    octets = b"".join(map(_with_crlf, _slices(text, piece)))
    if not octets.endswith(b"\r\n"):
        octets += b"\r\n"
    pieces = _pieces(octets, piece)
    if pieces is None:
        return "base64", _base64(octets)
    if all(map(_is_readable, pieces)):
        return "7bit", octets
    escaped = sum(len(each.translate(None, _UNESCAPED)) for each in pieces)
    if escaped * 7 < len(octets):  # base64 adds 37 %; these stay under 34 %, if few lines end with a space or are a dot
        return "quoted-printable", b"".join(map(_quoted_printable, pieces))
    whole = _base64(octets)
    if len(octets) + 2 * escaped <= len(whole):
        quoted = b"".join(map(_quoted_printable, pieces))
        if len(quoted) <= len(whole):
            return "quoted-printable", quoted
    return "base64", whole


def _with_crlf(text: bytes) -> bytes:
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return text.replace(b"\n", b"\r\n")


def _slices(text: bytes, most: int) -> Iterable[bytes]:
    """None begins in the middle of a CRLF."""
    start = 0
    while start < len(text):
        end = start + most
        if text[end - 1 : end + 1] == b"\r\n":
            end += 1
        yield text[start:end]
        start = end


def _pieces(octets: bytes, most: int) -> Sequence[bytes] | None:
    """Whole lines, together at most so long. None where a line alone is longer: nobody reads such a text as it is."""
    if len(octets) <= most:
        return (octets,)
    pieces, start = [], 0
    while start < len(octets):
        end = octets.rfind(b"\r\n", start, start + most) + 2
        if end < start + 2:
            return None
        pieces.append(octets[start:end])
        start = end
    return pieces


def _is_readable(octets: bytes) -> bool:
    if not _SHORT_LINES.fullmatch(octets):
        return False
    first_line_too = b"\n" + octets
    return not any(risk in first_line_too for risk in _RISKY)


def _quoted_printable(octets: bytes) -> bytes:
    """binascii wants CRLF in its input; wrong are its long lines that end with a space, its `From ` and lone dots."""
    quoted = binascii.b2a_qp(octets)
    if b"=20\r" in quoted or b"=09\r" in quoted:
        quoted = _SPACE_TOO_FAR.sub(rb"\1=\r\n\2", quoted)
    if b"From " in quoted:
        # The soft break keeps the line within its length.
        quoted = _MBOX_FROM.sub(lambda match: b"=46rom =\r\n" * (len(match[0]) // 5), quoted)
    return _LONE_DOT.sub(b"=2E", quoted) if b"\n." in quoted or quoted[:1] == b"." else quoted


def _base64(octets: bytes) -> bytes:
    lines = (octets[at : at + _BASE64_LINE] for at in range(0, len(octets), _BASE64_LINE))
    return b"\r\n".join([*(binascii.b2a_base64(line, newline=False) for line in lines), b""])
