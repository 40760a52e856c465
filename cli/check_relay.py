"""`postroom check` at one relay: a line for each step on the way to a connection that is ready for mail.

The trap: the steps before a trouble are told from what was said, for a relay may have been tried at several addresses.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from cli.check_queue import Shared
from cli.findings import Finding, Section, broken, day, days, listed, ok, warning
from cli.relay_troubles import Case, said, user_of, words
from mailer.errors import SettingsError
from mailer.jobs import Phase
from mailer.relays import BreakerState, OpenedBy, RelayState, breaker_state
from worker.relays.answers import Answer, Kind
from worker.relays.inspection import Cause, Inspection, inspect
from worker.relays.opening import Resolve
from worker.relays.relay import Relay
from worker.relays.timeouts import Timeouts

SOON_S = 14 * 86400
"""A certificate that ends within this time is told of."""
SUBMISSION_PORTS = frozenset({465, 587})
SLOW_MS = 1000
MB = 1_000_000
PLACES = {
    Phase.CONNECT: "connection",
    Phase.BANNER: "banner",
    Phase.EHLO: "ehlo",
    Phase.TLS: "tls",
    Phase.AUTH: "login",
}
WHY_OPEN = {
    OpenedBy.CONNECTION: "its connections failed, one after another",
    OpenedBy.REFUSED: "it turned us away, or its name was not found",
    OpenedBy.CERTIFICATE: "its TLS was not as the settings ask for",
    OpenedBy.CREDENTIALS: "it refused user and password",
    OpenedBy.QUOTA: "it said that its quota is used up",
}


async def try_relay(relay: Relay, resolve: Resolve) -> Inspection | SettingsError:
    try:
        return await inspect(relay, resolve, Timeouts())
    except SettingsError as error:
        return error


def relay_title(relay: Relay) -> str:
    scheme = "smtps" if relay.tls == "implicit" else "smtp"
    host = f"[{relay.host}]" if ":" in relay.host else relay.host
    tls = {"starttls": "STARTTLS", "implicit": "TLS from the start", "none": "without TLS"}[relay.tls]
    return f"Relay {relay.name}   {scheme}://{host}:{relay.port}, {tls}"


def relay_section(relay: Relay, seen: Inspection | SettingsError, shared: Shared, now: float) -> Section:
    """`now`: seconds since 1970, by this machine's clock."""
    facts = {"name": relay.name, "host": relay.host, "port": relay.port, "tls": relay.tls}
    known = shared.relays.get(relay.name)
    told = () if known is None else tuple(_told(relay.name, known.state, shared.now))
    if isinstance(seen, SettingsError):
        return Section((broken("tls", str(seen)), *told), facts)
    steps = _steps(relay, seen, now)
    if seen.failure is None:
        return Section((*steps.values(), _offers(seen), *told), {**facts, **_facts(seen)})
    place, order = _place(seen, seen.failure), ("name", *_order(relay))
    well = [finding for name, finding in steps.items() if order.index(name) < order.index(place)]
    ill = broken(place, *words(Case(relay, seen, seen.failure, now)))
    return Section((*well, ill, *told), {**facts, **_facts(seen)})


def _order(relay: Relay) -> tuple[str, ...]:
    if relay.tls == "implicit":
        return ("connection", "tls", "banner", "ehlo", "login")
    return ("connection", "banner", "ehlo", "tls", "login")


def _place(seen: Inspection, failure: Answer) -> str:
    if seen.cause is Cause.WANTS_CERTIFICATE:
        return "tls"  # under TLS 1.3 it is told by whatever comes next
    is_about_name = failure.kind in {Kind.NO_NAME, Kind.NAME_SERVER} or not seen.addresses
    return "name" if failure.phase is Phase.CONNECT and is_about_name else PLACES[failure.phase]


def _steps(relay: Relay, seen: Inspection, now: float) -> Mapping[str, Finding]:
    """Those that went well, by their names, in their order."""
    found: dict[str, Finding | None] = {
        "connection": ok("connection", seen.peer) if seen.peer else None,
        "banner": ok("banner", seen.banner) if seen.banner else None,
        "ehlo": ok("ehlo", seen.greeting) if seen.greeting else None,
        "tls": _tls(relay, seen, now),
        "login": _login(relay, seen),
    }
    steps = {name: _timed(finding, seen) for name in _order(relay) if (finding := found[name]) is not None}
    if seen.addresses and seen.addresses != (relay.host,):
        return {"name": ok("name", listed(seen.addresses)), **steps}
    return steps


def _timed(finding: Finding, seen: Inspection) -> Finding:
    """Says how long it took where that is long: each new connection takes as long."""
    took_ms = next((seen.timings.get(phase, 0) for phase, name in PLACES.items() if name == finding.name), 0)
    return (
        replace(finding, detail=f"{finding.detail} (after {took_ms / 1000:.1f} s)") if took_ms >= SLOW_MS else finding
    )


def _tls(relay: Relay, seen: Inspection, now: float) -> Finding | None:
    if relay.tls == "none":
        return _no_tls(seen) if seen.greeting else None
    shown = seen.certificate
    if seen.tls is None or shown is None:
        return None
    detail = f"{seen.tls.replace('TLSv', 'TLS ')}, certificate for {listed(shown.names)} until {day(shown.expires_at)}"
    if shown.expires_at - now >= SOON_S:
        return ok("tls", detail)
    return warning(
        "tls",
        f"{detail}: it ends in {days(shown.expires_at - now)}.",
        "Have it renewed by whoever runs the relay; once it has ended, nothing more is sent through it.",
    )


def _no_tls(seen: Inspection) -> Finding:
    is_here = (seen.peer or "").startswith(("127.", "::1 "))
    if "starttls" in seen.extensions and not is_here:
        return warning("tls", "None, though the relay offers STARTTLS.", "Take tls=none out of its URL.")
    return ok("tls", "none, as tls=none says: mail travels in clear")


def _login(relay: Relay, seen: Inspection) -> Finding | None:
    if seen.mechanism is not None:
        return ok("login", f"as {user_of(relay)} by AUTH {seen.mechanism}")
    if seen.greeting is None or relay.username is not None:
        return None
    if relay.port in SUBMISSION_PORTS and seen.login_methods:
        return warning(
            "login",
            "No user and password are set, and the relay asks for them: it may refuse all mail.",
            "Set POSTROOM_SMTP_USERNAME and POSTROOM_SMTP_PASSWORD, or `username` and `password` of the relay.",
        )
    return ok("login", "none: no user and password are set")


def _offers(seen: Inspection) -> Finding:
    size = seen.extensions.get("size", "")
    limit = (
        f"mails up to {int(size) / MB:,.1f} MB" if size and size.isdecimal() and int(size) else "no limit of size told"
    )
    names = ("PIPELINING", "8BITMIME", "SMTPUTF8")
    offered = [name for name in names if name.lower() in seen.extensions]
    missing = [name for name in names if name not in offered]
    return ok("offers", ", ".join([limit, *offered]) + (f"; not {', '.join(missing)}" if missing else ""))


def _told(name: str, state: RelayState, now: int) -> Iterator[Finding]:
    """What workers know of it. `now` by the queue server's clock (ms)."""
    if state.paused_at is not None:
        yield warning(
            "workers",
            f"It is paused since {day(state.paused_at / 1000)}: nothing is sent through it.",
            f"When it may be used again: POST /relays/{name}/resume.",
        )
    breaker = breaker_state(state, now)
    if breaker is BreakerState.CLOSED:
        return
    why = WHY_OPEN.get(state.opened_by or OpenedBy.CONNECTION)
    left_s = max(0, (state.open_until or 0) - now) // 1000
    rest = f"for another {left_s} s" if breaker is BreakerState.OPEN else "until the next mail finds that it works"
    last = f" Last: {said(state.trouble.reply)}" if state.trouble is not None else ""
    yield warning(
        "workers",
        f"They leave it alone {rest}, because {why}.{last}",
        "None, once that is mended: they try it again by themselves.",
    )


def _facts(seen: Inspection) -> dict[str, Any]:
    size = seen.extensions.get("size", "")
    return {
        "addresses": list(seen.addresses),
        "tls_version": seen.tls,
        "certificate": None if seen.certificate is None else asdict(seen.certificate),
        "mechanism": seen.mechanism,
        "size": int(size) if size.isdecimal() else None,
        "extensions": sorted(name.upper() for name in seen.extensions),
        "timings": dict(seen.timings),
        "conversation": list(seen.conversation),
    }
