"""The house rules that a machine can check: sizes, names, reasons, and nothing of the machine it was written on."""

import ast
import io
import re
import subprocess
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import mailer

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40
VAGUE = {"base", "common", "helpers", "manager", "misc", "utils"}
PACKAGES = ("cli", "mailer", "service", "worker")

REASON = {
    "noqa": re.compile(r"#\s*(?:ruff:\s*)?noqa:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*\s+-\s+\S"),
    "type: ignore": re.compile(r"#\s*type:\s*ignore\[[a-z, -]+\]\s+#\s+\S"),
}
REGISTRY = re.compile(
    r"--(?:extra-)?index[-]url[ =]+\S+|--find-links[ =]+\S+|\"resolved\":|_INDEX_URL\s*=|^\s*registry\s*="
    r"|https?://[^\s\"']*(?:/simple/|registry\.|files\.pythonhosted|artifactory|nexus)",
    re.MULTILINE,
)


@cache
def files() -> tuple[Path, ...]:
    """Every file of the project that git knows or would take."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=20).stdout
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


def sources() -> list[Path]:
    return [path for path in files() if path.suffix == ".py"]


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_test(path: Path) -> bool:
    return short(path).startswith("tests/") and path.name.startswith("test_")


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and length of each function: the lines of its body without the docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            if body:
                yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1


def comments(path: Path) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_a_file_fits_on_a_few_screens():
    """Tests are tables, and may be longer."""
    lengths = {short(path): len(path.read_text().splitlines()) for path in sources() if not is_test(path)}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_a_function_fits_on_one_screen():
    long = [
        f"{short(path)}: {name} has {lines} lines"
        for path in sources()
        for name, lines in functions(path)
        if lines > MAX_FUNCTION_LINES
    ]
    assert long == []


def test_a_module_is_named_for_what_it_holds():
    assert [short(path) for path in sources() if path.stem in VAGUE or path.parent.name in VAGUE] == []


def test_a_module_begins_with_what_it_is_for():
    silent = [short(path) for path in sources() if ast.get_docstring(ast.parse(path.read_text())) is None]
    assert silent == []


def test_a_script_on_the_queue_server_opens_with_the_keys_it_touches():
    scripts = [path for path in files() if path.suffix == ".lua"]
    assert scripts
    for script in scripts:
        opening = re.match(r"(?:#![^\n]*\n)?(?:--[^\n]*\n)+", script.read_text())
        assert opening, f"{short(script)} opens with no comment"
        assert "KEYS" in opening[0], f"{short(script)} does not say what its KEYS are"


@pytest.mark.parametrize("marker", REASON)
def test_what_is_silenced_says_why_on_its_line(marker):
    silent = [
        f"{short(path)}:{line}: {comment}"
        for path in sources()
        for line, comment in comments(path)
        if re.search(rf"#\s*(?:ruff:\s*)?{marker}", comment) and not REASON[marker].search(comment)
    ]
    assert silent == []


def test_nothing_of_the_machine_it_was_written_on_is_in_the_project():
    place = f"{ROOT}/"
    found = []
    for path in files():
        text = path.read_bytes().decode("utf-8", "replace")
        if place in text:
            found.append(f"{short(path)} has the path of this checkout")
        if path != Path(__file__) and (registry := REGISTRY.search(text)):
            found.append(f"{short(path)} names a registry: {registry[0].strip()}")
    assert found == []


def test_one_version_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## \[?v?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest, "CHANGELOG.md has no `## <version>`"
    assert {project, mailer.__version__, newest[1]} == {project}


def test_every_package_is_installed():
    """A package left out of the list is missing from a wheel, though not from an editable install."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for name in PACKAGES
        for path in (ROOT / name).glob("**/__init__.py")
    }
    assert set(listed) == found
