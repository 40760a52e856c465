"""How authors and callers write a length of time: `30m`. The trap: a bare number has no unit, and is refused here."""

import re
from typing import Annotated

from pydantic import BeforeValidator

MAX_DURATION_MS = 30 * 24 * 3600 * 1000
_DURATION = re.compile(r"([0-9]{1,7})\s*(s|m|h|d)\Z")
_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_duration(value: object) -> int:
    """`30m` (s, m, h, d) in milliseconds, at most 30 days."""
    match = _DURATION.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a number with its unit: 90s, 30m, 12h or 3d")
    milliseconds = int(match[1]) * _UNIT_MS[match[2]]
    if milliseconds > MAX_DURATION_MS:
        raise ValueError("must be 30 days or less")
    return milliseconds


Duration = Annotated[int, BeforeValidator(parse_duration)]
