"""POST /templates/{name}/render."""

import time
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Request

from mailer.errors import InvalidRequest, UnknownTemplate
from service.bodies import read_json, validate
from service.dependencies import RehearsalDep, TemplatesDep
from service.openapi import body_of, problems
from service.schemas import RenderedTemplate
from service.submissions import Rendering

router = APIRouter(tags=["templates"])

TemplateName = Annotated[str, Path(max_length=100)]


@router.post(
    "/templates/{name}/render",
    operation_id="renderTemplate",
    openapi_extra={"requestBody": body_of(Rendering)},
    responses=problems(400, 401, 404, 413, 415, 422, 503),
)
async def render_template(
    request: Request, templates: TemplatesDep, rehearsal: RehearsalDep, name: TemplateName
) -> RenderedTemplate:
    """A template with `data`, and for the rest with its sample: its html is as it is sent, with its CSS inlined.
    Nothing is fetched, recorded or sent."""
    given = validate(Rendering, await read_json(request)).data
    try:
        template = templates.catalogue(time.monotonic()).get(name)
    except UnknownTemplate as error:
        title = "There is no such template"
        raise InvalidRequest("not_found", title, str(error), status=HTTPStatus.NOT_FOUND) from error
    return await rehearsal.of_template(template, given)
