"""/healthz is the process, /readyz what it depends on."""

import time
from http import HTTPStatus

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from service.dependencies import TemplatesDep, WatchDep

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: str


class Readiness(BaseModel):
    status: str
    queue: str = Field(description="`ok`, or why nothing can be accepted now.")
    alarms: dict[str, str] = Field(description="What is wrong with the queue server, and what to do about it.")
    templates: int
    broken_templates: dict[str, str]


@router.get("/healthz", operation_id="healthz")
async def healthz() -> Health:
    """The process runs."""
    return Health(status="ok")


@router.get("/readyz", operation_id="readyz", responses={503: {"model": Readiness, "description": "Not ready."}})
async def readyz(response: Response, watch: WatchDep, templates: TemplatesDep) -> Readiness:
    """It can accept: the queue server takes writes. What is wrong beside that is told, and stops nobody's mail."""
    catalogue = templates.catalogue(time.monotonic())
    await watch.fresh_look()
    blocked_by = watch.blocked_by
    if blocked_by is not None:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Readiness(
        status="ready" if blocked_by is None else "not ready",
        queue=blocked_by or "ok",
        alarms={name: alarm.detail for name, alarm in watch.alarms.items()},
        templates=len(catalogue.templates),
        broken_templates=dict(catalogue.broken),
    )
