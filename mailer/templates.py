"""A template is a folder: found, read, checked and compiled once. What is wrong with it is said at load."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import orjson

from mailer.errors import TemplateError
from mailer.inlining import inline_css
from mailer.manifest import FieldSpec, Manifest, RecipientSpec, parse_manifest
from mailer.sandbox import Engine

FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\Z")
MAX_FILE_BYTES = 1_000_000
_BODY = "{# the body begins here #}"
_CONTENT_BLOCK = re.compile(r"\{%-?\s*block\s+content\s*-?%\}\s*\{%-?\s*endblock(?:\s+content)?\s*-?%\}")


@dataclass(frozen=True, slots=True)
class Part:
    """A compiled piece of a template, and the variables it needs."""

    code: jinja2.Template
    variables: frozenset[str]


@dataclass(frozen=True, slots=True)
class RecipientParts:
    email: Part
    name: Part | None


@dataclass(frozen=True, slots=True)
class Source:
    """One fetch: where from, and what a missing answer means ("fail" or "skip")."""

    url: Part
    headers: Mapping[str, Part]
    on_missing: str


@dataclass(frozen=True, slots=True)
class Template:
    name: str
    version: str
    manifest: Manifest
    fields: Mapping[str, FieldSpec]
    subject: Part
    html: Part | None
    text: Part | None
    preheader: Part
    to: tuple[RecipientParts, ...]
    cc: tuple[RecipientParts, ...]
    bcc: tuple[RecipientParts, ...]
    reply_to: tuple[RecipientParts, ...]
    when: Part | None
    sources: Mapping[str, Source]
    sample: Mapping[str, Any]
    uses_event: bool


def load_template(path: Path, engine: Engine, shared: bytes) -> Template:
    """`shared`: digests of what every template may use, layouts and partials. Raises TemplateError."""
    if not FOLDER_NAME.match(path.name):
        raise TemplateError("a template's name has letters, digits, - and _ only")
    loader = _Loader(path, engine, parse_manifest(read_text(path / "template.toml") or ""))
    return loader.load(hashlib.sha256(shared + b"".join(digests(path))).hexdigest()[:16])


class _Loader:
    """One folder on its way to a Template."""

    def __init__(self, path: Path, engine: Engine, manifest: Manifest) -> None:
        self._path = path
        self._engine = engine
        self._manifest = manifest
        self._content: set[str] = set()
        self._urls: set[str] = set()

    def load(self, version: str) -> Template:
        manifest = self._manifest
        subject, body_html, body_text = (
            read_text(self._path / file) for file in ("subject.txt", "body.html", "body.txt")
        )
        if subject is None or not subject.strip():
            raise TemplateError("subject.txt is missing or empty")
        if body_html is None and body_text is None:
            raise TemplateError("body.html and body.txt are both missing: one of them is needed")
        sources = {name: self._source(name) for name in manifest.fetch}
        template = Template(
            name=self._path.name,
            version=version,
            manifest=manifest,
            fields={},
            subject=self._part(subject.strip(), "subject.txt"),
            html=self._body(body_html, "html"),
            text=self._body(body_text, "txt"),
            preheader=self._part(manifest.preheader, "preheader"),
            to=self._recipients(manifest.to, "to"),
            cc=self._recipients(manifest.cc, "cc"),
            bcc=self._recipients(manifest.bcc, "bcc"),
            reply_to=self._recipients(manifest.reply_to, "reply_to"),
            when=self._part(manifest.when, "when") if manifest.when is not None else None,
            sources=sources,
            sample=self._sample(),
            uses_event="event" in self._content | self._urls,
        )
        return replace(template, fields=self._fields(frozenset(sources)))

    def _fields(self, sources: frozenset[str]) -> dict[str, FieldSpec]:
        """The manifest's fields; where it has no [fields], every variable the template uses is one."""
        used = (self._content - {"event", "mail"} - sources) | (self._urls - {"event", "sources"})
        if self._manifest.fields is None:
            if wrong := sorted(used & {"sources", "secrets"}):
                raise TemplateError(f"{', '.join(wrong)} cannot be used here: it exists in [fetch] only")
            return {name: FieldSpec() for name in sorted(used)}
        if unknown := sorted(used - set(self._manifest.fields)):
            raise TemplateError(
                f"{', '.join(unknown)} is used, but is neither in [fields] nor a source under [fetch] of template.toml"
            )
        return dict(self._manifest.fields)

    def _part(self, source: str, where: str, lines: range | None = None) -> Part:
        name = f"{self._path.name}/{where}"
        variables = self._engine.variables(source, name)
        self._content |= variables
        return Part(self._engine.compile(source, name, lines=lines), variables)

    def _body(self, body: str | None, kind: str) -> Part | None:
        if body is None:
            return None
        body, where = body.strip("\n"), f"body.{kind}"
        self._engine.variables(body, f"{self._path.name}/{where}")  # its syntax errors, before a layout moves its lines
        source = _BODY + body
        if self._manifest.layout is not None:
            source = self._in_layout(source, f"{self._manifest.layout}.{kind}")
        if kind == "html":
            source = inline_css(source)
        before, _, after = source.partition(_BODY)
        first = before.count("\n") + 1
        return self._part(before + after, where, range(first, first + body.count("\n") + 1))

    def _in_layout(self, body: str, file: str) -> str:
        layout = read_text(self._path.parent / "_layouts" / file)
        if layout is None:
            raise TemplateError(f"there is no layout _layouts/{file}")
        before, *after = _CONTENT_BLOCK.split(layout)
        if len(after) != 1:
            raise TemplateError(f"_layouts/{file} must have one {{% block content %}}{{% endblock %}}")
        self._engine.variables(before + after[0], f"_layouts/{file}")
        return before + body + after[0]

    def _recipients(self, specs: tuple[RecipientSpec, ...], where: str) -> tuple[RecipientParts, ...]:
        return tuple(
            RecipientParts(
                email=self._part(spec.email, f"{where}.email"),
                name=self._part(spec.name, f"{where}.name") if spec.name is not None else None,
            )
            for spec in specs
        )

    def _source(self, name: str) -> Source:
        spec = self._manifest.fetch[name]
        where = f"{self._path.name}/fetch.{name}"
        url = Part(self._engine.compile(spec.url, where, url=True), self._engine.variables(spec.url, where))
        headers = {
            header: Part(self._engine.compile(value, where), self._engine.variables(value, where))
            for header, value in spec.headers.items()
        }
        needed = url.variables.union(*(part.variables - {"secrets"} for part in headers.values()))
        if wrong := sorted(needed & ({"secrets", "mail"} | set(self._manifest.fetch))):
            raise TemplateError(f"fetch.{name} cannot use {', '.join(wrong)}: only fields, event, sources and secrets")
        self._urls |= needed
        return Source(url, headers, spec.on_missing)

    def _sample(self) -> dict[str, Any]:
        try:
            sample = orjson.loads(read_text(self._path / "sample.json") or "{}")
        except orjson.JSONDecodeError as error:
            raise TemplateError(f"sample.json is not valid JSON: {error}") from error
        if not isinstance(sample, dict):
            raise TemplateError("sample.json must be an object")
        return sample


def read_text(path: Path) -> str | None:
    """A file's text, None where there is no file."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(raw) > MAX_FILE_BYTES:
        raise TemplateError(f"{path.name} is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        return raw.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        raise TemplateError(f"{path.name} is not UTF-8: {error}") from error


def digests(folder: Path, only: tuple[str, ...] | None = None) -> Iterator[bytes]:
    """Every file below `folder` as name and digest, in a fixed order."""
    roots = [folder / name for name in only] if only else [folder]
    for root in roots:
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            digest = hashlib.sha256(path.read_bytes()).digest()
            yield path.relative_to(folder).as_posix().encode() + b"\0" + digest
