"""`postroom check` at the settings: each that is set, its value and where that is from, and what cannot be understood.

Each variable is read by itself, so that a mistake in one hides no other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cli.check_senders import barred_default
from cli.findings import Finding, Section, State, broken, ok, warning
from cli.masking import MASK, http_url, option, shown
from cli.settings import ClientSettings, DevSettings
from mailer.errors import SettingsError
from mailer.settings import SOURCE_PREFIX, MailerSettings, Settings, is_templates_secret, unknown_variables
from service.settings import ServiceSettings
from worker.relays.relay import Relay, relays_from
from worker.relays.relay_file import read_relay_file
from worker.settings import WorkerProcessSettings, read_sources

CLASSES: tuple[type[Settings], ...] = (
    MailerSettings,
    ServiceSettings,
    WorkerProcessSettings,
    DevSettings,
    ClientSettings,
)
ENVIRONMENT = "environment"
Class = TypeVar("Class", bound=Settings)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What can be understood, None elsewhere. `relay_trouble`: why there are no relays, where nothing above says it."""

    mailer: MailerSettings | None
    relays: tuple[Relay, ...] | None
    relay_trouble: str | None
    names_a_relay: bool


def check_settings(environ: Mapping[str, str], *, defaults: bool) -> tuple[Section, Loaded]:
    findings = [finding for cls in CLASSES for finding in _of_class(cls, environ, defaults=defaults)]
    findings += _families(environ)
    mailer, worker = _loaded(MailerSettings, environ), _loaded(WorkerProcessSettings, environ)
    relays: tuple[Relay, ...] | None = None
    trouble: str | None = None
    if worker is not None:
        findings += _of_relay_file(worker)
        try:
            relays = relays_from(worker)
        except SettingsError as error:
            trouble = str(error)
    findings += barred_default(mailer.from_ if mailer else None, relays or ())
    findings += [_unknown(each) for each in unknown_variables(environ)]
    if not findings:
        findings.append(ok("none", "All have their defaults: --all shows them."))
    names_a_relay = worker is None or bool(worker.model_fields_set & {"config", "smtp_url"})
    return Section(tuple(findings)), Loaded(mailer, relays, trouble, names_a_relay)


def _loaded(cls: type[Class], environ: Mapping[str, str]) -> Class | None:
    try:
        return cls.load(environ)
    except SettingsError:
        return None


def _of_class(cls: type[Settings], environ: Mapping[str, str], *, defaults: bool) -> Iterator[Finding]:
    for name, field in cls.model_fields.items():
        variable = cls.variable(name)
        own = {key: environ[key] for key in _read_for(variable, field) if environ.get(key)}
        if not own:
            if defaults:
                yield Finding(State.OK, variable, _default(variable, field), origin="default")
            continue
        origin = ENVIRONMENT if variable in own else f"file {own[f'{variable}_FILE']}"
        try:
            loaded = getattr(cls.load(own), name)
        except SettingsError as error:
            yield replace(broken(variable, str(error).removeprefix(f"{variable}: ")), origin=origin)
        else:
            value = loaded.get_secret_value() if isinstance(loaded, SecretStr) else own[variable]
            yield Finding(State.OK, variable, shown(variable, value), origin=origin)


def _read_for(variable: str, field: FieldInfo) -> tuple[str, ...]:
    return (variable, f"{variable}_FILE") if "SecretStr" in str(field.annotation) else (variable,)


def _default(variable: str, field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, SecretStr):
        value = shown(variable, value.get_secret_value())
    if value in {None, "", PydanticUndefined}:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _families(environ: Mapping[str, str]) -> Iterator[Finding]:
    for variable in sorted(name for name, value in environ.items() if value):
        if is_templates_secret(variable):
            yield Finding(State.OK, variable, MASK, origin=ENVIRONMENT)
        elif variable.startswith(SOURCE_PREFIX):
            try:
                read_sources({variable: environ[variable]})
            except SettingsError as error:
                yield replace(broken(variable, str(error)), origin=ENVIRONMENT)
            else:
                yield Finding(State.OK, variable, http_url(environ[variable]), origin=ENVIRONMENT)


def _unknown(told: str) -> Finding:
    """`told` as mailer.settings words it: the variable, then what is to be said of it."""
    variable, _, words = told.partition(" ")
    said, _, near = words.partition("; ")
    fix = near.replace("did", "Did", 1) or "Remove it, or correct its name."
    return replace(warning(variable, f"It {said}.", fix), origin=ENVIRONMENT)


def _of_relay_file(worker: WorkerProcessSettings) -> Iterator[Finding]:
    """What stands in it; what is wrong with it is told where the relays are tried."""
    if worker.config is None:
        return
    try:
        written = read_relay_file(worker.config, worker.variable("config"))
    except SettingsError:
        return
    for order, relay in enumerate(written):
        value = "  ".join(f"{key}={option(key, each)}" for key, each in relay.values.items())
        yield Finding(State.OK, f"relays[{order}]", value or "nothing", origin=worker.config.name)
