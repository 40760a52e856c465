"""Every template of a folder: which there are, which are broken, and which answer an event.

A broken folder is named, and stops nobody else's mail.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mailer.errors import TemplateError, TemplateUnavailable, UnknownEvent, UnknownTemplate
from mailer.manifest import parse_manifest
from mailer.sandbox import Engine
from mailer.templates import Template, digests, load_template, read_text

SHARED = ("_layouts", "_partials")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every template of a folder. `broken`: name of a folder -> what is wrong with it."""

    templates: Mapping[str, Template]
    broken: Mapping[str, str]
    broken_events: Mapping[str, str]
    """Events that a broken folder would answer -> its name. Such an event waits for the mend; it is not unknown."""

    def get(self, name: str) -> Template:
        if name in self.templates:
            return self.templates[name]
        if name in self.broken:
            raise TemplateUnavailable(f"The template {name} is broken: {self.broken[name]}")
        near = difflib.get_close_matches(name, self.templates, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UnknownTemplate.at("/template", f"There is no template {name!r}{hint}")

    def answering(self, event: str) -> tuple[Template, ...]:
        """The templates that answer an event, in the order of their names; at least one."""
        if event in self.broken_events:
            raise TemplateUnavailable(f"{self.broken_events[event]} answers {event}, but is broken")
        found = tuple(template for template in self.templates.values() if event in template.manifest.events)
        if not found:
            known = sorted({name for template in self.templates.values() for name in template.manifest.events})
            near = difflib.get_close_matches(event, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UnknownEvent.at("/event", f"No template answers the event {event!r}{hint}")
        return found


def load_catalogue(folder: Path) -> Catalogue:
    """Raises TemplateError only if the folder itself cannot be read."""
    if not folder.is_dir():
        raise TemplateError(f"there is no templates folder at {folder}; set POSTROOM_TEMPLATES_DIR")
    engine = Engine(folder)
    shared = b"".join(digests(folder, SHARED))
    templates: dict[str, Template] = {}
    broken: dict[str, str] = {}
    broken_events: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith(("_", ".")):
            continue
        try:
            templates[path.name] = load_template(path, engine, shared)
        except (TemplateError, OSError, UnicodeDecodeError) as error:
            broken[path.name] = str(error)
            broken_events |= dict.fromkeys(_events_of(path), path.name)
    return Catalogue(templates, broken, broken_events)


def _events_of(path: Path) -> tuple[str, ...]:
    try:
        return parse_manifest(read_text(path / "template.toml") or "").events
    except (TemplateError, OSError, UnicodeDecodeError):
        return ()


class TemplateLibrary:
    """The catalogue in force. With `reload`, a changed folder is read again, at most once a second."""

    def __init__(self, folder: Path, *, reload: bool = False) -> None:
        self._folder = folder
        self._reload = reload
        self._stamp = _stamp(folder)
        self._looked_at = 0.0
        self._catalogue = load_catalogue(folder)

    def catalogue(self, now: float) -> Catalogue:
        """`now`: seconds on a monotonic clock."""
        if self._reload and now - self._looked_at >= 1.0:
            self._looked_at = now
            stamp = _stamp(self._folder)
            if stamp != self._stamp:
                self._stamp, self._catalogue = stamp, load_catalogue(self._folder)
        return self._catalogue


def _stamp(folder: Path) -> tuple[int, int]:
    times = [path.stat().st_mtime_ns for path in folder.rglob("*")] if folder.is_dir() else []
    return len(times), max(times, default=0)
