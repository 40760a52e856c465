"""The mailbox's page, rendered here as a whole: the script only swaps in what this module renders anew."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from mailer.reading import ReadAddress
from mailer.store.mailbox import Captured, Summary
from service.mailbox_view import read_mail, source_text
from service.views import rfc3339

MAX_SHOWN_CHARS = 200_000
KILO = 1000
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_HOST = re.compile(r"[A-Za-z0-9.\[\]:-]{1,255}\Z")
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


class View(StrEnum):
    HTML = "html"
    TEXT = "text"
    HEADERS = "headers"
    SOURCE = "source"


@dataclass(frozen=True, slots=True)
class Listing:
    mails: tuple[Summary, ...]
    after: int | None
    """The cursor that this page of the list was asked with; None on the newest."""
    more: bool


@dataclass(frozen=True, slots=True)
class Opened:
    """The mail to read: None where there is none of that id (any more)."""

    id: str
    captured: Captured | None
    view: View | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where the page is asked for: what its example command has to say."""

    host: str
    needs_key: bool


def render(listing: Listing, opened: Opened | None, place: Place, now: int) -> str:
    """`now`: milliseconds since the epoch."""
    mail = read_mail(opened.captured.raw) if opened and opened.captured else None
    view = None
    if opened and mail:
        has = {View.HTML: mail.parts.html is not None, View.TEXT: mail.parts.text is not None}
        asked = opened.view if opened.view and has.get(opened.view, True) else None
        view = asked or next((kind for kind, there in has.items() if there), View.SOURCE)
    return (
        _environment()
        .get_template("mailbox.html")
        .render(
            listing=listing,
            opened=opened,
            summary=opened.captured.summary if opened and opened.captured else None,
            mail=mail,
            view=view,
            views=tuple(View),
            source=source_text(opened.captured.raw[:MAX_SHOWN_CHARS]) if opened and opened.captured else "",
            is_cut=bool(opened and opened.captured and len(opened.captured.raw) > MAX_SHOWN_CHARS),
            host=place.host if _HOST.match(place.host) else "localhost:8000",
            needs_key=place.needs_key,
            now=now,
        )
    )


def ago(then: int, now: int) -> str:
    """A short time for a list: `now`, `5 min`, `3 h`, then the day. Milliseconds; days in UTC."""
    seconds = max(0, now - then) // 1000
    if seconds < _MINUTE_S:
        return "now"
    if seconds < _HOUR_S:
        return f"{seconds // _MINUTE_S} min"
    if seconds < _DAY_S:
        return f"{seconds // _HOUR_S} h"
    day = datetime.fromtimestamp(then / 1000, UTC)
    return f"{day.day} {day:%b}"


def shown_size(size: int | None) -> str:
    if size is None:
        return ""
    if size < KILO:
        return f"{size} B"
    return f"{size / KILO:.0f} kB" if size < 999_500 else f"{size / 1_000_000:.1f} MB"  # noqa: PLR2004 - rounds to 1 MB


def shown_name(address: ReadAddress | None) -> str:
    return (address.name or address.email) if address else ""


def shown_address(address: ReadAddress) -> str:
    if address.name and address.email:
        return f"{address.name} <{address.email}>"
    return address.name or address.email


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("service", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ago": ago,
        "rfc3339": rfc3339,
        "size": shown_size,
        "name": shown_name,
        "address": shown_address,
    }
    return environment
