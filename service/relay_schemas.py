"""What the relays' routes answer: what workers told and share, in the API's words."""

from pydantic import BaseModel, Field

from mailer.relays import RelayState, Trouble, breaker_state
from mailer.store.relays import KnownRelay
from service.views import rfc3339


class BreakerOut(BaseModel):
    """Keeps mail away from a relay that does not work."""

    state: str = Field(description="`closed`: in use; `open`; `half_open`: one mail finds out whether it closes.")
    opened_by: str | None = Field(
        description="`connection`, `refused`, `certificate`, `credentials` or `quota`; null where it is closed."
    )
    opened_at: str | None = Field(description="Since when it is not closed.")
    open_until: str | None
    failures: int = Field(description="Connections that failed one after another, before it opened.")


class TroubleOut(BaseModel):
    """The newest fault that its breaker or its pace went by. Other refusals of a mail are not among them."""

    at: str
    row: str = Field(description="Of the fault matrix (docs/faults.md).")
    phase: str
    code: int | None
    enhanced: str | None
    text: str


class RelayOut(BaseModel):
    """A relay as workers are set up with it, and as it is now. Times are RFC 3339 in UTC."""

    name: str
    order: int = Field(description="0 is asked first.")
    host: str
    port: int
    tls: str = Field(description="`starttls`, `implicit` or `none`.")
    connections: int = Field(description="At most, of each worker process.")
    rate: float | None = Field(description="Mails a second, of all workers together; null without a limit.")
    senders: list[str] = Field(description="Domains and addresses that may send through it; all where empty.")
    breaker: BreakerOut
    paused_at: str | None = Field(description="Nothing is sent through it until it is resumed.")
    pace: float = Field(description="Share of rate and connections in use: less than 1 after it said to go slower.")
    trouble: TroubleOut | None
    seen_at: str = Field(description="When a worker last told that it is set up with this relay.")


class RelayList(BaseModel):
    """In the order in which they are asked."""

    data: list[RelayOut]


def show_relay(relay: KnownRelay, now: int) -> RelayOut:
    """`now` in milliseconds by the queue server's clock."""
    description, state = relay.description, relay.state
    return RelayOut(
        name=description.name,
        order=description.order,
        host=description.host,
        port=description.port,
        tls=description.tls,
        connections=description.connections,
        rate=description.rate,
        senders=list(description.senders),
        breaker=_breaker(state, now),
        paused_at=rfc3339(state.paused_at),
        pace=state.pace,
        trouble=None if state.trouble is None else _trouble(state.trouble),
        seen_at=rfc3339(relay.told_at) or "",
    )


def _breaker(state: RelayState, now: int) -> BreakerOut:
    return BreakerOut(
        state=breaker_state(state, now),
        opened_by=state.opened_by,
        opened_at=rfc3339(state.opened_at),
        open_until=rfc3339(state.open_until),
        failures=state.failures,
    )


def _trouble(trouble: Trouble) -> TroubleOut:
    reply = trouble.reply
    return TroubleOut(
        at=rfc3339(trouble.at) or "",
        row=trouble.row,
        phase=trouble.phase,
        code=reply.code,
        enhanced=reply.enhanced,
        text=reply.text,
    )
