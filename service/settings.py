"""What the API process reads besides MailerSettings. API keys exist here only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from mailer.jobs import Stream
from mailer.settings import DAY_S, LONGEST_TRYING_S, FromJson, Settings

MIN_KEY_LENGTH = 16


def parse_api_keys(text: str) -> dict[str, str]:
    """`name:key, name:key` as owner -> key.

    Raises ValueError for an entry without a name, a repeated name, or a key that is too short to be safe.
    """
    keys: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, colon, key = (part.strip() for part in entry.partition(":"))
        if not colon or not name:
            raise ValueError("write each key as name:key, separated by commas")
        if name in keys:
            raise ValueError(f"the name {name!r} is there twice")
        if len(key) < MIN_KEY_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError(f"the key of {name!r} must have at least {MIN_KEY_LENGTH} visible ASCII characters")
        keys[name] = key
    return keys


MAX_WAIT_S: dict[Stream, float | None] = {Stream.CRITICAL: 15 * 60, Stream.NORMAL: 4 * 3600, Stream.BULK: DAY_S}
"""Well below what each stream's backoff gives up after: what is accepted has to have time to be tried."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`waits_s`: of the oldest due job, by stream; a stream that is not there has no limit. `memory`: share of what the
    queue server may use, from 0 to 1."""

    waits_s: Mapping[Stream, float]
    memory: float


def _with_defaults(given: dict[Stream, float | None]) -> dict[Stream, float | None]:
    if any(wait is not None and not 1 <= wait <= LONGEST_TRYING_S for wait in given.values()):
        raise ValueError(f"a wait has to be between 1 and {LONGEST_TRYING_S} seconds, or null")
    return {**MAX_WAIT_S, **given}


def _check_api_keys(value: SecretStr) -> SecretStr:
    parse_api_keys(value.get_secret_value())
    return value


class ServiceSettings(Settings):
    """The API."""

    host: str = Field("127.0.0.1", description="Address the API listens on (`postroom serve`, `postroom dev`).")
    port: int = Field(8000, ge=1, le=65535, description="Port the API listens on.")
    api_keys: Annotated[SecretStr, AfterValidator(_check_api_keys)] = Field(
        SecretStr(""),
        description="Who may use the API: `name:key, name:key`; a key has at least 16 characters. "
        "Without any, every route but health and docs answers 401.",
    )
    auth: Literal["on", "off"] = Field(
        "on",
        description="`off` opens the API to whoever reaches it, and answers only requests whose Host is "
        "loopback, or POSTROOM_HOST where that is one address. For development.",
    )
    max_wait_s: Annotated[dict[Stream, float | None], AfterValidator(_with_defaults), FromJson] = Field(
        default_factory=lambda: dict(MAX_WAIT_S),
        description="Longest wait of the oldest due job of a stream, in seconds, as JSON: from then on POST /jobs "
        'answers 503 `overloaded` for it. `{"bulk": null}`: no limit. What is left out keeps its default: critical '
        "900, normal 14400, bulk 86400.",
        validate_default=True,
    )
    max_memory_percent: int = Field(
        90,
        ge=10,
        le=99,
        description="Share of the queue server's `maxmemory` (of the machine's memory where it has none) from which on "
        "POST /jobs answers 503 `overloaded`. What was accepted goes on.",
    )
    max_body_mb: int = Field(10, ge=1, le=100, description="Largest request body, in MB (1,000,000 bytes).")

    @property
    def limits(self) -> Limits:
        waits_s = {stream: wait for stream, wait in self.max_wait_s.items() if wait is not None}
        return Limits(waits_s, self.max_memory_percent / 100)
