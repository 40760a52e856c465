"""What the routes are handed: built in the lifespan, closed in reverse, never at import."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Annotated, TypedDict, cast

import structlog
from fastapi import Depends, FastAPI, Path, Request

from mailer import garbage
from mailer.catalogue import TemplateLibrary
from mailer.errors import InvalidRequest
from mailer.settings import MailerSettings
from mailer.store.connection import connect
from mailer.store.controls import ControlStore
from mailer.store.jobs import JobStore, JobView
from mailer.store.listing import JobList
from mailer.store.mailbox import MailboxStore
from mailer.store.moves import Moves
from mailer.store.relays import RelayStore
from mailer.store.streams import StreamStore
from mailer.store.watch import ServerWatch
from service.dry_run import Rehearsal
from service.intake import Intake
from service.leaving import told_to_leave
from service.pressure import Pressure
from service.settings import Limits

log = structlog.get_logger()


class State(TypedDict):
    """The lifespan's state: Starlette puts it into every request."""

    jobs: JobStore
    listing: JobList
    moves: Moves
    controls: ControlStore
    mailbox: MailboxStore
    relays: RelayStore
    streams: StreamStore
    templates: TemplateLibrary
    intake: Intake
    rehearsal: Rehearsal
    pressure: Pressure
    watch: ServerWatch


class RequestState(State):
    """What a request's state holds: the lifespan's, and what Frame has found out."""

    owner: str
    request_id: str


def state_of(request: Request) -> RequestState:
    """For what is asked most often: FastAPI's way of handing over cost a fifth of such a request."""
    return cast("RequestState", request.scope["state"])


def lifespan(settings: MailerSettings, limits: Limits) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    @asynccontextmanager
    async def run(_: FastAPI) -> AsyncIterator[State]:
        async with connect(settings.queue_server) as redis:
            watch, moves, streams = (
                ServerWatch(redis, settings.durable),
                Moves(redis),
                StreamStore(redis, settings.durable),
            )
            pressure = Pressure(streams, watch, limits)
            jobs, templates = JobStore(redis, settings.durable, settings.retention), _templates_of(settings)
            secret = settings.secret_key.get_secret_value().encode()
            intake = Intake(jobs, templates, settings.from_, secret_key=secret, admit=pressure.admit)
            garbage.settle()
            async with _in_the_background(watch, pressure, moves):
                yield State(
                    jobs=jobs,
                    listing=JobList(redis),
                    moves=moves,
                    controls=ControlStore(redis, settings.retention, settings.durable),
                    mailbox=MailboxStore(redis),
                    relays=RelayStore(redis),
                    streams=streams,
                    templates=templates,
                    intake=intake,
                    rehearsal=Rehearsal(intake),
                    pressure=pressure,
                    watch=watch,
                )
            log.info("api.stopped")

    return run


@asynccontextmanager
async def _in_the_background(watch: ServerWatch, pressure: Pressure, moves: Moves) -> AsyncIterator[None]:
    """Both have looked once before the first request; whoever waits is told when the process ends."""
    await watch.look()
    await pressure.look()
    looking = [asyncio.create_task(watch.run()), asyncio.create_task(pressure.run())]
    for task in looking:
        task.add_done_callback(_look_ended)
    try:
        with told_to_leave(moves.end):
            yield
    finally:
        for task in looking:
            task.cancel()
        await moves.close()


def _templates_of(settings: MailerSettings) -> TemplateLibrary:
    templates = TemplateLibrary(settings.templates_dir, reload=settings.templates_reload)
    catalogue = templates.catalogue(time.monotonic())
    for name, trouble in catalogue.broken.items():
        log.error("template.broken", template=name, detail=trouble)
    log.info("api.started", templates=len(catalogue.templates))
    return templates


def _look_ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        log.critical("watch.defect", exc_info=task.exception())


# Coroutines, though none waits for anything: FastAPI hands plain functions to a thread, at each request.


async def _jobs(request: Request) -> JobStore:
    return cast("JobStore", request.state.jobs)


async def _listing(request: Request) -> JobList:
    return cast("JobList", request.state.listing)


async def _moves(request: Request) -> Moves:
    return cast("Moves", request.state.moves)


async def _controls(request: Request) -> ControlStore:
    return cast("ControlStore", request.state.controls)


async def _mailbox(request: Request) -> MailboxStore:
    return cast("MailboxStore", request.state.mailbox)


async def _relays(request: Request) -> RelayStore:
    return cast("RelayStore", request.state.relays)


async def _streams(request: Request) -> StreamStore:
    return cast("StreamStore", request.state.streams)


async def _templates(request: Request) -> TemplateLibrary:
    return cast("TemplateLibrary", request.state.templates)


async def _rehearsal(request: Request) -> Rehearsal:
    return cast("Rehearsal", request.state.rehearsal)


async def _pressure(request: Request) -> Pressure:
    return cast("Pressure", request.state.pressure)


async def _watch(request: Request) -> ServerWatch:
    return cast("ServerWatch", request.state.watch)


async def _owner(request: Request) -> str:
    return cast("str", request.state.owner)


JobsDep = Annotated[JobStore, Depends(_jobs)]
JobListDep = Annotated[JobList, Depends(_listing)]
MovesDep = Annotated[Moves, Depends(_moves)]
ControlsDep = Annotated[ControlStore, Depends(_controls)]
MailboxDep = Annotated[MailboxStore, Depends(_mailbox)]
RelaysDep = Annotated[RelayStore, Depends(_relays)]
StreamsDep = Annotated[StreamStore, Depends(_streams)]
TemplatesDep = Annotated[TemplateLibrary, Depends(_templates)]
RehearsalDep = Annotated[Rehearsal, Depends(_rehearsal)]
PressureDep = Annotated[Pressure, Depends(_pressure)]
WatchDep = Annotated[ServerWatch, Depends(_watch)]
OwnerDep = Annotated[str, Depends(_owner)]
JobId = Annotated[str, Path(max_length=64)]


async def view_of(jobs: JobStore, job_id: str) -> JobView:
    view = await jobs.view(job_id)
    if view is None:
        raise not_found(job_id)
    return view


def not_found(job_id: str) -> InvalidRequest:
    detail = f"No job has the id {job_id[:64]!r}."
    return InvalidRequest("not_found", "There is no such job", detail, status=HTTPStatus.NOT_FOUND)
