"""What the streams' routes answer, in the API's words."""

from pydantic import BaseModel, Field

from mailer.store.streams import StreamView
from service.views import rfc3339


class StreamOut(BaseModel):
    """A lane with its own priority and backoff."""

    name: str = Field(description="`critical`, `normal` or `bulk`: each goes before the next.")
    paused_at: str | None = Field(description="Since when no job of it is begun; null where it is not paused.")
    ready: int = Field(description="Jobs that are due and wait for a worker.")
    scheduled: int = Field(description="Jobs that are due later, those that are tried again among them.")
    leased: int = Field(description="Jobs that a worker has.")
    quarantined: int = Field(description="Jobs whose worker died twice: they run alone. In none of the other counts.")
    oldest_wait_s: float | None = Field(description="For how long the oldest ready job is due; null where none is.")


class StreamList(BaseModel):
    data: list[StreamOut]


def show_stream(view: StreamView) -> StreamOut:
    return StreamOut(
        name=view.stream,
        paused_at=rfc3339(view.paused_at),
        ready=view.ready,
        scheduled=view.scheduled,
        leased=view.leased,
        quarantined=view.quarantined,
        oldest_wait_s=view.oldest_wait_s,
    )
