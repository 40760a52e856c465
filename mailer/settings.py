"""How settings are read (12-factor: `POSTROOM_*` variables), and those that every process reads.

A class for each process describes its own part; docs/settings.md is generated from the classes. Nothing here reads the
environment by itself: it is handed in.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from mailer.addresses import Address, parse_address
from mailer.errors import AddressError, SettingsError
from mailer.server import QueueServer, parse_queue_url

PREFIX = "POSTROOM_"
SOURCE_PREFIX = "POSTROOM_SOURCE_"
SECRET_PREFIX = "POSTROOM_SECRET_"  # noqa: S105 - the name of a family of variables, not a secret
SECRET_KEY = "POSTROOM_SECRET_KEY"  # noqa: S105 - the name of a variable, not a secret
MAX_SECRET_FILE_BYTES = 64 * 1024
MIN_SECRET_KEY_CHARS = 32

NAMES_OF_OTHER_PROCESSES = frozenset(
    {
        "POSTROOM_API_KEYS", "POSTROOM_AUTH", "POSTROOM_BACKOFF", "POSTROOM_CONFIG", "POSTROOM_DATA_DIR",
        "POSTROOM_DEMO_PORT", "POSTROOM_HOST", "POSTROOM_KEY", "POSTROOM_LEASE_S", "POSTROOM_MAILBOX_SMTP_PORT",
        "POSTROOM_MAX_BODY_MB", "POSTROOM_MAX_MEMORY_PERCENT", "POSTROOM_MAX_WAIT_S", "POSTROOM_MESSAGE_ID_DOMAIN",
        "POSTROOM_PORT", "POSTROOM_RETURN_PATH", "POSTROOM_SMTP_PASSWORD", "POSTROOM_SMTP_URL",
        "POSTROOM_SMTP_USERNAME", "POSTROOM_UNKNOWN_POLICY", "POSTROOM_URL", "POSTROOM_WORKER_HOST",
        "POSTROOM_WORKER_PORT", "POSTROOM_WORKER_SLOTS",
    }
)  # fmt: skip
"""Variables of the classes in service, worker and cli, so that one environment for all draws no false warnings.
A test compares it with the classes."""

SECRET_NAMES = frozenset(
    {
        "POSTROOM_API_KEYS", "POSTROOM_KEY", "POSTROOM_REDIS_URL", "POSTROOM_SECRET_KEY", "POSTROOM_SMTP_PASSWORD",
        "POSTROOM_SMTP_URL",
    }
)  # fmt: skip
"""Those that may be read from a file, `<NAME>_FILE`. The same test compares them."""


def _json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not valid JSON ({error})") from error


def _address(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_address(value)
    except AddressError as error:
        raise ValueError(str(error)) from error


def _queue_url(url: SecretStr) -> SecretStr:
    try:
        parse_queue_url(url.get_secret_value())
    except SettingsError as error:
        raise ValueError(str(error)) from None
    return url


def _secret_key(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value()) < MIN_SECRET_KEY_CHARS:
        raise ValueError(f"must have at least {MIN_SECRET_KEY_CHARS} characters, as `openssl rand -base64 32` gives")
    return key


FromJson = BeforeValidator(_json)
FromAddress = BeforeValidator(_address)


class Settings(BaseModel):
    """Base of the settings classes: field `redis_url` is variable `POSTROOM_REDIS_URL`."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    @classmethod
    def variable(cls, name: str) -> str:
        return PREFIX + name.rstrip("_").upper()

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Read this class's variables. A secret may instead be the content of the file that `<NAME>_FILE` names."""
        values: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            variable = cls.variable(name)
            value = environ.get(variable)
            if _is_secret(field.annotation):
                value = _secret(variable, value, environ.get(f"{variable}_FILE"))
            if value is not None and value != "":
                values[name] = value
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError(cls._explain(error)) from error

    @classmethod
    def _explain(cls, error: ValidationError) -> str:
        lines = []
        for item in error.errors(include_url=False, include_input=False):
            name, *inner = (str(part) for part in item["loc"])
            place = cls.variable(name) + "".join(f".{part}" for part in inner)
            lines.append(f"{place}: {item['msg']}")
        return "; ".join(lines)


def _is_secret(annotation: object) -> bool:
    return "SecretStr" in str(annotation)


def _secret(variable: str, value: str | None, path: str | None) -> str | None:
    if not path:
        return value
    if value:
        raise SettingsError(f"{variable} and {variable}_FILE are both set: keep one of them")
    return read_secret_file(f"{variable}_FILE", Path(path))


def read_secret_file(place: str, path: Path) -> str:
    """Its text without the end of its line. Raises SettingsError that begins with `place` and names the file."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SECRET_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{place}: {path} cannot be read ({error.strerror})") from error
    if len(raw) > MAX_SECRET_FILE_BYTES:
        raise SettingsError(f"{place}: {path} is larger than {MAX_SECRET_FILE_BYTES:,} bytes")
    try:
        return raw.decode("utf-8-sig").rstrip("\r\n")  # some editors begin a file with a mark that nobody sees
    except UnicodeDecodeError:  # which quotes a part of it
        raise SettingsError(f"{place}: {path} cannot be read (it is not valid UTF-8)") from None


DAY_S = 24 * 3600
LONGEST_TRYING_S = 30 * DAY_S
"""The longest that any backoff may try."""


class Retention(BaseModel):
    """How long a job is kept once it is final. Nothing of an unfinished job ever expires."""

    model_config = ConfigDict(frozen=True)

    record_s: int
    payload_s: int
    failed_record_s: int
    failed_payload_s: int

    def after(self, *, failed: bool) -> tuple[str, str]:
        """Milliseconds for record and payload."""
        record_s = self.failed_record_s if failed else self.record_s
        payload_s = self.failed_payload_s if failed else self.payload_s
        return str(record_s * 1000), str(payload_s * 1000)

    @property
    def recipient_ms(self) -> int:
        """How long its recipients are kept in the index, from a job's due time on: its record is gone by then."""
        return (LONGEST_TRYING_S + max(self.record_s, self.failed_record_s)) * 1000


@dataclass(frozen=True, slots=True)
class Durability:
    """What must be synced before a write counts: nothing more than the server does by itself, or its file and those of
    `replicas` replicas."""

    fsync: bool = False
    replicas: int = 0


class MailerSettings(Settings):
    """What every process reads."""

    redis_url: Annotated[SecretStr, AfterValidator(_queue_url)] = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Queue server (Valkey, or Redis 7 and newer): `redis://user:password@host:6379/0`, `rediss://` "
        "(TLS) or `unix:///path`. Special characters in user and password are percent-encoded.",
    )
    durability: Literal["server", "fsync"] = Field(
        "server",
        description="`fsync`: what is accepted, journaled or sent counts once the queue server has synced it to disk "
        "(WAITAOF: Valkey, or Redis 7.2 and newer, with `appendonly yes`). `server`: as its own `appendfsync` does; "
        "with `always` there nothing more is needed.",
    )
    durability_replicas: int = Field(
        0, ge=0, le=10, description="With `fsync`: replicas that must have synced as well, for a failover."
    )
    secret_key: Annotated[SecretStr, AfterValidator(_secret_key)] = Field(
        SecretStr(""),
        description="Keys the fingerprints by which repeated requests are told from others: without it, whoever reads "
        "the queue server's memory can try out which body a request had. At least 32 characters, the same for all "
        "APIs. When it changes, a request of the last 24 hours that is repeated is 422 `idempotency_key_reused`.",
    )
    templates_dir: Path = Field(Path("templates"), description="Folder with one folder per mail.")
    templates_reload: bool = Field(
        False, description="Look for changed templates, at most once a second. On in dev mode."
    )
    from_: Annotated[Address | None, FromAddress] = Field(
        None,
        description="From address of mail whose job and template name none: `Acme <hello@acme.example>`.",
    )
    keep_record_s: int = Field(
        7 * DAY_S, ge=60, le=400 * DAY_S, description="Seconds a job's record is kept after its end."
    )
    keep_payload_s: int = Field(
        DAY_S, ge=60, le=400 * DAY_S, description="Seconds a job's content is kept after its end."
    )
    keep_failed_record_s: int = Field(
        30 * DAY_S, ge=60, le=400 * DAY_S, description="The same for the record of a failed job."
    )
    keep_failed_payload_s: int = Field(
        14 * DAY_S, ge=60, le=400 * DAY_S, description="The same for the content of a failed job."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: console on a terminal, else JSON lines."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    @property
    def queue_server(self) -> QueueServer:
        return parse_queue_url(self.redis_url.get_secret_value())

    @property
    def durable(self) -> Durability:
        return Durability(self.durability == "fsync", self.durability_replicas)

    @property
    def retention(self) -> Retention:
        return Retention(
            record_s=self.keep_record_s,
            payload_s=self.keep_payload_s,
            failed_record_s=self.keep_failed_record_s,
            failed_payload_s=self.keep_failed_payload_s,
        )


def is_templates_secret(variable: str) -> bool:
    """One of the family that templates call `secrets`. The secret key is Postroom's own, whatever its name."""
    return variable.startswith(SECRET_PREFIX) and variable.removesuffix("_FILE") != SECRET_KEY


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A warning for each `POSTROOM_*` variable that nobody reads, with the nearest name that somebody does."""
    known = {MailerSettings.variable(name) for name in MailerSettings.model_fields} | NAMES_OF_OTHER_PROCESSES
    words = sorted(name.removeprefix(PREFIX) for name in known)
    warnings = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name.startswith(SOURCE_PREFIX) or is_templates_secret(name):
            continue
        if name in known or name.removesuffix("_FILE") in SECRET_NAMES:
            continue
        near = difflib.get_close_matches(name.removeprefix(PREFIX), words, n=1)
        warnings.append(f"{name} is not a setting" + (f"; did you mean {PREFIX}{near[0]}?" if near else ""))
    return warnings
