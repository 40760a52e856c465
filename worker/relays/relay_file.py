"""The file that `POSTROOM_CONFIG` names, read and bounded: `[[relays]]` in order of preference, and nothing else yet.

The trap: a line of it may hold a password, so that an error names its place and does not repeat it.
"""

import re
import tomllib
from pathlib import Path

from mailer.addresses import shown
from mailer.errors import SettingsError
from worker.relays.relay_options import WrittenRelay

MAX_BYTES = 1_000_000
MOST_RELAYS = 20
TABLE = "relays"
_WHERE = re.compile(r"\((at [a-z0-9 ,]+)\)\Z")


def read_relay_file(path: Path, variable: str) -> list[WrittenRelay]:
    """Raises SettingsError that names `variable`, or the file and the place in it. The first is `relays[0]`."""
    tables = _parsed(_text(path, variable), path)
    if unknown := sorted(tables.keys() - {TABLE}):
        raise SettingsError(f"{path}: there is no {shown(unknown[0])} here; only [[{TABLE}]] is known")
    relays = tables.get(TABLE, [])
    if not isinstance(relays, list) or not all(isinstance(relay, dict) for relay in relays):
        raise SettingsError(f"{path}: {TABLE} must be tables: write [[{TABLE}]] above each of them")
    if not relays:
        raise SettingsError(f'{path} names no relay: write [[{TABLE}]] and below it url = "smtp://host:587"')
    if len(relays) > MOST_RELAYS:
        raise SettingsError(f"{path}: {TABLE} has more than {MOST_RELAYS}")
    return [_written(path, f"{path}: {TABLE}[{index}]", relay) for index, relay in enumerate(relays)]


def _written(path: Path, place: str, relay: dict[str, object]) -> WrittenRelay:
    return WrittenRelay(place, {name: f"{place}.{name}" for name in relay}, relay, path.parent)


def _text(path: Path, variable: str) -> str:
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for its writer
            raise SettingsError(f"{variable}: {path} is not a file")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{variable}: {path} cannot be read ({error.strerror})") from error
    if len(raw) > MAX_BYTES:
        raise SettingsError(f"{variable}: {path} is larger than {MAX_BYTES:,} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path} is not valid UTF-8 at line {line}") from None


def _parsed(text: str, path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # not only TOMLDecodeError: a number may have too many digits
        where = _WHERE.search(str(error))
        raise SettingsError(f"{path} is not valid TOML" + (f" {where[1]}" if where else "")) from None
