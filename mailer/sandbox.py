"""How a template's source is compiled and run: sandboxed, strict about missing variables, bounded in size and time.

The trap: `{% if coupon %}` on a variable that is not there is an error too, so an optional field left out is None.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Never
from urllib.parse import quote

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mailer.errors import PostroomError, RenderingError, TemplateError
from mailer.turns import TURN_S, Steps, at_once

MAX_RENDERED_CHARS = 2_000_000
MAX_RENDER_S = 2.0
MOST_AT_ONCE = 32
"""Pieces of output between two looks at size and time; fewer where so many take longer than TURN_S."""
FALSE_WORDS = frozenset({"", "false", "none", "0", "no"})
_OF_DICT = frozenset(dir(dict))


class BaseUrl(str):
    """A source's base URL: the only value that enters a URL as it is."""

    __slots__ = ()


def _segment(value: object) -> str:
    """A value in a URL, as exactly one path segment or query value (RFC 3986 3.3): it can choose no other path."""
    if isinstance(value, BaseUrl):
        return value
    if isinstance(value, jinja2.Undefined):
        str(value)  # raises the error that names it
    if isinstance(value, bool | float) or not isinstance(value, str | int):
        raise RenderingError(f"a value in a URL must be a string or an integer, not {type(value).__name__}")
    text = str(value)
    if text in {"", ".", ".."}:
        raise RenderingError(f"{text!r} cannot be part of a URL")
    try:
        return quote(text, safe="")
    except UnicodeEncodeError as error:
        raise RenderingError("a value in a URL is not valid Unicode") from error


class _Environment(ImmutableSandboxedEnvironment):
    """Data is JSON, and an object's fields are its items: they are found without the AttributeError that looking for an
    attribute first costs. A name that a Python dict has itself means that, as ever in Jinja."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is dict and attribute in obj and attribute not in _OF_DICT:
            return obj[attribute]
        return super().getattr(obj, attribute)


class Engine:
    """The Jinja environments of one templates folder. Made anew when the folder is read again."""

    def __init__(self, folder: Path) -> None:
        loader = jinja2.FileSystemLoader(folder)
        self._pages = _Environment(
            loader=loader,
            undefined=jinja2.StrictUndefined,
            autoescape=lambda name: bool(name and name.endswith(".html")),
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._urls = _Environment(undefined=jinja2.StrictUndefined, finalize=_segment)

    def compile(self, source: str, name: str, *, url: bool = False, lines: range | None = None) -> jinja2.Template:
        """Compile once, at load. `name` decides on escaping and appears in errors.

        `lines`: where the author's file stands in `source`; errors count its lines, and give none outside of it.
        """
        environment = self._urls if url else self._pages
        with _named(name):
            tree = environment.parse(source, name, name)
            if lines is not None:
                for node in tree.find_all(nodes.Node):
                    node.lineno = node.lineno - lines.start + 1 if node.lineno in lines else 0
            code = environment.compile(tree, name, name)
        return jinja2.Template.from_code(environment, code, dict(environment.globals))

    def variables(self, source: str, name: str) -> frozenset[str]:
        """Every variable that the source, and what it imports or includes, expects from outside."""
        return frozenset(self._variables(source, name, set()))

    def _variables(self, source: str, name: str, seen: set[str]) -> set[str]:
        with _named(name):
            tree = self._pages.parse(source, name, name)
            found = meta.find_undeclared_variables(tree)
        if any(True for _ in tree.find_all(nodes.Extends)):
            raise TemplateError(f"{name}: name the layout in template.toml instead of extending it")
        for other in meta.find_referenced_templates(tree):
            if other is None:
                raise TemplateError(f"{name}: a partial must be named by a constant")
            if other not in seen:
                seen.add(other)
                found |= self._variables(self._source_of(other, name), other, seen)
        return found

    def _source_of(self, other: str, name: str) -> str:
        assert self._pages.loader is not None  # noqa: S101 - set in __init__; tells mypy
        try:
            return self._pages.loader.get_source(self._pages, other)[0]
        except jinja2.TemplateNotFound as error:
            raise TemplateError(f"{name}: there is no {other}") from error
        except UnicodeDecodeError as error:
            raise TemplateError(f"{other} is not UTF-8: {error}") from error


@contextmanager
def _named(name: str) -> Iterator[None]:
    """What is wrong with a source is told with its place. Nested too deeply, Jinja lets Python's own errors through."""
    try:
        yield
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"{error.filename or name}, line {error.lineno}: {error.message}") from error
    except (SyntaxError, RecursionError, ValueError) as error:
        raise TemplateError(f"{name}: {error}") from error


def render_part(template: jinja2.Template, variables: Mapping[str, Any]) -> str:
    """`rendered`, of what is short."""
    return at_once(rendered(template, variables))


def rendered(template: jinja2.Template, variables: Mapping[str, Any], *, max_s: float = MAX_RENDER_S) -> Steps[str]:
    """One compiled template with its variables. Raises RenderingError, which is final. What others do in their turns
    does not count as its time."""
    parts, pieces = template.generate(variables), list[str]()
    size, number, spent_s = 0, 1, 0.0
    looked_at = began = time.monotonic()
    try:
        while some := tuple(islice(parts, number)):
            pieces += some
            size += sum(map(len, some))
            if size > MAX_RENDERED_CHARS:
                raise RenderingError(f"{template.name}: longer than {MAX_RENDERED_CHARS:,} characters")
            before, looked_at = looked_at, time.monotonic()
            number = min(MOST_AT_ONCE, number * 2) if looked_at - before < TURN_S else 1
            if looked_at - began > TURN_S:
                spent_s += looked_at - began
                if spent_s > max_s:
                    raise RenderingError(f"{template.name}: not rendered within {max_s:g} s")
                yield
                looked_at = began = time.monotonic()
    except PostroomError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a template's expression can raise is the template's fault
        _explain(template, error)
    if not spent_s:
        return "".join(pieces)
    yield  # of megabytes, joining is a turn of its own
    text = "".join(pieces)
    yield
    return text


def _explain(template: jinja2.Template, error: Exception) -> Never:
    line = None
    trace = error.__traceback__
    while trace is not None:  # the innermost frame of the template itself; Jinja has put its own lines into the trace
        if trace.tb_frame.f_code.co_filename == template.filename:
            line = trace.tb_lineno
        trace = trace.tb_next
    place = f"{template.name}, line {line}" if line else str(template.name)
    raise RenderingError(f"{place}: {error}" if str(error) else f"{place}: {type(error).__name__}") from error


def is_true(text: str) -> bool:
    """How the rendered `when` of a manifest is read."""
    return text.strip().lower() not in FALSE_WORDS
