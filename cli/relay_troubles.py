"""What is wrong with a relay, in words, and what to do about it: data, and a pure function over it.

The order matters: the first row that fits decides. There is one for each way in which worker.relays.opening can end;
the last is for what nobody has thought of.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cli.findings import day, days, listed, printable
from mailer.jobs import Phase, Reply
from worker.relays.answers import Answer, Kind
from worker.relays.inspection import Cause, Inspection
from worker.relays.relay import Relay, Tls

SUBMISSION_PORT = 587

_ASK = "Ask whoever runs it: its log says why."
_TOOL = "`{tool}` shows more from here."
_LATER = "Try again later; where it lasts, ask whoever runs it."
_CORRECT = "Correct host and port in the relay's URL."
_OTHER_PORT = "Use a port of it that has TLS: {ports}."
_WITHOUT_TLS = " Only where it is on this machine or in a network that you trust: add ?tls=none to its URL."
_CERTIFICATE = "name one in the relay's `cert_file`, and its key in `key_file`."
_RENEW = "Have it renewed by whoever runs the relay."
_IN_CLEAR = "It does not offer STARTTLS, and without TLS nothing is sent."


@dataclass(frozen=True, slots=True)
class Case:
    """A relay, what was seen of it, and how that ended. `now`: seconds since 1970."""

    relay: Relay
    seen: Inspection
    answer: Answer
    now: float


@dataclass(frozen=True, slots=True)
class Row:
    """`codes`: how the relay's reply begins. `what` and `fix` may name what _fields has."""

    what: str
    fix: str
    phase: Phase | None = None
    kind: Kind | None = None
    cause: Cause | None = None
    speaks: Tls | None = None
    codes: str = ""
    where: Callable[[Case], bool] = field(default=lambda _: True)

    def fits(self, case: Case) -> bool:
        return (
            self.phase in {None, case.answer.phase}
            and self.kind in {None, case.answer.kind}
            and self.cause in {None, case.seen.cause}
            and self.speaks in {None, case.seen.speaks}
            and str(case.answer.reply.code or "").startswith(self.codes)
            and self.where(case)
        )


def _has_login(case: Case) -> bool:
    return case.relay.username is not None


def _at(*ports: int) -> Callable[[Case], bool]:
    return lambda case: case.relay.port in ports


_CONNECT, _BANNER, _EHLO, _TLS, _AUTH = Phase.CONNECT, Phase.BANNER, Phase.EHLO, Phase.TLS, Phase.AUTH

ROWS: tuple[Row, ...] = (
    Row("{text}", _CORRECT, kind=Kind.NO_NAME),
    Row("{text}", "Look at this machine's network and its name servers; then try again.", kind=Kind.NAME_SERVER),
    Row(
        "No name server says where {host} is: {text}",
        "Look at this machine's network and its name servers.",
        _CONNECT,
        where=lambda case: not case.seen.addresses,
    ),
    Row(
        "{host} port {port} refuses connections.",
        "Start the relay, or correct host and port: most listen on 587, or on 465 for smtps://.",
        cause=Cause.REFUSED,
    ),
    Row("{text}", "There is no way to that address from here: look at this machine's network.", cause=Cause.NO_ROUTE),
    Row(
        "{text}",
        "Use the relay's port 587: many networks and providers block port 25 for all. Else let this machine connect.",
        _CONNECT,
        cause=Cause.NO_ANSWER,
        where=_at(25),
    ),
    Row("{text}", "Let this machine connect to TCP port {port}: a firewall may be in between.", _CONNECT),
    # What a relay refuses of us at once, as soon as TLS is there
    Row(
        "It wants a certificate of ours: {text}",
        "Name one in the relay's `cert_file`, and its key in `key_file`.",
        cause=Cause.WANTS_CERTIFICATE,
        where=lambda case: case.relay.cert_file is None,
    ),
    Row(
        "It does not take our certificate, {cert_file}: {text}",
        "Have the certificate renewed, or its authority accepted there.",
        cause=Cause.WANTS_CERTIFICATE,
    ),
    # The banner
    Row(
        "It waits for TLS to begin at once, which smtp:// does not do ({text}).",
        "Write smtps:// in place of smtp:// in the relay's URL, with port {port} as it is.",
        speaks="implicit",
    ),
    Row("It takes nobody, or not us, for now: {text}", _LATER, _BANNER, Kind.REPLY, codes="4"),
    Row(
        "It turns us away: {text}", "Have this machine's address let in by whoever runs the relay.", _BANNER, Kind.REPLY
    ),
    Row("What answers there is no SMTP server: {text}", _CORRECT, _BANNER, Kind.OUT_OF_STEP),
    Row(
        "It takes the connection and says nothing: {text}",
        "Try smtps:// in the relay's URL: port 465 is TLS from the start.",
        _BANNER,
        Kind.SILENT,
        where=lambda case: case.relay.port == 465 and case.relay.tls != "implicit",  # noqa: PLR2004 - RFC 8314 7.3
    ),
    Row(
        "It takes the connection and says nothing: {text}",
        f"{_CORRECT} A firewall may hold the line as well.",
        _BANNER,
        Kind.SILENT,
    ),
    Row(
        "It hangs up as soon as TLS is there: {text}",
        f"It may want a certificate of ours: {_CERTIFICATE} {_ASK}",
        kind=Kind.DROPPED,
        where=lambda case: (
            case.seen.tls is not None and case.relay.cert_file is None and case.answer.phase is not _AUTH
        ),
    ),
    Row(
        "It hangs up as soon as TLS is there, and we have shown it {cert_file}: {text}",
        f"It may not take that certificate: have it renewed, or its authority accepted there. {_ASK}",
        kind=Kind.DROPPED,
        where=lambda case: case.seen.tls is not None and case.answer.phase is not _AUTH,
    ),
    Row("It hangs up at once: {text}", f"It may not take this machine's address, or be overloaded. {_ASK}", _BANNER),
    # EHLO
    Row("It takes nobody, or not us, for now: {text}", _LATER, _EHLO, Kind.REPLY, codes="4"),
    Row(
        "It does not like our EHLO {ehlo}: {text}",
        "Give the relay an `ehlo_name`, a host name of this machine with its domain, or have its address let in there.",
        _EHLO,
        Kind.REPLY,
    ),
    Row("The conversation breaks off at EHLO: {text}", _ASK, _EHLO),
    # TLS
    Row(
        "It does not speak TLS from the start, it offers STARTTLS ({text}).",
        "Write smtp:// in place of smtps:// in the relay's URL, with port {port} as it is.",
        speaks="starttls",
    ),
    Row("It speaks no TLS at all ({text}).", _OTHER_PORT, speaks="none", where=_has_login),
    Row(
        "It speaks no TLS at all ({text}).",
        f"{_OTHER_PORT} Only where it is on this machine or in a network that you trust: smtp://{{place}}?tls=none.",
        speaks="none",
    ),
    Row(_IN_CLEAR, _OTHER_PORT, kind=Kind.NO_STARTTLS, where=_has_login),
    Row(_IN_CLEAR, _OTHER_PORT + _WITHOUT_TLS, kind=Kind.NO_STARTTLS),
    Row("It offers STARTTLS and then refuses it: {text}", _ASK, _TLS, Kind.REPLY),
    Row(
        "Its certificate expired on {ends}, {ago} ago.",
        f"{_RENEW} Where that day is still to come: correct this machine's clock.",
        cause=Cause.EXPIRED,
    ),
    Row(
        "Its certificate is valid from {begins} only.",
        f"Correct this machine's clock. {_ASK}",
        cause=Cause.NOT_YET_VALID,
    ),
    Row(
        "Its certificate is for {names}, not for {host}.",
        "Name the relay in its URL as its certificate does, if it is the same. Else have the certificate replaced.",
        cause=Cause.WRONG_HOST,
    ),
    Row(
        "{ca_file} does not vouch for its certificate, which {issuer} has signed.",
        "Put that authority's certificate into the file, or the relay's own.",
        cause=Cause.UNKNOWN_AUTHORITY,
        where=lambda case: case.relay.ca_file is not None,
    ),
    Row(
        "This machine does not know {issuer}, who has signed its certificate.",
        "If that is an authority of your own, name its certificate in the relay's `ca_file`. If it is a public one, "
        "the relay has to send the certificates in between as well.",
        cause=Cause.UNKNOWN_AUTHORITY,
    ),
    Row("{text}", _ASK, kind=Kind.CERTIFICATE),
    Row("It does not speak TLS: {text}", _CORRECT, cause=Cause.NOT_TLS),
    Row("It knows no TLS that is safe: {text}", "Have it speak TLS 1.2: nothing older is used.", cause=Cause.OLD_TLS),
    Row(
        "It breaks TLS off: {text}",
        f"Where it wants a certificate of ours: {_CERTIFICATE} {_ASK} {_TOOL}",
        _TLS,
        where=lambda case: case.answer.kind in {Kind.DROPPED, Kind.HANDSHAKE} and case.relay.cert_file is None,
    ),
    Row("{text}", f"{_ASK} {_TOOL}", _TLS),
    # AUTH
    Row("It cannot check passwords for now: {text}", _LATER, _AUTH, Kind.REPLY, codes="4"),
    Row(
        "It refuses user {user}: {text}",
        "Correct user and password. Many providers have credentials of their own for SMTP, or app passwords, and some "
        "want SMTP AUTH to be switched on first.",
        _AUTH,
        Kind.REPLY,
    ),
    Row(
        "It offers no AUTH that we speak, PLAIN or LOGIN, but {methods}.",
        "Have logging in with a password switched on there, or use another relay.",
        kind=Kind.NO_AUTH,
        where=lambda case: bool(case.seen.login_methods),
    ),
    Row(
        "It offers no AUTH, and user and password are set.",
        "Use its submission port, mostly 587. If it knows this machine by its address, leave user and password out.",
        kind=Kind.NO_AUTH,
    ),
    Row(
        "It hangs up on user {user}: {text}",
        f"Correct user and password: some relays hang up at a wrong one. {_ASK}",
        _AUTH,
        Kind.DROPPED,
    ),
    Row("{text}", _ASK),
)


def words(case: Case) -> tuple[str, str]:
    """What is wrong, and the fix."""
    row = next(row for row in ROWS if row.fits(case))
    fields = _fields(case)
    return row.what.format_map(fields), row.fix.format_map(fields)


def said(reply: Reply) -> str:
    """What the relay said, or what became of it."""
    return printable(" ".join(str(part) for part in (reply.code, reply.enhanced, reply.text) if part))


def user_of(relay: Relay) -> str:
    """Masked where it is the password as well, as some providers have it."""
    return "***" if relay.username is None or relay.username == relay.password else printable(relay.username)


def _fields(case: Case) -> Mapping[str, object]:
    relay, shown = case.relay, case.seen.certificate
    host = f"[{relay.host}]" if ":" in relay.host else relay.host
    submission = "" if relay.port == SUBMISSION_PORT else f"mostly smtp://{host}:{SUBMISSION_PORT}, else "
    return {
        "text": said(case.answer.reply).removesuffix("."),
        "host": relay.host,
        "port": relay.port,
        "user": user_of(relay),
        "methods": listed(case.seen.login_methods),
        "ehlo": relay.ehlo_name,
        "ca_file": relay.ca_file,
        "cert_file": relay.cert_file,
        "place": f"{host}:{relay.port}",
        "ports": f"{submission}smtps://{host}:465",
        "tool": f"openssl s_client -connect {host}:{relay.port}" + " -starttls smtp" * (relay.tls == "starttls"),
        "names": listed(shown.names) if shown else "another host",
        "issuer": printable(shown.issuer) if shown else "the authority",
        "ends": day(shown.expires_at) if shown else "a day before today",
        "ago": days(case.now - shown.expires_at) if shown else "some time",
        "begins": day(shown.begins_at) if shown else "a day after today",
    }
