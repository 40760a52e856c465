"""GET /streams, and pausing one."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path

from mailer.errors import InvalidRequest
from mailer.jobs import Stream
from mailer.store.streams import StreamStore
from service.dependencies import StreamsDep
from service.openapi import problems
from service.stream_schemas import StreamList, StreamOut, show_stream

router = APIRouter(tags=["streams"])

StreamName = Annotated[str, Path(max_length=100)]


@router.get("/streams", operation_id="listStreams", responses=problems(401, 503))
async def list_streams(streams: StreamsDep) -> StreamList:
    """How much waits in each stream, for how long, and what is paused."""
    return StreamList(data=[show_stream(view) for view in await streams.overview()])


@router.post("/streams/{name}/pause", operation_id="pauseStream", responses=problems(401, 404, 503))
async def pause_stream(streams: StreamsDep, name: StreamName) -> StreamOut:
    """From now on no job of it is begun; those that a worker has go on. Jobs are accepted and wait, and that costs them
    no attempt. It stays paused, whatever is restarted, until it is resumed."""
    stream = _known(name)
    await streams.pause(stream)
    return await _shown(streams, stream)


@router.post("/streams/{name}/resume", operation_id="resumeStream", responses=problems(401, 404, 503))
async def resume_stream(streams: StreamsDep, name: StreamName) -> StreamOut:
    """Its jobs are begun again, those that are due longest first. One that expired meanwhile ends so."""
    stream = _known(name)
    await streams.resume(stream)
    return await _shown(streams, stream)


async def _shown(streams: StreamStore, stream: Stream) -> StreamOut:
    return next(show_stream(view) for view in await streams.overview() if view.stream is stream)


def _known(name: str) -> Stream:
    try:
        return Stream(name)
    except ValueError:
        detail = f"There is no stream {name!r}. There are {', '.join(Stream)}."
        raise InvalidRequest("not_found", "There is no such stream", detail, status=HTTPStatus.NOT_FOUND) from None
