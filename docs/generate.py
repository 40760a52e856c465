"""`python -m docs.generate [--check]`: docs/settings.md from the settings classes."""

# ruff: noqa: E501 - rows of a Markdown table cannot be folded

import sys
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cli.settings import ClientSettings, DevSettings
from docs import faults_page
from mailer.settings import MailerSettings, Settings
from service.settings import ServiceSettings
from worker.relays.relay_options import RelayOptions
from worker.settings import WorkerProcessSettings

PAGE = Path(__file__).parent / "settings.md"
SECTIONS: tuple[tuple[str, type[Settings]], ...] = (
    ("Every process", MailerSettings),
    ("The API", ServiceSettings),
    ("The worker", WorkerProcessSettings),
    ("`postroom dev`", DevSettings),
    ("`postroom emit` and `postroom send`", ClientSettings),
)
HEAD = """# Settings

<!-- Generated from the settings classes by `make docs`. Edit the descriptions there. -->

Postroom reads `POSTROOM_*` variables of the environment. A variable that nobody reads is warned about at start, with the
nearest name that somebody does. Those marked *secret* may instead be read from a file: `<NAME>_FILE=/run/secrets/...`.
"""
RELAYS = """
## `[[relays]]`

`POSTROOM_CONFIG` names a file in TOML. Each of its tables `[[relays]]` is a relay, the preferred one first; there are at most
20, and the file has at most 1 MB. Paths in it are relative to it. [relays.md](relays.md) shows one.

| key | default | meaning |
|---|---|---|
"""
TAIL = """
## What templates call `sources` and `secrets`

| variable | read by | meaning |
|---|---|---|
| `POSTROOM_SOURCE_<NAME>` | worker | Base URL of an application that templates fetch from: `POSTROOM_SOURCE_APP` is `sources.app`. Its host may be internal; any other host must have public addresses only. |
| `POSTROOM_SECRET_<NAME>` | worker | A credential for fetch headers: `POSTROOM_SECRET_APP_TOKEN` is `secrets.app_token`. `POSTROOM_SECRET_KEY` is none. |

TLS certificates of relays and sources are checked against the system's authorities; OpenSSL's `SSL_CERT_FILE` names
others, and a relay's `ca_file` those of this relay alone.
"""


def page() -> str:
    parts = [HEAD]
    for title, cls in SECTIONS:
        parts.append(f"\n## {title}\n\n| variable | default | meaning |\n|---|---|---|\n")
        for name, field in cls.model_fields.items():
            parts.append(row(cls.variable(name), field, " *Secret.*" if "SecretStr" in str(field.annotation) else ""))
    parts.append(RELAYS)
    parts += [row(name, field) for name, field in RelayOptions.model_fields.items()]
    parts.append(TAIL)
    return "".join(parts)


def row(name: str, field: FieldInfo, note: str = "") -> str:
    default = "" if field.default in (None, (), PydanticUndefined) else field.default
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    shown = f"`{str(default).lower() if isinstance(default, bool) else default}`" if default != "" else ""
    return f"| `{name}` | {shown} | {field.description}{note} |\n"


def main() -> int:
    wanted = {PAGE: page(), PAGE.with_name("faults.md"): faults_page.page()}
    if "--check" not in sys.argv[1:]:
        for path, text in wanted.items():
            path.write_text(text)
        return 0
    stale = [path.name for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if stale:
        sys.stderr.write(f"docs: {', '.join(stale)} is stale: run `make docs`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
