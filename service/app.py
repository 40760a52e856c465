"""The API as an ASGI application, put together from settings."""

from importlib import resources
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from mailer import __version__
from mailer.settings import MailerSettings
from service import openapi, problems
from service.auth import Gate
from service.dependencies import lifespan
from service.middleware import Frame
from service.routes import controls, health, history, jobs, listing, mailbox, relays, streams, submitting, templates
from service.settings import ServiceSettings

log = structlog.get_logger()


def create_app(mailer_settings: MailerSettings, settings: ServiceSettings) -> FastAPI:
    app = FastAPI(
        title="Postroom",
        version=__version__,
        description=openapi.DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan(mailer_settings, settings.limits),
        separate_input_output_schemas=False,
    )
    problems.install(app)
    gate = Gate.of(settings)
    if not gate.is_open and not gate.keys:
        log.warning("auth.no_keys", fix="set POSTROOM_API_KEYS=name:key, or POSTROOM_AUTH=off for development")
    app.add_middleware(Frame, gate=gate, max_body_bytes=settings.max_body_mb * 1_000_000)
    for router in (
        submitting.router,  # the router looks in this order: first what is asked most often
        listing.router,
        jobs.router,
        history.router,
        controls.router,
        streams.router,
        relays.router,
        templates.router,
        mailbox.router,
        health.router,
    ):
        app.include_router(router)
    _install_docs(app)
    return app


def _install_docs(app: FastAPI) -> None:
    """/docs with assets of our own, so that it works without a network; `/` leads there."""
    assets = resources.files("fastapi_offline") / "static"
    app.mount("/static/docs", StaticFiles(directory=str(assets)), name="docs-assets")
    app.mount("/static/pages", StaticFiles(directory=str(resources.files("service") / "pages")), name="pages")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Postroom API",
            swagger_js_url="/static/docs/swagger-ui-bundle.js",
            swagger_css_url="/static/docs/swagger-ui.css",
            swagger_favicon_url="/static/docs/favicon.png",
        )

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/docs")

    generate = app.openapi

    def with_components() -> dict[str, Any]:
        schema = generate()
        components = schema.setdefault("components", {})
        components["schemas"] = {**openapi.component_schemas(), **components.get("schemas", {})}
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"key": []}]
        openapi.complete(schema)
        return schema

    app.openapi = with_components  # type: ignore[method-assign]  # FastAPI's documented way to extend the schema
