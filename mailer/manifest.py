"""template.toml: what a template answers, to whom it writes, what data it needs and what it fetches."""

import re
import tomllib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from mailer.addresses import Address
from mailer.backoff import OwnBackoff
from mailer.durations import Duration
from mailer.errors import TemplateError
from mailer.jobs import Stream, UnknownPolicy
from mailer.settings import FromAddress

RESERVED = frozenset({"sources", "secrets", "event", "mail"})
"""Names that have a meaning of their own in templates, so neither a field nor a source may take them."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
EVENT_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}$"
HEADER_NAME = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"  # a token: RFC 9110 5.1
FieldType = Literal["string", "integer", "number", "boolean", "object", "array", "any"]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FieldSpec(_Table):
    """One variable that the caller gives in `data`."""

    type: FieldType = "any"
    required: bool = True
    default: Any = None
    description: str = ""


class RecipientSpec(_Table):
    """One recipient; each part is rendered alone, so that no value can become two recipients."""

    email: str
    name: str | None = None


class SourceSpec(_Table):
    """Where a template's data is fetched when the mail is about to be sent."""

    url: str
    on_missing: Literal["fail", "skip"] = "fail"
    headers: dict[Annotated[str, Field(pattern=HEADER_NAME)], str] = Field(default_factory=dict)


def _as_list(value: object) -> object:
    return [value] if isinstance(value, dict) else value


Recipients = Annotated[tuple[RecipientSpec, ...], BeforeValidator(_as_list), Field(max_length=50)]


class Manifest(_Table):
    """The whole of template.toml. Every key is optional."""

    description: str = ""
    events: tuple[Annotated[str, Field(pattern=EVENT_NAME)], ...] = ()
    to: Recipients = ()
    cc: Recipients = ()
    bcc: Recipients = ()
    reply_to: Recipients = ()
    sender: Annotated[Address | None, FromAddress] = Field(None, alias="from")
    preheader: str = ""
    layout: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] | None = None
    stream: Stream = Stream.NORMAL
    backoff: OwnBackoff | None = None
    unknown_policy: UnknownPolicy | None = None
    expires_after: Annotated[Duration, Field(gt=0)] | None = None
    when: str | None = None
    delay: Duration = 0
    fields: dict[str, FieldSpec] | None = None
    fetch: dict[str, SourceSpec] = Field(default_factory=dict)

    @field_validator("fields", "fetch")
    @classmethod
    def _names(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for name in value or {}:
            if not NAME.match(name):
                raise ValueError(f"{name!r} cannot be a variable: use letters, digits and _")
            if name in RESERVED:
                raise ValueError(f"{name!r} is reserved ({', '.join(sorted(RESERVED))}): use another name")
        return value


def parse_manifest(text: str) -> Manifest:
    """Raises TemplateError that names each key in the wrong."""
    try:
        manifest = Manifest.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise TemplateError(f"template.toml is not valid TOML: {error}") from error
    except ValidationError as error:
        raise TemplateError("template.toml: " + _explain(error)) from error
    clash = set(manifest.fields or ()) & set(manifest.fetch)
    if clash:
        raise TemplateError(f"template.toml: {', '.join(sorted(clash))} is both a field and a source")
    return manifest


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    )
