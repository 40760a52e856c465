"""Names asked for in threads that nobody waits for: a name server that does not answer must not hold up the end."""

import asyncio
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import Future

from aiohappyeyeballs import AddrInfoType


async def resolve(host: str, port: int) -> Sequence[AddrInfoType]:
    """As worker.relays.opening's: all addresses of a host. Raises socket.gaierror, UnicodeError."""
    found: Future[Sequence[AddrInfoType]] = Future()
    found.set_running_or_notify_cancel()  # from here on it cannot be cancelled, so that its thread may always tell

    def ask() -> None:
        try:
            found.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.set_exception(error)

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    return await asyncio.wrap_future(found)
