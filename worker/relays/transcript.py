"""A conversation as an attempt's record keeps it: a line for each thing said, bounded. Pure."""

from collections.abc import Sequence

from worker.relays.texts import legible

MOST_LINES = 80
FIRST_LINES = 50
MOST_CHARS = 400


def written_down(noted: Sequence[tuple[float, str, bytes | str]], began: float) -> tuple[str, ...]:
    """`noted`: monotonic time, direction, what was said; `began`: when the attempt did. See mailer.jobs.Attempt."""
    lines = [
        f"{round((at - began) * 1000)} {direction} {line}" for at, direction, said in noted for line in _lines(said)
    ]
    if len(lines) <= MOST_LINES:
        return tuple(lines)
    left_out = len(lines) - MOST_LINES
    last = lines[FIRST_LINES - MOST_LINES :]
    return (*lines[:FIRST_LINES], f"{last[0].split(' ')[0]} - {left_out} lines left out", *last)


def _lines(said: bytes | str) -> list[str]:
    if isinstance(said, str) and said.isascii() and said.isprintable():
        return [said[:MOST_CHARS].rstrip()]
    octets = said if isinstance(said, bytes) else said.encode("utf-8", "replace")  # lone surrogates are no text
    text = octets.decode("utf-8", "replace")
    return [legible(line[:MOST_CHARS].rstrip()) for line in text.splitlines()]
