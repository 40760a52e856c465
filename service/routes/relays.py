"""GET /relays, and pausing one. A relay is known here once a worker has told of it."""

from dataclasses import replace
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path

from mailer.errors import InvalidRequest
from mailer.relays import RelayState, paused, resumed
from mailer.store.relays import RelayStore, Transition
from service.dependencies import RelaysDep
from service.openapi import problems
from service.relay_schemas import RelayList, RelayOut, show_relay

router = APIRouter(tags=["relays"])

RelayName = Annotated[str, Path(max_length=200)]


@router.get("/relays", operation_id="listRelays", responses=problems(401, 503))
async def list_relays(relays: RelaysDep) -> RelayList:
    """The relays that workers are set up with: settings, breaker, pace, and what went wrong last."""
    known, now = await relays.overview()
    return RelayList(data=[show_relay(relay, now) for relay in known])


@router.post("/relays/{name}/pause", operation_id="pauseRelay", responses=problems(401, 404, 503))
async def pause_relay(relays: RelaysDep, name: RelayName) -> RelayOut:
    """From within a second on nothing is sent through it. Its mail goes to the next relay, or waits; waiting is no
    attempt. It stays paused until it is resumed."""
    return await _changed(relays, name, paused)


@router.post("/relays/{name}/resume", operation_id="resumeRelay", responses=problems(401, 404, 503))
async def resume_relay(relays: RelaysDep, name: RelayName) -> RelayOut:
    """It is used again, as its breaker lets it."""

    def resume(state: RelayState, _: int) -> RelayState:
        return resumed(state)

    return await _changed(relays, name, resume)


async def _changed(relays: RelayStore, name: str, transition: Transition) -> RelayOut:
    known, now = await relays.overview()
    found = next((relay for relay in known if relay.description.name == name), None)
    if found is None:
        names = ", ".join(relay.description.name for relay in known) or "none: no worker has told of one"
        detail = f"No worker is set up with a relay {name!r}. Known are: {names}."
        raise InvalidRequest("not_found", "There is no such relay", detail, status=HTTPStatus.NOT_FOUND)
    return show_relay(replace(found, state=await relays.change(name, transition)), now)
