"""A client that costs little, in a process of its own: it POSTs bodies on connections that stay, one at a time on each.

`python -m benchmarks.load` reads an Order and the bodies from its standard input, and prints Posted. It knows as much
of HTTP/1.1 as uvicorn's answers need: a Content-Length, no chunks.
"""

import asyncio
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import cast
from urllib.parse import urlsplit

import uvloop

from benchmarks.section import Stopped

ACCEPTED = b"HTTP/1.1 202 "
NONE_REJECTED = b'"rejected":0'
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
SHOWN = 300
PATIENCE_S = 300


@dataclass(frozen=True, slots=True)
class Order:
    host: str
    port: int
    path: str
    callers: int
    batches: bool
    """Each answer has to say that nothing was rejected."""
    sizes: tuple[int, ...]
    """Of the bodies, which follow."""


@dataclass(frozen=True, slots=True)
class Posted:
    """Of requests: milliseconds. `began_s`: by time.perf_counter, which is one clock for all processes of a machine
    (Linux). `client_cpu_s`: of the client's process, while it posted."""

    requests: int
    began_s: float
    elapsed_s: float
    p50_ms: float
    p99_ms: float
    client_cpu_s: float


async def post_all(api_url: str, path: str, bodies: Sequence[bytes], callers: int) -> Posted:
    """All bodies, by so many callers. Raises Stopped with the first answer that was not a 202."""
    url = urlsplit(api_url)
    order = Order(
        host=url.hostname or "",
        port=url.port or 80,
        path=path,
        callers=callers,
        batches=path.endswith("/batch"),
        sizes=tuple(map(len, bodies)),
    )
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.load"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await client.communicate(b"".join([json.dumps(asdict(order)).encode(), b"\n", *bodies]))
    told = json.loads(said or b'{"error": "the client ended without a word"}')
    if "error" in told:
        raise Stopped(told["error"])
    return Posted(**told)


class _Caller(asyncio.Protocol):
    """Takes the next request when the answer to its last is there."""

    def __init__(self, requests: Iterator[bytes], latencies: list[float], *, batches: bool) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._latencies = latencies
        self._batches = batches
        self._received = bytearray()
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._next()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        length = _LENGTH.search(self._received, 0, end) if end >= 0 else None
        if length is None or len(self._received) < end + 4 + int(length[1]):
            return
        self._latencies.append(time.perf_counter() - self._began)
        is_good = self._received.startswith(ACCEPTED) and (not self._batches or NONE_REJECTED in self._received)
        if not is_good:
            self._fail(bytes(self._received).decode(errors="replace"))
            return
        self._received.clear()
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"a connection was closed: {exc}")

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._began = time.perf_counter()
            self._transport.write(request)
        elif not self.done.done():
            self.done.set_result(None)

    def _fail(self, answer: str) -> None:
        if not self.done.done():
            self.done.set_exception(Stopped(f"not accepted: {answer[:SHOWN]}"))


async def _run(order: Order, bodies: Sequence[bytes]) -> Posted:
    loop = asyncio.get_running_loop()
    head = f"POST {order.path} HTTP/1.1\r\nHost: {order.host}\r\nContent-Type: application/json\r\nContent-Length: "
    requests = iter([head.encode() + str(len(body)).encode() + b"\r\n\r\n" + body for body in bodies])
    latencies: list[float] = []
    began, cpu = time.perf_counter(), time.process_time()
    callers = [
        (await loop.create_connection(_caller_of(requests, latencies, order), order.host, order.port))[1]
        for _ in range(order.callers)
    ]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(caller.done for caller in callers))
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    p50, p99 = (round(cuts[at] * 1000, 2) for at in (49, 98))
    return Posted(len(bodies), began, round(elapsed, 3), p50, p99, round(cpu, 3))


def _caller_of(requests: Iterator[bytes], latencies: list[float], order: Order) -> Callable[[], _Caller]:
    return lambda: _Caller(requests, latencies, batches=order.batches)


def _main() -> None:
    order = Order(**json.loads(sys.stdin.buffer.readline()))
    bodies = [sys.stdin.buffer.read(size) for size in order.sizes]
    try:
        told: dict[str, object] = asdict(uvloop.run(_run(order, bodies)))
    except (Stopped, OSError) as error:  # TimeoutError is one
        told = {"error": str(error) or f"not answered within {PATIENCE_S} s"}
    print(json.dumps(told))


if __name__ == "__main__":
    _main()
