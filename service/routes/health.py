"""/healthz is the process, /readyz what it depends on."""

import time
from http import HTTPStatus

from fastapi import APIRouter, Response
from pydantic import BaseModel

from mailer.errors import QueueUnavailable
from service.dependencies import JobsDep, TemplatesDep

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: str


class Readiness(BaseModel):
    status: str
    queue: str
    templates: int
    broken_templates: dict[str, str]


@router.get("/healthz", operation_id="healthz")
async def healthz() -> Health:
    """The process runs."""
    return Health(status="ok")


@router.get("/readyz", operation_id="readyz", responses={503: {"model": Readiness, "description": "Not ready."}})
async def readyz(response: Response, jobs: JobsDep, templates: TemplatesDep) -> Readiness:
    """It can accept: the queue server answers. Broken templates are named, and stop nobody else's mail."""
    catalogue = templates.catalogue(time.monotonic())
    try:
        await jobs.ping()
        queue = "ok"
    except QueueUnavailable as error:
        queue = str(error)
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Readiness(
        status="ready" if queue == "ok" else "not ready",
        queue=queue,
        templates=len(catalogue.templates),
        broken_templates=dict(catalogue.broken),
    )
