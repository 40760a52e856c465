"""The named examples of requests in /docs. Those of POST /jobs are sent by a test."""

from typing import Any

SUBMIT: dict[str, Any] = {
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
    "scheduled": {
        "summary": "Not before nine, and not after noon",
        "value": {
            "template": "receipt",
            "data": {"id": 1042},
            "send_at": "2035-06-01T09:00:00+02:00",
            "expires_at": "2035-06-01T12:00:00+02:00",
        },
    },
    "backoff": {
        "summary": "With waits of its own between the attempts",
        "value": {"template": "receipt", "data": {"id": 1042}, "backoff": ["30s", "2m", "10m"]},
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

_CLOUDEVENT: dict[str, Any] = {
    "specversion": "1.0",
    "type": "user.signed_up",
    "source": "/users",
    "id": "7f1c9a04",
    "time": "2026-11-23T12:36:00Z",
    "data": {"id": 42},
}

STRUCTURED: dict[str, Any] = {
    "cloudevent": {"summary": "An event with its attributes and its data", "value": _CLOUDEVENT},
}

CLOUDEVENTS: dict[str, Any] = {
    "two": {"summary": "Two events", "value": [_CLOUDEVENT, {**_CLOUDEVENT, "id": "7f1c9a05", "data": {"id": 43}}]},
}

BODIES: dict[str, dict[str, Any]] = {
    "Batch": {
        "two": {
            "summary": "Two jobs, each with a key of its own",
            "value": {
                "jobs": [
                    {"template": "receipt", "data": {"id": 1042}, "idempotency_key": "receipt-1042"},
                    {"template": "receipt", "data": {"id": 1043}, "idempotency_key": "receipt-1043"},
                ]
            },
        }
    },
    "Rendering": {
        "sample": {"summary": "With its sample", "value": {}},
        "own": {"summary": "With data of your own", "value": {"data": {"id": 7}}},
    },
    "Resolution": {
        "sent": {"summary": "The recipient has it", "value": {"as": "sent"}},
        "retry": {"summary": "One more copy, at once", "value": {"as": "retry"}},
    },
    "Rescheduling": {
        "later": {"summary": "At another time", "value": {"send_at": "2035-06-01T09:00:00+02:00"}},
        "stream": {"summary": "In another stream", "value": {"stream": "critical"}},
    },
    "RetryRequest": {
        "failed": {"summary": "Every job that has failed", "value": {}},
        "outage": {
            "summary": "What the relay refused during an outage",
            "value": {
                "status": "failed",
                "reason": "refused",
                "template": "receipt",
                "created_after": "2026-11-23T12:00:00Z",
                "created_before": "2026-11-23T13:00:00Z",
            },
        },
    },
}
"""By the model of the body."""
