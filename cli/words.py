"""`key=value` words of the command line as a job's `data`. Pure."""

from typing import Any

import orjson

from mailer.errors import SettingsError


def parse_words(words: list[str]) -> dict[str, Any]:
    """A value that is JSON (42, true, null, [..], {..}, "..") is taken as such, anything else is a string.

    So `id=42` is a number, `name=Ada` a string, and `code='"0042"'` a string of digits.
    """
    data: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise SettingsError(f"{word!r} is not of the form key=value")
        try:
            data[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            data[name] = value
    return data
