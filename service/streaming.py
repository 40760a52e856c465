"""Answers as server-sent events, for whoever accepts them."""

from starlette.requests import Request

EVENT_STREAM = "text/event-stream"


def wants_events(request: Request) -> bool:
    accepted = request.headers.get("accept", "")
    return any(item.partition(";")[0].strip().lower() == EVENT_STREAM for item in accepted.split(","))
