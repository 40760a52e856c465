"""A relay tried out by the code that sends, up to where it would take a mail: what it said, and where it broke off.

The trap: where something is not as the settings say, the line is looked at once more with less asked of it, to learn
what is there instead. No password is ever said then.
"""

import contextlib
import errno
import itertools
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from aiohappyeyeballs import AddrInfoType
from aiosmtplib.esmtp import parse_esmtp_extensions

from mailer.jobs import Phase
from worker.relays.answers import Answer, Kind, Lost
from worker.relays.opening import OURS_REFUSED, Opening, Resolve
from worker.relays.presented import Certificate, Handshake, believing, unbelieving, witnessed
from worker.relays.relay import Relay, Tls
from worker.relays.timeouts import Timeouts
from worker.relays.transcript import written_down
from worker.relays.wire import Wire

IN_ALL_S = 48.0
LOOK_S = 8.0
"""A second look, at the most."""
FAREWELL_S = 1.0
CONNECTED = "connected to "
"""How worker.relays.opening notes it."""


class Cause(StrEnum):
    """Why, where the answer leaves that open."""

    REFUSED = "refused"
    NO_ROUTE = "no_route"
    NO_ANSWER = "no_answer"
    NOT_TLS = "not_tls"
    OLD_TLS = "old_tls"
    WANTS_CERTIFICATE = "wants_certificate"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    UNKNOWN_AUTHORITY = "unknown_authority"
    WRONG_HOST = "wrong_host"


_SYSTEM_CAUSES = {
    errno.ECONNREFUSED: Cause.REFUSED,
    errno.EHOSTUNREACH: Cause.NO_ROUTE,
    errno.ENETUNREACH: Cause.NO_ROUTE,
    errno.EADDRNOTAVAIL: Cause.NO_ROUTE,
    errno.ETIMEDOUT: Cause.NO_ANSWER,
}
_TLS_CAUSES = {
    "WRONG_VERSION_NUMBER": Cause.NOT_TLS,
    "RECORD_LAYER_FAILURE": Cause.NOT_TLS,
    "UNSUPPORTED_PROTOCOL": Cause.OLD_TLS,
    "TLSV1_ALERT_PROTOCOL_VERSION": Cause.OLD_TLS,
    **dict.fromkeys(OURS_REFUSED, Cause.WANTS_CERTIFICATE),
}
"""By OpenSSL's reasons."""
_CERTIFICATE_CAUSES = {
    9: Cause.NOT_YET_VALID,
    10: Cause.EXPIRED,
    18: Cause.UNKNOWN_AUTHORITY,
    19: Cause.UNKNOWN_AUTHORITY,
    20: Cause.UNKNOWN_AUTHORITY,
    21: Cause.UNKNOWN_AUTHORITY,
    62: Cause.WRONG_HOST,
    64: Cause.WRONG_HOST,
}
"""By the codes of its X509_verify_cert."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is None did not happen. `extensions`: keyword of EHLO's answer, in small letters, and what follows it.
    `speaks`: how the port turned out to be spoken to, where that is not as the settings say. `conversation` and
    `timings` as in mailer.jobs.Attempt."""

    addresses: tuple[str, ...]
    peer: str | None
    banner: str | None
    greeting: str | None
    extensions: Mapping[str, str]
    tls: str | None
    certificate: Certificate | None
    mechanism: str | None
    failure: Answer | None
    cause: Cause | None
    speaks: Tls | None
    timings: Mapping[str, int]
    conversation: tuple[str, ...]

    @property
    def login_methods(self) -> tuple[str, ...]:
        return tuple(self.extensions.get("auth", "").upper().split())


@dataclass(frozen=True, slots=True)
class _Held:
    """A conversation that is over. `handshakes`: those that came about."""

    opening: Opening
    handshakes: list[Handshake]
    lost: Lost | None

    @property
    def extensions(self) -> dict[str, str]:
        ehlo = _answer_to("EHLO ", _since_connected(self.opening)) or ""
        return parse_esmtp_extensions(ehlo)[0] if ehlo.startswith("250") else {}


async def inspect(relay: Relay, resolve: Resolve, timeouts: Timeouts) -> Inspection:
    """Within IN_ALL_S: everything but a mail. One login, as a mail would. Raises SettingsError for certificate files
    that changed meanwhile."""
    began = time.monotonic()
    found: list[AddrInfoType] = []

    async def resolve_once(host: str, port: int) -> Sequence[AddrInfoType]:
        if not found:
            found.extend(await resolve(host, port))
        return tuple(found)

    first = await _hold(relay, relay.tls_context(), timeouts, resolve_once)
    certificate = first.handshakes[-1].certificate if first.handshakes else None
    speaks: Tls | None = None
    if first.lost is not None:
        looks = _Looks(relay, resolve_once, timeouts, began + IN_ALL_S)
        if first.lost.answer.kind is Kind.CERTIFICATE:
            certificate = await looks.certificate()
        elif not first.handshakes:
            speaks = await looks.other_way(first.lost)
    return _written(first, found, began, certificate, speaks)


def _written(
    held: _Held, found: Sequence[AddrInfoType], began: float, certificate: Certificate | None, speaks: Tls | None
) -> Inspection:
    opening, last = held.opening, _since_connected(held.opening)
    ehlo = (_answer_to("EHLO ", last) or "").partition("\n")[0]
    return Inspection(
        addresses=tuple(dict.fromkeys(str(info[4][0]) for info in found)),
        peer=last[0][1].removeprefix(CONNECTED) if last else None,
        banner=_answer_to(CONNECTED, last),
        greeting=ehlo or None,
        extensions=held.extensions,
        tls=held.handshakes[-1].version if held.handshakes else None,
        certificate=certificate,
        mechanism=next(iter(_mechanisms(last)), None),
        failure=None if held.lost is None else held.lost.answer,
        cause=None if held.lost is None else _cause(held.lost),
        speaks=speaks,
        timings=opening.timings,
        conversation=written_down(opening.noted, began),
    )


@dataclass(frozen=True, slots=True)
class _Looks:
    """More of them, `until` then by time.monotonic."""

    relay: Relay
    resolve: Resolve
    timeouts: Timeouts
    until: float

    async def certificate(self) -> Certificate | None:
        """The one that is shown but not believed: first taken as it is, then read as if it were believed. None where it
        is another one the second time."""
        taken = await self._look(self.relay, unbelieving(self.relay))
        shown = taken.handshakes[-1].shown if taken.handshakes else None
        if shown is None:
            return None
        read = await self._look(self.relay, believing(self.relay, shown))
        return read.handshakes[-1].certificate if read.handshakes else None

    async def other_way(self, broken: Lost) -> Tls | None:
        """How it is spoken to, where it was tried in the wrong way. None where the other way fails as well."""
        said_nothing = broken.answer.phase is Phase.BANNER and broken.answer.kind is not Kind.REPLY
        if self.relay.tls == "implicit" and (said_nothing or _cause(broken) is Cause.NOT_TLS):
            plain = await self._look(replace(self.relay, tls="none"), None)
            if plain.extensions:
                return "starttls" if "starttls" in plain.extensions else "none"
        elif self.relay.tls != "implicit" and said_nothing:
            relay = replace(self.relay, tls="implicit")
            encrypted = await self._look(relay, unbelieving(relay))
            return "implicit" if encrypted.handshakes else None
        return None

    async def _look(self, relay: Relay, context: ssl.SSLContext | None) -> _Held:
        left_s = max(0.0, self.until - time.monotonic())
        timeouts = replace(self.timeouts, connect_s=min(LOOK_S, self.timeouts.connect_s, left_s))
        return await _hold(replace(relay, username=None, password=None), context, timeouts, self.resolve)


async def _hold(relay: Relay, context: ssl.SSLContext | None, timeouts: Timeouts, resolve: Resolve) -> _Held:
    opening = Opening(relay, context, timeouts, resolve)
    handshakes = [] if context is None else witnessed(context)
    try:
        wire, _ = await opening.run()
    except Lost as broken:
        return _Held(opening, handshakes, broken)
    wire.noted = opening.noted
    await _take_leave(wire)
    return _Held(opening, handshakes, None)


async def _take_leave(wire: Wire) -> None:
    wire.say(b"QUIT\r\n")
    with contextlib.suppress(Lost):
        await wire.reply(Phase.AUTH, FAREWELL_S)
    wire.abort()


def _since_connected(opening: Opening) -> list[tuple[str, str]]:
    """What was said at the last of the relay's addresses, and by whom; it begins with its address."""
    said: list[tuple[str, str]] = []
    for _, direction, words in opening.noted:
        text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
        if direction == "-" and text.startswith(CONNECTED):
            said = []
        said.append((direction, text))
    return said if said and said[0][1].startswith(CONNECTED) else []


def _answer_to(words: str, said: Sequence[tuple[str, str]]) -> str | None:
    """The last one."""
    answers = [
        answer
        for (_, before), (direction, answer) in itertools.pairwise(said)
        if direction == "<" and before.startswith(words)
    ]
    return answers[-1] if answers else None


def _mechanisms(said: Sequence[tuple[str, str]]) -> list[str]:
    """By which we are logged in."""
    return [name for name in ("PLAIN", "LOGIN") if (_answer_to(f"AUTH {name}", said) or "").startswith("2")]


def _cause(broken: BaseException) -> Cause | None:
    """From the error that the system or OpenSSL raised, which is behind those that follow from it."""
    error: BaseException | None = broken
    while error is not None:
        match error:
            case ssl.SSLCertVerificationError():
                return _CERTIFICATE_CAUSES.get(error.verify_code)
            case ssl.SSLError():
                return _TLS_CAUSES.get(error.reason)
            case OSError() if error.errno in _SYSTEM_CAUSES:
                return _SYSTEM_CAUSES[error.errno]
            case TimeoutError():
                return Cause.NO_ANSWER
        error = error.__cause__
    return None
