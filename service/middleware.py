"""What stands around every request: its id, the gate, and the limit on its body, enforced while it is read."""

import re
import secrets
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mailer.errors import InvalidRequest
from service.auth import Gate, challenge
from service.problems import refused

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")


class Frame:
    """ASGI middleware. Puts `request_id` and `owner` into the request's state."""

    def __init__(self, app: ASGIApp, gate: Gate, max_body_bytes: int) -> None:
        self._app = app
        self._gate = gate
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.match(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=request_id)  # the server runs each request in its own context
        try:
            self._check_length(headers)
            scope["state"]["owner"] = self._gate.admit(scope["method"], scope["path"], headers)
        except InvalidRequest as error:
            response = refused(Request(scope), error)
            if error.status == HTTPStatus.UNAUTHORIZED:
                response.headers["WWW-Authenticate"] = challenge(scope["method"], scope["path"])
            await response(scope, receive, send_with_id)
            return
        await self._app(scope, self._limited(receive), send_with_id)

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._max_body_bytes:
            raise self._too_large()

    def _limited(self, receive: Receive) -> Receive:
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_body_bytes:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> InvalidRequest:
        limit = f"{self._max_body_bytes / 1_000_000:g} MB"
        return InvalidRequest(
            "payload_too_large",
            "The request body is too large",
            f"A body may have {limit} at the most (POSTROOM_MAX_BODY_MB).",
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )
