"""What a relay says, from octets to replies (RFC 5321 4.2). Pure, bounded, and fed in pieces of any size.

The trap: after Malformed nothing that follows can be trusted to belong to any command.
"""

import re
from dataclasses import dataclass

MAX_OCTETS = 64 * 1024
"""Of one reply, all of its lines together."""
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?\r*", re.DOTALL)
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class RawReply:
    """Its code, and the text of its lines, one below the other."""

    code: int
    text: str


class Malformed(Exception):
    """It is no SMTP reply. `before`: those that came before it, in the same piece."""

    before: tuple[RawReply, ...] = ()


class ReplyParser:
    """Give it what arrives; it gives the replies that are whole by then."""

    def __init__(self) -> None:
        self._rest = b""
        self._code: bytes | None = None
        self._lines: list[bytes] = []
        self._octets = 0

    @property
    def is_midway(self) -> bool:
        """A reply has begun, and not ended."""
        return bool(self._rest or self._lines)

    def feed(self, data: bytes) -> list[RawReply]:
        """Raises Malformed, also where a multi-line reply changes its code or does not end within MAX_OCTETS."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        replies: list[RawReply] = []
        try:
            for line in lines:
                self._read(line, replies)
            if self._octets + len(self._rest) > MAX_OCTETS:
                raise Malformed(f"A reply of more than {MAX_OCTETS:,} octets")
        except Malformed as error:
            error.before = tuple(replies)
            raise
        return replies

    def _read(self, line: bytes, replies: list[RawReply]) -> None:
        match = _LINE.fullmatch(line)
        if match is None:
            raise Malformed(f"Not an SMTP reply: {_shown(line)}")
        code, more, text = match.groups()
        if self._code not in {None, code}:
            raise Malformed(f"A reply of several lines with two codes: {_shown(line)}")
        self._octets += len(line) + 1
        if self._octets > MAX_OCTETS:
            raise Malformed(f"A reply of more than {MAX_OCTETS:,} octets")
        self._lines.append((text or b"").strip())
        if more == b"-":
            self._code = code
            return
        whole = b"\n".join(self._lines).decode("utf-8", "replace")
        self._code, self._lines, self._octets = None, [], 0
        replies.append(RawReply(int(code), whole))


def _shown(line: bytes) -> str:
    return repr(line[:_SHOWN].decode("utf-8", "backslashreplace"))
