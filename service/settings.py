"""What the API process reads besides MailerSettings. API keys exist here only."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from mailer.settings import Settings

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
    max_body_mb: int = Field(10, ge=1, le=100, description="Largest request body, in MB (1,000,000 bytes).")
