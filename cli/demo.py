"""A small application for dev mode: what a real one would have, users and orders, at /users/{id} and /orders/{id}.

It knows nothing of Postroom. GET reads; PATCH with a JSON object changes, so that one can see a mail carry the newest
data. Nothing is kept.
"""

import json
import re
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAX_BODY_BYTES = 100_000
FIRST_ORDER = 1000
LAST_ID = 9999
_NAMES = (
    *("Ada Lovelace", "Grace Hopper", "Alan Turing", "Katherine Johnson", "Edsger Dijkstra", "Margaret Hamilton"),
    *("Dennis Ritchie", "Frances Allen", "Ken Thompson", "Barbara Liskov", "Tony Hoare", "Radia Perlman"),
)
_ADA = 42


def user(number: int) -> dict[str, Any] | None:
    if not 1 <= number <= LAST_ID:
        return None
    name = _NAMES[(number - _ADA) % len(_NAMES)]
    return {
        "id": number,
        "name": name,
        "email": f"{name.split()[0].lower()}@example.com",
        "plan": "Team",
        "locale": "en",
        "dashboard_url": "https://app.example.com/start",
    }


def order(number: int) -> dict[str, Any] | None:
    if not FIRST_ORDER <= number <= LAST_ID:
        return None
    customer = user(number - FIRST_ORDER) or user(_ADA) or {}
    return {
        "id": number,
        "number": f"A-{number}",
        "placed_on": "20 November 2026",
        "currency": "EUR",
        "customer": {"name": customer["name"], "email": customer["email"]},
        "items": [
            {"name": "Analytical Engine, desk size", "quantity": 1, "unit_price": "249.00", "total": "249.00"},
            {"name": "Punched cards, box of 500", "quantity": 3, "unit_price": "14.50", "total": "43.50"},
            {"name": "Notes by the translator, hardcover", "quantity": 1, "unit_price": "32.00", "total": "32.00"},
        ],
        "subtotal": "324.50",
        "shipping": "8.90",
        "tax": "70.01",
        "total": "403.41",
        "payment": "Visa ending in 4242",
        "order_url": f"https://app.example.com/orders/A-{number}",
    }


_MAKERS = {"users": user, "orders": order}


class DemoApplication:
    """Serves in a thread of its own from construction until `close`. A busy port is an OSError."""

    def __init__(self, host: str, port: int) -> None:
        changes: dict[str, dict[str, Any]] = {}
        self._server = ThreadingHTTPServer((host, port), _handler(changes))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="demo", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(changes: dict[str, dict[str, Any]]) -> type[BaseHTTPRequestHandler]:
    def find(path: str) -> dict[str, Any] | None:
        match = re.fullmatch(r"/(users|orders)/(\d{1,9})", path)
        found = _MAKERS[match[1]](int(match[2])) if match else None
        return None if found is None else {**found, **changes.get(path, {})}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_GET(self) -> None:
            self._answer(find(self.path))

        def do_PATCH(self) -> None:
            length = self.headers.get("content-length", "")
            change = None
            if length.isdecimal() and int(length) <= MAX_BODY_BYTES:
                try:
                    change = json.loads(self.rfile.read(int(length)))
                except ValueError:
                    change = None
            if isinstance(change, dict) and find(self.path) is not None:
                changes[self.path] = {**changes.get(self.path, {}), **change}
                self._answer(find(self.path))
            else:
                self.close_connection = True
                self._answer(None)

        def _answer(self, found: dict[str, Any] | None) -> None:
            body = json.dumps(found if found is not None else {"error": "not found"}).encode()
            self.send_response(HTTPStatus.OK if found is not None else HTTPStatus.NOT_FOUND)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the standard library
            """Quiet: dev mode's terminal is for Postroom."""

    return Handler
