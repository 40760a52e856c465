"""What /docs shows beyond the handlers' signatures: named examples and the problem types."""

from typing import Any

from pydantic import BaseModel

from service import cloudevents, example_answers, examples
from service.filters import RetryRequest
from service.parameters import SubmitQuery
from service.problems import MEDIA_TYPE
from service.schemas import Problem
from service.submissions import (
    MOST_IN_BATCH,
    Batch,
    CloudEvent,
    EventSubmission,
    JobSubmission,
    Rendering,
    Rescheduling,
    Resolution,
)

DESCRIPTION = """
Post a job, or just the event that happened. The answer comes in milliseconds; a worker fetches the data the mail needs,
renders the template and hands the mail to the relay, again and again until it is sent or given up with a reason.
""".strip()

SUBMIT_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "oneOf": [
                    {"$ref": "#/components/schemas/JobSubmission"},
                    {"$ref": "#/components/schemas/EventSubmission"},
                ]
            },
            "examples": examples.SUBMIT,
        },
        cloudevents.STRUCTURED: {
            "schema": {"$ref": "#/components/schemas/CloudEvent"},
            "examples": examples.STRUCTURED,
        },
        cloudevents.BATCH: {
            "schema": {
                "type": "array",
                "items": {"$ref": "#/components/schemas/CloudEvent"},
                "maxItems": MOST_IN_BATCH,
            },
            "examples": examples.CLOUDEVENTS,
        },
    },
}

IDEMPOTENCY_KEY, PREFER = "idempotency-key", "prefer"
_HEADERS = {
    IDEMPOTENCY_KEY: "1 to 255 visible characters; kept 24 h.",
    PREFER: "`wait=10`: seconds, 60 at the most.",
    **{
        f"ce-{name}": f"Attribute `{name}` of a CloudEvent in binary mode, percent-encoded."
        for name in CloudEvent.model_fields
        if name not in {"data", "datacontenttype"}
    },
}

READ_RAW = (JobSubmission, EventSubmission, CloudEvent, Batch, Resolution, Rescheduling, RetryRequest, Rendering)
"""No signature mentions them, because bodies are read as raw bytes."""


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """The `requestBody` of an operation that reads one of READ_RAW."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    named = examples.BODIES[model.__name__]
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": named}}}


def parameters_of(model: type[BaseModel]) -> list[dict[str, Any]]:
    """The query parameters of an operation that reads them as they stand in the URL."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": given.pop("description", ""),
            "schema": _of_a_query(given),
        }
        for name, given in schema["properties"].items()
    ]


def _of_a_query(given: dict[str, Any]) -> dict[str, Any]:
    """What can stand in a URL: no null, and no object."""
    kinds = [kind for kind in given.get("anyOf", [given]) if kind.get("type") not in {"null", "object"}]
    only = dict(kinds[0]) if len(kinds) == 1 else {"anyOf": kinds}
    only |= {name: given[name] for name in ("default", "minimum", "maximum") if given.get(name) is not None}
    return only


SUBMIT_PARAMETERS = parameters_of(SubmitQuery) + [
    {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": description}
    for name, description in _HEADERS.items()
]


def or_events(model: type[BaseModel], what: str) -> dict[str, Any]:
    """The answer of an operation that has a stream of events for whoever accepts one."""
    content = {"application/json": {}, "text/event-stream": {"schema": {"type": "string"}}}
    return {"model": model, "description": what, "content": content}


_PROBLEMS = {
    400: "`malformed_json`, `naive_datetime`, `idempotency_key_invalid`, `bad_filter`, `bad_cursor`",
    401: "`missing_key`, `invalid_key`",
    403: "`host_not_allowed`, `origin_not_allowed` (only without authentication)",
    500: "`internal_error`",
    404: "`not_found`, `no_mail_yet`",
    409: "`not_allowed_in_status`, with the status as `job_status`",
    410: "`content_expired`",
    413: "`payload_too_large`",
    415: "`unsupported_media_type`",
    422: "`validation_failed`, `template_variable_missing`, `unknown_template`, `unknown_event`, `header_injection`, "
    "`idempotency_key_reused`, `batch_refused`",
    503: "`queue_unavailable`, `overloaded`, `template_broken` (all with Retry-After), `record_too_new`",
}


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation."""
    return {
        code: {
            "description": _PROBLEMS[code],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for code in codes
    }


def complete(schema: dict[str, Any]) -> None:
    """What holds for every operation: its problems are problem+json, and its answer has a named example."""
    for path in schema["paths"].values():
        for operation in path.values():
            responses: dict[str, Any] = operation["responses"]
            more = problems(403, 500, *([422] if "422" in responses else []))
            responses.update({str(code): response for code, response in more.items()})
            for code in ("200", "202"):
                for name, value in example_answers.ANSWERS.get(f"{operation['operationId']} {code}", {}).items():
                    content = responses[code]["content"]["application/json"]
                    content.setdefault("examples", {})[name] = {"value": value}
    for unused in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(unused, None)


def component_schemas() -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    for model in (*READ_RAW, Problem):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode="validation")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    return schemas
