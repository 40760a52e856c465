"""`python -m docs.generate [--check]`: docs/settings.md from the settings classes."""

# ruff: noqa: E501 - rows of a Markdown table cannot be folded

import sys
from pathlib import Path

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from cli.settings import ClientSettings, DevSettings
from mailer.settings import MailerSettings, Settings
from service.settings import ServiceSettings
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
TAIL = """
## What templates call `sources` and `secrets`

| variable | read by | meaning |
|---|---|---|
| `POSTROOM_SOURCE_<NAME>` | worker | Base URL of an application that templates fetch from: `POSTROOM_SOURCE_APP` is `sources.app`. Its host may be internal; any other host must have public addresses only. |
| `POSTROOM_SECRET_<NAME>` | worker | A credential for fetch headers: `POSTROOM_SECRET_APP_TOKEN` is `secrets.app_token`. |

TLS certificates of relays and sources are checked against the system's authorities; OpenSSL's `SSL_CERT_FILE` names
others.
"""


def page() -> str:
    parts = [HEAD]
    for title, cls in SECTIONS:
        parts.append(f"\n## {title}\n\n| variable | default | meaning |\n|---|---|---|\n")
        for name, field in cls.model_fields.items():
            secret = "SecretStr" in str(field.annotation)
            default = "" if field.default in (None, PydanticUndefined) else field.default
            if isinstance(default, SecretStr):
                default = default.get_secret_value()
            shown = f"`{str(default).lower() if isinstance(default, bool) else default}`" if default != "" else ""
            note = " *Secret.*" if secret else ""
            parts.append(f"| `{cls.variable(name)}` | {shown} | {field.description}{note} |\n")
    parts.append(TAIL)
    return "".join(parts)


def main() -> int:
    wanted = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted)
        return 0
    if not PAGE.exists() or PAGE.read_text() != wanted:
        sys.stderr.write("docs/settings.md is stale: run `make docs`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
