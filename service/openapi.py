"""What /docs shows beyond the handlers' signatures: named examples and the problem types."""

from typing import Any

from service.problems import MEDIA_TYPE
from service.schemas import EventSubmission, JobSubmission, Problem

DESCRIPTION = """
Post a job, or just the event that happened. The answer comes in milliseconds; a worker fetches the data the mail needs,
renders the template and hands the mail to the relay, again and again until it is sent or given up with a reason.
""".strip()

SUBMIT_EXAMPLES: dict[str, Any] = {
    "event": {
        "summary": "An event: templates decide what is sent to whom",
        "value": {"event": "user.signed_up", "data": {"id": 42}},
    },
    "template": {
        "summary": "A template that fetches what it needs",
        "value": {"template": "receipt", "data": {"id": 1042}},
    },
    "template_to": {
        "summary": "A template, with a recipient of your own",
        "value": {
            "template": "reset-password",
            "to": ["Ada Lovelace <ada@example.com>"],
            "data": {"id": 42, "reset_url": "https://app.example.com/reset/3f9a"},
        },
    },
    "inline": {
        "summary": "Inline content, sent as it is",
        "value": {
            "to": [{"email": "ada@example.com", "name": "Ada Lovelace"}],
            "subject": "Your export is ready",
            "text": "Hello Ada,\n\nyour export is ready.\n",
            "html": "<p>Hello Ada,</p><p>your export is ready.</p>",
        },
    },
}

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
            "examples": SUBMIT_EXAMPLES,
        }
    },
}

ACCEPTED_EXAMPLES: dict[str, Any] = {
    "event": {
        "summary": "An event that one template answers",
        "value": {
            "id": "0b62c6fc2f0c4a6f9a3c6f2ab8a1f3f0",
            "status": "queued",
            "jobs": [
                {
                    "id": "7c1f0f3d2f4e4fd0a50c0f6cbbd6ff9e",
                    "template": "welcome",
                    "status": "queued",
                    "recipients": None,
                    "links": {"self": "/jobs/7c1f0f3d2f4e4fd0a50c0f6cbbd6ff9e"},
                }
            ],
        },
    },
}

_PROBLEMS = {
    400: "`malformed_json`, `naive_datetime`, `idempotency_key_invalid`",
    401: "`missing_key`, `invalid_key`",
    403: "`host_not_allowed`, `origin_not_allowed` (only without authentication)",
    404: "`not_found`, `no_mail_yet`",
    413: "`payload_too_large`",
    415: "`unsupported_media_type`",
    422: "`validation_failed`, `template_variable_missing`, `unknown_template`, `unknown_event`, `header_injection`, "
    "`idempotency_key_reused`",
    503: "`queue_unavailable`, `template_broken` (both with Retry-After), `record_too_new`",
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


def component_schemas() -> dict[str, Any]:
    """Schemas that no signature mentions, because bodies are read as raw bytes."""
    schemas: dict[str, Any] = {}
    for model in (JobSubmission, EventSubmission, Problem):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode="validation")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    return schemas
