"""What can be said of a relay beside its address, in `POSTROOM_SMTP_URL` or in `[[relays]]`: one parser for both.

docs/settings.md is generated from the class. The trap: an error names the option and its place, never what may be a
secret.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, SecretStr, ValidationError

from mailer.addresses import make_address, shown
from mailer.errors import AddressError, SettingsError
from worker.relays.smtp_url import SmtpUrl, parse_smtp_url

DEFAULT_CONNECTIONS = 30
MOST_CONNECTIONS = 1000
MOST_SENDERS = 500
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}\Z")
_RATE = re.compile(r"([1-9][0-9]{0,8})/([smh])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_NUMBER = re.compile(r"[0-9]{1,9}\Z")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EHLO_NAME = re.compile(rf"(?=.{{1,255}}\Z)(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Za-z.:]+\])\Z")
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def _name(value: object) -> str:
    if not isinstance(value, str) or not NAME.match(value):
        raise ValueError("must be at most 100 letters, digits and . _ : - and begin with a letter or a digit")
    return value


def _ehlo_name(value: object) -> str:
    if not isinstance(value, str) or not _EHLO_NAME.match(value):
        raise ValueError("must be a host name such as app.acme.example, or an address such as [192.0.2.1]")
    return value


def _tls(value: object) -> str:
    if isinstance(value, str) and value in {"required", "none"}:
        return value
    raise ValueError("must be required or none" + (f", not {shown(value)}" if isinstance(value, str) else ""))


def _connections(value: object) -> int:
    text = str(value) if type(value) is int else value  # True is an int as well
    if not isinstance(text, str) or not _NUMBER.match(text) or not 1 <= int(text) <= MOST_CONNECTIONS:
        raise ValueError(f"must be a number from 1 to {MOST_CONNECTIONS}")
    return int(text)


def _rate(value: object) -> float:
    match = _RATE.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be mails per second, minute or hour, such as 20/s, 600/m or 3600/h")
    return int(match[1]) / _SECONDS[match[2]]


def _senders(value: object) -> tuple[str, ...]:
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(item, str) and item.strip() for item in listed) or not listed:
        raise ValueError("must list domains and addresses; leave it out for a relay that takes all")
    if len(listed) > MOST_SENDERS:
        raise ValueError(f"must list at most {MOST_SENDERS} domains and addresses")
    return tuple(dict.fromkeys(_sender(item.strip()) for item in listed))


def _sender(text: str) -> str:
    if "*" in text:
        raise ValueError(f"has {shown(text)}: there are no wildcards; list each domain, it stands for its addresses")
    try:
        email = make_address(text if "@" in text else f"x@{text}", None).email
    except AddressError:
        raise ValueError(
            f"has {shown(text)}, neither a domain such as acme.example nor an address such as billing@acme.example"
        ) from None
    return email if "@" in text else email.rpartition("@")[2]


def _path(value: object) -> Path:
    return Path(plain_text(value))


def plain_text(value: object) -> str:
    """A value as it may stand in a command or name a file. Raises ValueError, which does not repeat it."""
    if not isinstance(value, str) or not value:
        raise ValueError("must be text, and not empty")
    if _CONTROL.search(value):
        raise ValueError("has a control character, or is not valid UTF-8")
    return value


def _secret(value: object) -> SecretStr:
    return SecretStr(plain_text(value))


class RelayOptions(BaseModel):
    """A table of `[[relays]]`. What is in IN_URL may as well stand in the query of the URL."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: Annotated[SecretStr, PlainValidator(_secret)] = Field(
        description='Where it listens: `"smtp://host:587"` (STARTTLS required) or `"smtps://host:465"` (TLS from the '
        "start). As in `POSTROOM_SMTP_URL` it may hold user, password and options; an option is written once, in the "
        "URL or beside it.",
    )
    username: Annotated[str | None, PlainValidator(plain_text)] = Field(
        None, repr=False, description="User name, as it is: nothing is percent-encoded."
    )
    password: Annotated[SecretStr | None, PlainValidator(_secret)] = Field(None, description="Password, as it is.")
    password_file: Annotated[Path | None, PlainValidator(_path)] = Field(
        None, description="File that holds the password; the end of its line does not count."
    )
    name: Annotated[str | None, PlainValidator(_name)] = Field(
        None,
        description="What records, logs and `/relays` call it: letters, digits and `. _ : -`. Else `host:port`. Each "
        "relay has its own.",
    )
    tls: Annotated[Literal["required", "none"], PlainValidator(_tls)] = Field(
        "required", description='`"none"`: a relay without TLS. No host has it by itself, and no password goes with it.'
    )
    ehlo_name: Annotated[str | None, PlainValidator(_ehlo_name)] = Field(
        None,
        description='What EHLO calls this machine: `"app.acme.example"`, or `"[192.0.2.1]"`. Else its host name, which '
        "in a container is a number that some relays do not accept.",
    )
    connections: Annotated[int, PlainValidator(_connections)] = Field(
        DEFAULT_CONNECTIONS,
        description=f"Open connections of one worker process, at most: 1 to {MOST_CONNECTIONS}.",
    )
    rate: Annotated[float | None, PlainValidator(_rate)] = Field(
        None, description='Mails of all workers together, at most: `"20/s"`, `"600/m"`, `"3600/h"`.'
    )
    senders: Annotated[tuple[str, ...], PlainValidator(_senders)] = Field(
        (),
        description='Who may send through it: `["acme.example", "billing@shop.example"]`. A domain stands for all its '
        "addresses, not for its subdomains. In a URL: separated by commas, `@` as `%40`. Without it: everybody.",
    )
    ca_file: Annotated[Path | None, PlainValidator(_path)] = Field(
        None,
        description="PEM certificates to check the relay's against, in place of the system's authorities: those of an "
        "authority, or the relay's own.",
    )
    cert_file: Annotated[Path | None, PlainValidator(_path)] = Field(
        None, description="PEM certificate, with those that lead to its authority, to show to the relay."
    )
    key_file: Annotated[Path | None, PlainValidator(_path)] = Field(
        None, description="Private key of `cert_file`, not encrypted. Else it is in `cert_file`."
    )


IN_URL = frozenset(RelayOptions.model_fields) - {"url", "username", "password", "password_file"}


@dataclass(frozen=True, slots=True)
class WrittenRelay:
    """A relay as it was written, and where: what errors call it as a whole, and each of its values. Paths are relative
    to `folder`."""

    place: str
    places: dict[str, str]
    values: dict[str, object] = field(repr=False)
    folder: Path = Path()


@dataclass(frozen=True, slots=True)
class ReadRelay:
    """The same, understood."""

    url: SmtpUrl
    options: RelayOptions
    places: dict[str, str]


def read_relay(written: WrittenRelay) -> ReadRelay:
    """Raises SettingsError. User and password beside the URL win over those in it."""
    values, places = written.values, written.places
    _require_known(values, RelayOptions.model_fields, written.place)
    if "url" not in values:
        raise SettingsError(f'{written.place} has no url: write url = "smtp://host:587"')
    text = values["url"]
    if not isinstance(text, str):
        raise SettingsError(f'{places["url"]} must be text: "smtp://host:587"')
    url = parse_smtp_url(text, places["url"])
    _require_known(url.options, IN_URL, places["url"])
    if twice := sorted(url.options.keys() & values.keys()):
        raise SettingsError(f"{places[twice[0]]} stands in the URL as well: keep one of them")
    if {"password", "password_file"} <= values.keys():
        raise SettingsError(f"{written.place} has both password and password_file: keep one of them")
    beside = {name: value for name, value in url.credentials.items() if not _replaced(name, values)}
    places = {name: f"{places['url']}: {name}" for name in RelayOptions.model_fields} | places
    try:
        options = RelayOptions.model_validate({**beside, **url.options, **values})
    except ValidationError as error:
        raise SettingsError(_explain(error, places)) from None
    return ReadRelay(url, options, places)


def _replaced(name: str, values: dict[str, object]) -> bool:
    return name in values or (name == "password" and "password_file" in values)


def _require_known(given: Iterable[str], known: Iterable[str], place: str) -> None:
    for name in sorted(set(given) - set(known)):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
        raise SettingsError(f"{place}: there is no option {shown(name)}; {hint}")


def _explain(error: ValidationError, places: dict[str, str]) -> str:
    items = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{places[str(item['loc'][0])]} {item['msg'].removeprefix('Value error, ')}" for item in items)
