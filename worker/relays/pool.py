"""Connections to one relay, opened, used again and thrown away.

Last in, first out. A connection that had any trouble is not used again. QUIT is said but not waited for: nothing that
happens after the relay's 250 can change the outcome.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiosmtplib import SMTP, SMTPException, SMTPResponseException

from mailer.jobs import Phase
from worker.relays.relay import Relay
from worker.relays.timeouts import Timeouts
from worker.relays.transaction import Envelope, Journal, Lost, Verdicts, transact

OPENING_AT_ONCE = 2
MAILS_EACH = 100
AGE_S = 300.0
TEMPORARY = 4
"""First digit of a reply that may pass (RFC 5321 4.2.1)."""


@dataclass(slots=True)
class _Connection:
    client: SMTP
    opened_at: float
    used_at: float
    mails: int = 0


class Pool:
    """Hands mail to one relay. `close` when done."""

    def __init__(
        self, relay: Relay, timeouts: Timeouts | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.relay = relay
        self._timeouts = timeouts or Timeouts()
        self._monotonic = monotonic
        self._idle: list[_Connection] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._failure: Lost | None = None
        self._failed_at = 0.0
        self._slots = asyncio.Semaphore(relay.connections)
        self._opening = asyncio.Semaphore(OPENING_AT_ONCE)
        self._tls = ssl.create_default_context() if relay.tls != "none" else None

    async def send(self, envelope: Envelope, journal: Journal) -> Verdicts:
        """Hand over one mail. Raises Lost when there was no connection, or it broke, and what `journal` raises."""
        talking = False
        try:
            async with asyncio.timeout(self._timeouts.before_content_s) as before_content, self._slots:
                connection: _Connection | None = None
                while connection is None:
                    reused = self._take_idle()
                    if reused is not None:
                        talking = True
                        verdicts = await self._try_reused(reused, envelope, journal, before_content)
                        if verdicts is not None:
                            return verdicts
                    talking = False
                    connection = await self._open()
                talking = True
                verdicts = await self._use(connection, envelope, journal, before_content)
                self._keep(connection, verdicts)
                return verdicts
        except TimeoutError as error:
            text = f"The content was not asked for within {self._timeouts.before_content_s:g} s"
            raise Lost(Phase.RCPT if talking else Phase.CONNECT, text) from error

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self._idle:
            self._part(self._idle.pop().client)
        await asyncio.sleep(0)  # lets the transports flush their QUIT

    async def _try_reused(
        self, connection: _Connection, envelope: Envelope, journal: Journal, before_content: asyncio.Timeout
    ) -> Verdicts | None:
        """None where it ended at MAIL and may be the connection's fault: relays drop or turn away (4xx) one that is old
        or was used often. A 5xx there is about the sender, and asking again would not help."""
        try:
            verdicts = await self._use(connection, envelope, journal, before_content)
        except Lost as error:
            if error.phase is Phase.MAIL:
                return None
            raise
        if verdicts.phase is Phase.MAIL and (verdicts.decisive.code or 0) // 100 == TEMPORARY:
            self._part(connection.client)
            return None
        self._keep(connection, verdicts)
        return verdicts

    async def _use(
        self, connection: _Connection, envelope: Envelope, journal: Journal, before_content: asyncio.Timeout
    ) -> Verdicts:
        try:
            return await transact(connection.client, envelope, journal, self._timeouts, before_content)
        except BaseException:  # a cancelled conversation would pair replies with the wrong commands
            connection.client.close()
            raise

    def _keep(self, connection: _Connection, verdicts: Verdicts) -> None:
        """For the next mail, unless it is worn or something was wrong."""
        now = self._monotonic()
        connection.used_at = now
        connection.mails += 1
        worn = connection.mails >= MAILS_EACH or now - connection.opened_at >= AGE_S
        if verdicts.clean and not worn:
            self._idle.append(connection)
            if self._sweeper is None:
                self._sweeper = asyncio.get_running_loop().call_later(self._timeouts.idle_s, self._sweep)
        else:
            self._part(connection.client)

    def _sweep(self) -> None:
        """Close what has been idle for too long: last in, first out never comes to it by itself."""
        now = self._monotonic()
        for connection in [item for item in self._idle if not self._is_fresh(item, now)]:
            self._idle.remove(connection)
            self._part(connection.client)
        self._sweeper = (
            asyncio.get_running_loop().call_later(self._timeouts.idle_s / 2, self._sweep) if self._idle else None
        )

    def _is_fresh(self, connection: _Connection, now: float) -> bool:
        return (
            connection.client.is_connected
            and now - connection.used_at < self._timeouts.idle_s
            and now - connection.opened_at < AGE_S
        )

    def _take_idle(self) -> _Connection | None:
        now = self._monotonic()
        while self._idle:
            connection = self._idle.pop()
            if self._is_fresh(connection, now):
                return connection
            self._part(connection.client)
        return None

    async def _open(self) -> _Connection | None:
        """A new connection. None where one became free meanwhile; a failure is also that of those who waited for it."""
        began_at = self._monotonic()
        async with self._opening:
            if self._idle:
                return None
            if self._failure is not None and self._failed_at >= began_at:
                raise Lost(self._failure.phase, str(self._failure), self._failure.reply.code)
            try:
                return await self._connect()
            except Lost as error:
                self._failure, self._failed_at = error, self._monotonic()
                raise

    async def _connect(self) -> _Connection:
        relay = self.relay
        client = SMTP(
            hostname=relay.host,
            port=relay.port,
            timeout=self._timeouts.reply_s,
            use_tls=relay.tls == "implicit",
            start_tls=relay.tls == "starttls",
            tls_context=self._tls,
            local_hostname=_local_hostname(),
        )
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                await client.connect()
                if client.is_ehlo_or_helo_needed:
                    await client.ehlo()
                await self._authenticate(client)
        except SMTPResponseException as error:
            client.close()
            raise Lost(Phase.CONNECT, error.message, error.code if error.code > 0 else None) from error
        except (SMTPException, OSError, ValueError) as error:
            # ssl.SSLError and TimeoutError are OSErrors; a host that cannot be a name is a ValueError.
            client.close()
            text = str(error) or f"Not connected within {self._timeouts.connect_s:g} s"
            raise Lost(Phase.CONNECT, text) from error
        except BaseException:
            client.close()  # aiosmtplib holds its connect lock until then
            raise
        now = self._monotonic()
        return _Connection(client, opened_at=now, used_at=now)

    async def _authenticate(self, client: SMTP) -> None:
        """One mechanism, one try: a wrong password costs one failure, not one for each mechanism."""
        username, password = self.relay.username, self.relay.password
        if username is None or password is None:
            return
        offered = client.server_auth_methods
        if "plain" in offered:
            await client.auth_plain(username, password)
        elif "login" in offered:
            await client.auth_login(username, password)
        else:
            raise SMTPException(f"the relay offers no AUTH PLAIN or LOGIN (only {', '.join(offered) or 'none'})")

    def _part(self, client: SMTP) -> None:
        protocol = client.protocol
        if protocol is not None and client.is_connected:
            protocol.write(b"QUIT\r\n")
        client.close()


def _local_hostname() -> str:
    """What EHLO says. gethostname asks no name server, as getfqdn would."""
    name = socket.gethostname()
    return name if name.isascii() and " " not in name and name else "localhost"
