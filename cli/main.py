"""The `postroom` command.

Exit codes: 0 done; 1 refused or failed; 2 wrong usage or settings; 3 not reachable, try again. `check` has only
0 and 1: what it finds broken is its answer.

Each command imports what it needs itself, so that none pays for the others at its start.
"""
# ruff: noqa: PLC0415, T201 - imports inside commands keep `postroom --help` fast; a console prints

import asyncio
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mailer import __version__
from mailer.errors import PostroomError, QueueUnavailable, SettingsError

app = typer.Typer(
    name="postroom",
    help="Post an event, a worker renders and sends the mail. Settings are POSTROOM_* variables (docs/settings.md).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Words = Annotated[list[str] | None, typer.Argument(help="key=value; a value that is JSON is taken as JSON.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]

REFUSED, USAGE, UNREACHABLE = 1, 2, 3

MOST_PROCESSES = 256
SHUTDOWN_S = 3
"""What an open mailbox tab, which always waits for the next mail, may hold up the end of the API."""


class Part(StrEnum):
    ALL = "all"
    SUBJECT = "subject"
    HTML = "html"
    TEXT = "text"


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        print(f"postroom {__version__}")
        raise typer.Exit


@app.command()
def dev() -> None:
    """Start everything here: queue server, API, worker, mailbox, demo application. Mail is captured, none is sent."""
    try:
        from cli.dev import run_dev
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "aiosmtpd":
            raise
        raise SettingsError("Dev mode is not part of this installation: use `make dev` in a checkout") from error

    asyncio.run(run_dev(os.environ))


@app.command()
def serve() -> None:
    """Run the API (also: `uvicorn service.main:app`)."""
    import uvicorn

    from cli.ports import require_free
    from service.settings import ServiceSettings

    settings = ServiceSettings.load(os.environ)
    require_free(settings.host, settings.port, "POSTROOM_PORT")
    uvicorn.run(
        "service.main:app",
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )


@app.command()
def worker(
    processes: Annotated[
        int | None, typer.Option(min=1, max=MOST_PROCESSES, help="Worker processes; one for each core without it.")
    ] = None,
) -> None:
    """Run workers, and new ones for those that die (a single one, watched by nobody: `arq worker.WorkerSettings`)."""
    from cli.supervisor import supervise

    raise typer.Exit(supervise(os.environ, processes))


@app.command(hidden=True)
def worker_process() -> None:
    """One of `postroom worker`'s processes."""
    from worker.main import run

    run()


@app.command()
def check(
    *,
    defaults: Annotated[
        bool, typer.Option("--all", help="Settings that are not set as well, with their defaults.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the settings, try queue server, templates and relays: what is wrong, and its fix. No mail is sent."""
    from cli import check as checking
    from cli.findings import State

    checking.quiet()
    shown = checking.AsJson() if as_json else checking.OnTerminal(is_terminal=sys.stdout.isatty())
    found = asyncio.run(checking.check(os.environ, shown, defaults=defaults))
    raise typer.Exit(REFUSED if found is State.BROKEN else 0)


@app.command()
def emit(event: str, words: Words = None, *, as_json: AsJson = False) -> None:
    """Report an event to the API: `postroom emit user.signed_up id=42`."""
    from cli.client import submit
    from cli.settings import ClientSettings
    from cli.words import parse_words

    answer = submit(ClientSettings.load(os.environ), {"event": event, "data": parse_words(words or [])})
    _show_answer(answer, as_json=as_json)


@app.command()
def send(
    template: str,
    words: Words = None,
    *,
    to: Annotated[
        list[str] | None, typer.Option(help="Recipient, in place of the template's; may be repeated.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Here and at once, without the queue.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a job to the API: `postroom send welcome id=42`."""
    from cli.words import parse_words

    body: dict[str, Any] = {"template": template, "data": parse_words(words or [])}
    if to:
        body["to"] = to
    if now:
        _send_now(body, as_json=as_json)
        return
    from cli.client import submit
    from cli.settings import ClientSettings

    _show_answer(submit(ClientSettings.load(os.environ), body), as_json=as_json)


@app.command()
def render(
    template: Annotated[str | None, typer.Argument(help="A template; without one, all of them are checked.")] = None,
    words: Words = None,
    *,
    part: Annotated[Part, typer.Option(help="What to print.")] = Part.ALL,
) -> None:
    """Show a template as it would be sent, from its sample.json and what is given."""
    from cli.words import parse_words
    from mailer.catalogue import load_catalogue
    from mailer.previewing import preview
    from mailer.settings import MailerSettings

    catalogue = load_catalogue(MailerSettings.load(os.environ).templates_dir)
    if template is None:
        for name, found in catalogue.templates.items():
            print(f"ok      {name}  {found.version}  {' '.join(found.manifest.events)}")
        for name, trouble in catalogue.broken.items():
            print(f"broken  {name}: {trouble}")
        raise typer.Exit(REFUSED if catalogue.broken else 0)
    shown = preview(catalogue.get(template), parse_words(words or []))
    parts = {Part.SUBJECT: shown.content.subject, Part.HTML: shown.content.html, Part.TEXT: shown.content.text}
    if part is not Part.ALL:
        print(parts[part] or "")
        return
    for recipient in shown.recipients:
        print(f"{recipient.field.capitalize()}: {recipient.address.name or ''} <{recipient.address.email}>")
    print(f"Subject: {shown.content.subject}\n")
    print(shown.content.text or shown.content.html)


def _send_now(body: dict[str, Any], *, as_json: bool) -> None:
    import orjson

    from cli.now import send_now
    from mailer.jobs import RecipientStatus
    from mailer.settings import MailerSettings
    from worker.outcomes import HandedOver

    outcome = asyncio.run(send_now(MailerSettings.load(os.environ), body))
    kind = type(outcome).__name__
    if as_json:
        print(orjson.dumps({"outcome": kind, **_fields(outcome)}, default=str).decode())
    elif isinstance(outcome, HandedOver):
        for item in outcome.recipients:
            reply = item.reply
            print(f"{item.status}  {item.address.email}  {reply.code if reply else ''} {reply.text if reply else ''}")
    else:
        print(f"{kind}: {_fields(outcome)}")
    all_sent = isinstance(outcome, HandedOver) and all(
        item.status is RecipientStatus.SENT for item in outcome.recipients
    )
    raise typer.Exit(0 if all_sent else REFUSED)


def _fields(outcome: object) -> dict[str, Any]:
    from dataclasses import asdict, is_dataclass

    return asdict(outcome) if is_dataclass(outcome) and not isinstance(outcome, type) else {}


def _show_answer(answer: dict[str, Any], *, as_json: bool) -> None:
    import orjson

    if as_json:
        print(orjson.dumps(answer).decode())
        return
    for job in answer["jobs"]:
        print(f"{job['status']}  {job['id']}  {job['template'] or ''}")


def main() -> None:
    """Run a command; what is wrong is one line on stderr, and an exit code."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        app()
    except QueueUnavailable as error:
        _die(error, UNREACHABLE)
    except SettingsError as error:
        _die(error, USAGE)
    except PostroomError as error:
        _die(error, REFUSED)


def _die(error: PostroomError, code: int) -> None:
    print(f"postroom: {error}", file=sys.stderr)
    sys.exit(code)
