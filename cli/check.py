"""`postroom check`: what is tried, and in which order it is told. All of it at once, and within a minute.

The trap: what is logged on the way would be told a second time.
"""
# ruff: noqa: T201 - a console prints

import asyncio
import logging
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson
import structlog

from cli.check_queue import Shared, check_queue
from cli.check_relay import relay_section, relay_title, try_relay
from cli.check_senders import barred_templates
from cli.check_settings import Loaded, check_settings
from cli.findings import Finding, Section, State, as_object, broken, lines, ok, printable, summary, warning, worst
from cli.masking import queue_url
from cli.resolving import resolve
from mailer import __version__
from mailer.catalogue import load_catalogue
from mailer.errors import TemplateError
from mailer.settings import MailerSettings
from worker.relays.relay import Relay

NOT_TRIED = Section((broken("settings", "Not tried: the settings above have to be right first."),))
WIDEST = 140
PIPED = 1000
"""Columns where nobody looks: a finding is a line then, as grep likes it."""


class Showing(Protocol):
    """How sections are told, each as soon as it is known."""

    def begin(self, title: str) -> None: ...
    def end(self, kind: str, section: Section) -> None: ...
    def finish(self) -> None: ...


class OnTerminal:
    def __init__(self, *, is_terminal: bool) -> None:
        self._width = min(WIDEST, shutil.get_terminal_size().columns) if is_terminal else PIPED
        self._findings: list[Finding] = []

    def begin(self, title: str) -> None:
        _tell(printable(title))

    def end(self, kind: str, section: Section) -> None:  # noqa: ARG002 - as Showing has it
        self._findings += section.findings
        _tell("\n".join([*lines(section.findings, self._width), ""]))

    def finish(self) -> None:
        _tell(summary(self._findings))


class AsJson:
    def __init__(self) -> None:
        self._relays: list[dict[str, Any]] = []
        self._others: dict[str, dict[str, Any]] = {}
        self._states: list[State] = []

    def begin(self, title: str) -> None:
        """Nothing is told before the end."""

    def end(self, kind: str, section: Section) -> None:
        self._states.append(section.state)
        if kind == "relays":
            self._relays.append(as_object(section))
        else:
            self._others[kind] = as_object(section)

    def finish(self) -> None:
        told = {"state": worst(self._states), "version": __version__, **self._others, "relays": self._relays}
        _tell(orjson.dumps(told).decode())


def _tell(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # `| head`: whoever reads has enough; what was found still ends as its exit code
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@dataclass(frozen=True, slots=True)
class _Part:
    kind: str
    title: str
    section: asyncio.Task[Section]


def quiet() -> None:
    """No logs of this process: what they would say, the findings do."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


async def check(environ: Mapping[str, str], shown: Showing, *, defaults: bool = False) -> State:
    """The worst that was found. `defaults`: settings that are not set are shown as well."""
    settings, loaded = check_settings(environ, defaults=defaults)
    states = [settings.state]
    shown.begin("Settings")
    shown.end("settings", settings)
    async with asyncio.TaskGroup() as tasks:
        for part in _parts(tasks, loaded):
            shown.begin(part.title)
            section = await part.section
            shown.end(part.kind, section)
            states.append(section.state)
    shown.finish()
    return worst(states)


def _parts(tasks: asyncio.TaskGroup, loaded: Loaded) -> list[_Part]:
    """All of them under way."""
    mailer = loaded.mailer
    address = "" if mailer is None else queue_url(mailer.redis_url.get_secret_value())
    folder = "" if mailer is None else mailer.templates_dir
    queue = tasks.create_task(_queue(mailer))
    parts = [
        _Part("queue", f"Queue server   {address}", tasks.create_task(_first(queue))),
        _Part("templates", f"Templates   {folder}", tasks.create_task(_templates(mailer, loaded.relays or ()))),
    ]
    for relay in loaded.relays or ():
        section = tasks.create_task(_relay(relay, queue, is_default=not loaded.names_a_relay))
        parts.append(_Part("relays", relay_title(relay), section))
    if loaded.relays is None:
        parts.append(_Part("relays", "Relays", tasks.create_task(_no_relays(loaded.relay_trouble))))
    return parts


async def _queue(mailer: MailerSettings | None) -> tuple[Section, Shared]:
    return (NOT_TRIED, Shared()) if mailer is None else await check_queue(mailer)


async def _first(queue: asyncio.Task[tuple[Section, Shared]]) -> Section:
    return (await queue)[0]


async def _templates(mailer: MailerSettings | None, relays: Sequence[Relay]) -> Section:
    if mailer is None:
        return NOT_TRIED
    try:
        catalogue = load_catalogue(mailer.templates_dir)
    except TemplateError as error:
        return Section((broken("folder", f"It cannot be read: {error}."),))
    well = [ok("usable", ", ".join(catalogue.templates))] if catalogue.templates else []
    ill = [broken(name, trouble) for name, trouble in catalogue.broken.items()]
    ill += barred_templates(catalogue.templates, relays)
    none = [] if well or ill else [warning("usable", "There are none: only mail that brings its own text can be sent.")]
    return Section((*well, *ill, *none))


async def _relay(relay: Relay, queue: asyncio.Task[tuple[Section, Shared]], *, is_default: bool) -> Section:
    seen = await try_relay(relay, resolve)
    section = relay_section(relay, seen, (await queue)[1], time.time())
    if not is_default:
        return section
    fix = "Set POSTROOM_SMTP_URL, or POSTROOM_CONFIG for several relays."
    unset = warning("settings", "No relay is set: the default is tried.", fix)
    return replace(section, findings=(unset, *section.findings))


async def _no_relays(trouble: str | None) -> Section:
    return NOT_TRIED if trouble is None else Section((broken("settings", trouble),))
