"""A JSON object with long texts, written so that it can be read a piece at a time: Python holds all its threads up
while one piece of JSON is read, and a text of megabytes takes tens of milliseconds. Pure.

It is JSON as any other, with the octets of each part of it in front; whoever does not know that reads it as ever.
"""

from collections.abc import Mapping
from typing import Any

import orjson

PIECE_CHARS = 64 * 1024
_LONG = b'{"long":'


def written(item: Mapping[str, Any], piece: int = PIECE_CHARS) -> bytes:
    """`item` has at least one key whose value is not long text, and no key `long`."""
    texts = {name: value for name, value in item.items() if isinstance(value, str) and len(value) > piece}
    if not texts:
        return orjson.dumps(item)
    others = orjson.dumps({name: value for name, value in item.items() if name not in texts})[1:-1]
    parts, octets = [others], {"": [len(others)]}
    for name, text in texts.items():
        pieces = [orjson.dumps(text[at : at + piece])[1:-1] for at in range(0, len(text), piece)]
        octets[name] = [len(each) for each in pieces]
        parts += [_before(name), *pieces, b'"']
    return b"".join([_LONG, orjson.dumps(octets), b",", *parts, b"}"])


def read(raw: bytes) -> dict[str, Any]:
    """What was written; in a thread of its own, if it is long. Raises ValueError for what is no JSON."""
    if not raw.startswith(_LONG):
        item: dict[str, Any] = orjson.loads(raw)
        return item
    at = raw.index(b"}") + 1
    octets: dict[str, list[int]] = orjson.loads(raw[len(_LONG) : at])
    (others,) = octets.pop("")
    item = orjson.loads(b"{%b}" % raw[at + 1 : at + 1 + others])
    at += 1 + others
    for name, lengths in octets.items():
        at += len(_before(name))
        pieces: list[str] = []
        for length in lengths:
            pieces.append(orjson.loads(b'"%b"' % raw[at : at + length]))
            at += length
        item[name] = "".join(pieces)
        at += len(b'"')
    return item


def _before(name: str) -> bytes:
    return b',"%b":"' % name.encode()
