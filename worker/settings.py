"""What the worker process reads besides MailerSettings. Relay credentials exist here only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from mailer.addresses import Address
from mailer.backoff import MAX_ATTEMPTS
from mailer.errors import SettingsError
from mailer.jobs import Stream, UnknownPolicy
from mailer.settings import (
    DAY_S,
    LONGEST_TRYING_S,
    SECRET_PREFIX,
    SOURCE_PREFIX,
    FromAddress,
    FromJson,
    Settings,
    is_templates_secret,
)

HOSTNAME_LIMIT = 253


class BackoffSchedule(BaseModel):
    """Delays between attempts grow from `base_s` to `cap_s`; after `give_up_s` from the due time, or after
    `max_attempts`, the job fails. A template's or a job's own backoff goes before it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    base_s: float = Field(gt=0, le=DAY_S)
    cap_s: float = Field(gt=0, le=DAY_S)
    give_up_s: float = Field(gt=0, le=LONGEST_TRYING_S)
    max_attempts: int | None = Field(None, ge=1, le=MAX_ATTEMPTS, strict=True)


DEFAULT_BACKOFF: dict[Stream, BackoffSchedule] = {
    Stream.CRITICAL: BackoffSchedule(base_s=2, cap_s=60, give_up_s=30 * 60),
    Stream.NORMAL: BackoffSchedule(base_s=30, cap_s=15 * 60, give_up_s=3 * DAY_S),
    Stream.BULK: BackoffSchedule(base_s=5 * 60, cap_s=66 * 60, give_up_s=5 * DAY_S),
}


def _with_defaults(value: object) -> object:
    if not isinstance(value, dict):
        return value
    defaults = {stream.value: schedule.model_dump() for stream, schedule in DEFAULT_BACKOFF.items()}
    return {
        name: {**defaults.get(name, {}), **given} if isinstance(given, dict) else given for name, given in value.items()
    }


class WorkerProcessSettings(Settings):
    """The worker."""

    smtp_url: SecretStr = Field(
        SecretStr("smtp://127.0.0.1:25"),
        description="The relay: `smtp://user:password@host:587` (STARTTLS required) or `smtps://...:465` (TLS from the "
        "start), special characters in user and password percent-encoded. Options follow as "
        "`?tls=none&name=ses&rate=20/s`; those of `[[relays]]` below from `name` on. `tls=none`: a relay "
        "without TLS, then no password is ever sent.",
    )
    smtp_username: str | None = Field(None, repr=False, description="User name, where it does not fit the URL.")
    smtp_password: SecretStr | None = Field(None, description="Password, where it does not fit the URL.")
    config: Path | None = Field(
        None,
        description="A file with several relays, in place of the three above: `postroom.toml`, see `[[relays]]` below. "
        "No file is read without it, and dev mode never reads it.",
    )
    return_path: Annotated[Address | None, FromAddress] = Field(
        None, description="Envelope sender (bounces go there). Else the From address of the mail."
    )
    message_id_domain: str | None = Field(
        None,
        max_length=HOSTNAME_LIMIT,
        pattern=r"^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$",
        description="Domain of Message-IDs. Else the domain of the From address.",
    )
    worker_slots: int = Field(100, ge=1, le=1000, description="Jobs one worker process runs at a time.")
    lease_s: float = Field(
        10,
        ge=1,
        le=300,
        description="Seconds for which a worker holds a job without a sign of life. The jobs of a killed worker run "
        "again after this time; a worker that is blocked for longer ends itself.",
    )
    worker_host: str = Field("127.0.0.1", description="Address of the worker's health port.")
    worker_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of the worker's `/healthz` and `/readyz`; none without it. The second process of "
        "`postroom worker --processes N` takes the next port, and so on.",
    )
    unknown_policy: Annotated[dict[Stream, UnknownPolicy], FromJson] = Field(
        default_factory=dict,
        description="What becomes of a mail whose answer was lost after the final dot, by stream, as JSON, where its "
        'template does not say: `{"normal": "hold"}`. `resend` (the default): once more after a minute; `hold`: status '
        "`unknown`, until a person decides; `accept`: taken for sent.",
    )
    backoff: Annotated[dict[Stream, BackoffSchedule], BeforeValidator(_with_defaults), FromJson] = Field(
        default_factory=dict,
        description="Backoff of a stream, as JSON, in seconds: "
        '`{"normal": {"base_s": 30, "cap_s": 900, "give_up_s": 259200}}`. What is left out keeps its default. '
        "`max_attempts`, which has none, ends a job earlier. A template or a job may have a `backoff` of its own.",
    )

    def backoff_of(self, stream: Stream) -> BackoffSchedule:
        return self.backoff.get(stream, DEFAULT_BACKOFF[stream])

    def policy_of(self, stream: Stream) -> UnknownPolicy:
        return self.unknown_policy.get(stream, UnknownPolicy.RESEND)


def read_sources(environ: Mapping[str, str]) -> dict[str, str]:
    """`POSTROOM_SOURCE_APP=http://app:8080` as {"app": "http://app:8080"}: what templates call `sources.app`."""
    sources = {}
    for variable, value in environ.items():
        if variable.startswith(SOURCE_PREFIX) and value:
            if not value.startswith(("http://", "https://")):
                raise SettingsError(f"{variable} must begin with http:// or https://")
            sources[variable.removeprefix(SOURCE_PREFIX).lower()] = value.rstrip("/")
    return sources


def read_secrets(environ: Mapping[str, str]) -> dict[str, SecretStr]:
    """`POSTROOM_SECRET_APP_TOKEN=...` as {"app_token": ...}: what fetch headers call `secrets.app_token`."""
    return {
        variable.removeprefix(SECRET_PREFIX).lower(): SecretStr(value)
        for variable, value in environ.items()
        if is_templates_secret(variable) and value
    }
