"""From a relay's name to a connection that is ready for mail: addresses, TCP, banner, EHLO, TLS, AUTH, by aiosmtplib.

The trap: its exceptions do not tell a permanent trouble from one that passes, so each step is tried, named and
translated by itself. What a step raises beside Lost is a defect.
"""

import asyncio
import base64
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from aiohappyeyeballs import AddrInfoType, remove_addr_infos, start_connection
from aiosmtplib import (
    SMTP,
    SMTPException,
    SMTPResponseException,
    SMTPServerDisconnected,
    SMTPTimeoutError,
)

from mailer.jobs import Phase
from worker.relays.answers import Answer, Kind, Lost, lost
from worker.relays.relay import Relay
from worker.relays.timeouts import Timeouts
from worker.relays.transaction import Offers
from worker.relays.unsaid import without_secrets
from worker.relays.wire import Wire, as_transport

HAPPY_EYEBALLS_S = 0.25
"""How long the next address waits for the one before (RFC 8305 5)."""
NAME_DOES_NOT_EXIST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
NEXT_ADDRESS = frozenset({Phase.BANNER, Phase.EHLO})
"""Where the trouble may be this one machine's, and another address of the relay another machine."""
TRANSIENT, PERMANENT = 4, 5
"""First digits of replies (RFC 5321 4.2.1)."""
PROMPT, LOGGED_IN = 334, 235
"""RFC 4954."""
OURS_REFUSED = frozenset({
    "TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED", "SSLV3_ALERT_CERTIFICATE_REVOKED", "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
})  # fmt: skip
"""OpenSSL's reasons."""
LONGEST_SIZE = 20
"""Digits of SIZE (RFC 1870 3)."""

Resolve = Callable[[str, int], Awaitable[Sequence[AddrInfoType]]]


async def resolve(host: str, port: int) -> Sequence[AddrInfoType]:
    """All addresses of a host. Raises socket.gaierror."""
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


@dataclass(slots=True)
class Opening:
    """One way to a ready connection; `run` it once. Raises Lost. `noted` and `timings` are there whatever came of it:
    monotonic time, "<", ">" or "-" and what was said; milliseconds by phase."""

    relay: Relay
    tls: ssl.SSLContext | None
    timeouts: Timeouts
    resolve: Resolve = resolve
    noted: list[tuple[float, str, bytes | str]] = field(default_factory=list)
    timings: dict[str, int] = field(default_factory=dict)
    _phase: Phase = Phase.CONNECT

    async def run(self) -> tuple[Wire, Offers]:
        try:
            async with asyncio.timeout(self.timeouts.connect_s):
                addresses = await self._addresses()
                while True:
                    try:
                        return await self._at_one_of(addresses)
                    except Lost as broken:
                        if not addresses or not _may_be_one_machines(broken.answer):
                            raise
        except TimeoutError as error:
            text = f"Not ready for mail within {self.timeouts.connect_s:g} s"
            self._note("-", text)
            raise lost(self._phase, Kind.SILENT, text) from error

    async def _addresses(self) -> list[AddrInfoType]:
        with self._step(Phase.CONNECT):
            try:
                return list(await self.resolve(self.relay.host, self.relay.port))
            except socket.gaierror as error:
                kind = Kind.NO_NAME if error.errno in NAME_DOES_NOT_EXIST else Kind.NAME_SERVER
                text = f"{self.relay.host} cannot be resolved: {error.strerror or error}"
                raise lost(Phase.CONNECT, kind, text) from error
            except UnicodeError as error:
                raise lost(Phase.CONNECT, Kind.NO_NAME, f"{self.relay.host} is no host name") from error

    async def _at_one_of(self, addresses: list[AddrInfoType]) -> tuple[Wire, Offers]:
        """The address that is tried leaves the list."""
        sock = await self._tcp(addresses)
        client = SMTP(
            hostname=self.relay.host,
            sock=sock,
            use_tls=self.relay.tls == "implicit",
            start_tls=False,  # said here, after EHLO, so that its troubles can be told apart
            tls_context=self.tls,
            local_hostname=self.relay.ehlo_name,
        )
        try:
            await self._banner(client)
            await self._ehlo(client)
            if self.relay.tls == "starttls":
                await self._starttls(client)
                await self._ehlo(client)
            await self._authenticate(client)
            return self._taken_over(client)
        except BaseException:
            client.close()  # aiosmtplib holds its connect lock until then
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # not close: it is the transport's, which may wait for a TLS farewell
            raise

    async def _tcp(self, addresses: list[AddrInfoType]) -> socket.socket:
        with self._step(Phase.CONNECT):
            try:
                async with asyncio.timeout(self.timeouts.tcp_s):
                    sock = await start_connection(addresses, happy_eyeballs_delay=HAPPY_EYEBALLS_S)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer = sock.getpeername()
            except TimeoutError as error:
                text = f"{self.relay.host}:{self.relay.port} did not answer within {self.timeouts.tcp_s:g} s"
                raise lost(Phase.CONNECT, Kind.UNREACHABLE, text) from error
            except (OSError, RuntimeError) as error:  # uvloop raises RuntimeError for some
                why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
                text = f"{self.relay.host}:{self.relay.port} cannot be reached: {why}"
                raise lost(Phase.CONNECT, Kind.UNREACHABLE, text) from error
            _strike_out(addresses, peer)
            self._note("-", f"connected to {peer[0]} port {peer[1]}")
            return sock

    async def _banner(self, client: SMTP) -> None:
        """And before it the handshake, where TLS begins at once."""
        with self._step(Phase.BANNER), self._translated(Phase.BANNER):
            self._heard(*await client.connect(timeout=self.timeouts.banner_s))

    async def _ehlo(self, client: SMTP) -> None:
        with self._step(Phase.EHLO), self._translated(Phase.EHLO):
            self._note(">", f"EHLO {client.local_hostname}")
            self._heard(*await client.ehlo(timeout=self.timeouts.ehlo_s))

    async def _starttls(self, client: SMTP) -> None:
        with self._step(Phase.TLS):
            if not client.supports_extension("starttls"):
                raise lost(Phase.TLS, Kind.NO_STARTTLS, "The relay does not offer STARTTLS, which is required.")
            with self._translated(Phase.TLS):
                self._note(">", "STARTTLS")
                self._heard(*await client.starttls(timeout=self.timeouts.tls_s))

    async def _authenticate(self, client: SMTP) -> None:
        """One mechanism, one try: a wrong password costs one failure, not one for each mechanism."""
        username, password = self.relay.username, self.relay.password
        if username is None or password is None:
            return
        offered = client.server_auth_methods
        with self._step(Phase.AUTH), self._translated(Phase.AUTH):
            if "plain" in offered:
                self._note(">", "AUTH PLAIN ***")
                self._heard(*await client.auth_plain(username, password, timeout=self.timeouts.auth_s))
            elif "login" in offered:
                await self._login(client, username, password)
            else:
                others = f"only {', '.join(offered)}" if offered else "no AUTH at all"
                text = f"The relay offers no AUTH PLAIN or LOGIN ({others})."
                raise lost(Phase.AUTH, Kind.NO_AUTH, text)

    async def _login(self, client: SMTP, *secrets: str) -> None:
        """By the relay's prompts. One that takes no user name along with the command would take the password for it,
        and write that to its log."""
        self._note(">", "AUTH LOGIN ***")
        said = await client.execute_command(b"AUTH", b"LOGIN", timeout=self.timeouts.auth_s)
        for secret in secrets:
            if said.code != PROMPT:
                raise SMTPResponseException(said.code, said.message)
            said = await client.execute_command(base64.b64encode(secret.encode()), timeout=self.timeouts.auth_s)
        if said.code != LOGGED_IN:
            raise SMTPResponseException(said.code, said.message)
        self._heard(*said)

    def _taken_over(self, client: SMTP) -> tuple[Wire, Offers]:
        """aiosmtplib's part is over: the connection is ours from here on."""
        if client.transport is None:
            raise lost(Phase.EHLO, Kind.DROPPED, "The relay closed the connection")
        wire, extensions = Wire(), client.esmtp_extensions
        size = extensions.get("size")
        wire.adopt(as_transport(client.transport))
        return wire, Offers(
            pipelining="pipelining" in extensions,
            eightbitmime="8bitmime" in extensions,
            smtputf8="smtputf8" in extensions,
            size=None if size is None else int(size) if size.isdecimal() and len(size) <= LONGEST_SIZE else 0,
        )

    @contextlib.contextmanager
    def _translated(self, phase: Phase) -> Iterator[None]:
        """What aiosmtplib, ssl and the system say, in our words."""
        try:
            yield
        except SMTPResponseException as error:
            is_reply = error.code > 0  # else it is aiosmtplib that speaks, of what it could not read
            said = self._heard(error.code, error.message) if is_reply else self._unsaid(error.message)
            if error.code // 100 not in {TRANSIENT, PERMANENT}:
                raise lost(phase, Kind.OUT_OF_STEP, f"Out of step: {said}") from error
            raise lost(phase, Kind.REPLY, said, error.code) from error
        except SMTPTimeoutError as error:
            raise lost(phase, Kind.SILENT, str(error)) from error
        except (SMTPException, OSError, ValueError) as error:
            causes = list(_causes(error))
            in_tls = next((each for each in causes if isinstance(each, ssl.SSLError)), None)
            if in_tls is not None:  # after the handshake too: only then a relay refuses our certificate
                raise _tls_trouble(in_tls) from error
            cause = error.__cause__ or error
            dropped = isinstance(error, SMTPServerDisconnected | OSError)
            nothing = "The relay closed the connection" if dropped else type(cause).__name__
            text = str(cause) or nothing  # aiosmtplib puts a port before it that it does not know
            raise lost(phase, Kind.DROPPED if dropped else Kind.OUT_OF_STEP, text) from error

    @contextlib.contextmanager
    def _step(self, phase: Phase) -> Iterator[None]:
        began, self._phase = time.monotonic(), phase
        try:
            yield
        except Lost as broken:
            if broken.answer.kind is not Kind.REPLY:
                self._note("-", str(broken))
            raise
        finally:
            self.timings[phase.value] = self.timings.get(phase.value, 0) + round((time.monotonic() - began) * 1000)

    def _heard(self, code: int, text: str) -> str:
        """What was said, without the password."""
        said = self._unsaid(text)
        self._note("<", f"{code} {said}")
        return said

    def _unsaid(self, text: str) -> str:
        return without_secrets(text, self.relay.username, self.relay.password)

    def _note(self, direction: str, text: str) -> None:
        self.noted.append((time.monotonic(), direction, text))


def _may_be_one_machines(answer: Answer) -> bool:
    is_final = answer.kind is Kind.REPLY and (answer.reply.code or 0) // 100 == PERMANENT
    return answer.phase in NEXT_ADDRESS and not is_final


def _strike_out(addresses: list[AddrInfoType], peer: tuple[str, int] | tuple[str, int, int, int]) -> None:
    try:
        remove_addr_infos(addresses, peer)
    except ValueError:  # 0.0.0.0, which is another one than it says: all of them count as tried
        addresses.clear()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _tls_trouble(error: ssl.SSLError) -> Lost:
    if isinstance(error, ssl.SSLCertVerificationError):
        return lost(Phase.TLS, Kind.CERTIFICATE, f"The relay's certificate is not valid: {error.verify_message}")
    if error.reason in OURS_REFUSED:
        return lost(Phase.TLS, Kind.OURS_REFUSED, f"The relay does not accept our certificate, or wants one: {error}")
    return lost(Phase.TLS, Kind.HANDSHAKE, f"TLS did not come about: {error}")
