"""Answers as server-sent events, for whoever accepts them."""

from collections.abc import AsyncIterator

from fastapi.sse import EventSourceResponse
from starlette.requests import Request

EVENT_STREAM = "text/event-stream"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Nobody between us and the reader may keep events, or wait until there are more of them."""


def wants_events(request: Request) -> bool:
    for accepted in request.headers.get("accept", "").split(","):
        media_type, *parameters = (part.strip().lower() for part in accepted.split(";"))
        if media_type == EVENT_STREAM:
            return not any(parameter.replace(" ", "").rstrip("0.") == "q=" for parameter in parameters)
    return False


def events(stream: AsyncIterator[bytes]) -> EventSourceResponse:
    return EventSourceResponse(stream, headers=HEADERS)
