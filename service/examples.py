"""The named examples of /docs. Those of POST /jobs are sent by a test, those of answers are validated by one."""

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

_JOB_ID = "b9892a383be24e9eafd8cb5a52726247"
_MAIL_ID = "a4eb0955cd5a49378a23b64cf95fee98"
_ADA = {"email": "ada@example.com", "name": "Ada Lovelace"}
_REPLY = {"code": 451, "enhanced": "4.3.0", "text": "Try again later"}

_ACCEPTED: dict[str, Any] = {
    "id": "0b62c6fc2f0c4a6f9a3c6f2ab8a1f3f0",
    "status": "queued",
    "jobs": [
        {
            "id": _JOB_ID,
            "template": "welcome",
            "status": "queued",
            "recipients": None,
            "links": {"self": f"/jobs/{_JOB_ID}"},
        }
    ],
}

_DEFERRED: dict[str, Any] = {
    "id": _JOB_ID,
    "status": "deferred",
    "reason": None,
    "detail": None,
    "partial": False,
    "assumed": False,
    "unknown_outcomes": 0,
    "template": "welcome",
    "template_version": "58053e3c6f355ed2",
    "event": {"name": "user.signed_up", "id": "evt-1", "source": "/app", "subject": None, "time": None},
    "stream": "normal",
    "created_at": "2026-11-23T12:36:00.871Z",
    "due_at": "2026-11-23T12:36:00.871Z",
    "next_attempt_at": "2026-11-23T12:36:23.120Z",
    "expires_at": None,
    "finished_at": None,
    "recipients": [{**_ADA, "field": "to", "status": "deferred", "reply": _REPLY}],
    "attempt_count": 1,
    "attempts": [
        {
            "number": 1,
            "at": "2026-11-23T12:36:00.955Z",
            "duration_ms": 48,
            "relay": "smtp.acme.example:587",
            "phase": "rcpt",
            "outcome": "deferred",
            **_REPLY,
            "next_attempt_at": "2026-11-23T12:36:23.120Z",
        }
    ],
    "links": {"self": f"/jobs/{_JOB_ID}"},
}

_SUMMARY: dict[str, Any] = {
    "id": _MAIL_ID,
    "number": 1,
    "received_at": "2026-11-23T12:36:01.064Z",
    "size": 15003,
    "subject": "Welcome to Postroom, Ada Lovelace",
    "from": {"email": "hello@postroom.example", "name": "Postroom Demo"},
    "to": [_ADA],
    "envelope": {"mail_from": "hello@postroom.example", "rcpt_tos": ["ada@example.com"]},
    "job_id": _JOB_ID,
    "links": {
        "self": f"/mailbox/messages/{_MAIL_ID}",
        "html": f"/mailbox/messages/{_MAIL_ID}/html",
        "text": f"/mailbox/messages/{_MAIL_ID}/text",
        "raw": f"/mailbox/messages/{_MAIL_ID}/raw",
        "page": f"/mailbox/{_MAIL_ID}",
        "job": f"/jobs/{_JOB_ID}",
    },
}

_MAIL: dict[str, Any] = {
    **_SUMMARY,
    "cc": [],
    "headers": [{"name": "Subject", "value": "Welcome to Postroom, Ada Lovelace"}],
    "text": "Hello Ada Lovelace, it is good to have you here.\n",
    "html": "<p>Hello Ada Lovelace, it is good to have you here.</p>\n",
    "attachments": [],
}

ANSWERS: dict[str, dict[str, Any]] = {
    "submit": {"event": _ACCEPTED},
    "getJob": {"deferred": _DEFERRED},
    "listMail": {"one": {"data": [_SUMMARY], "next": None}},
    "waitForMail": {"arrived": _SUMMARY},
    "getMail": {"welcome": _MAIL},
    "healthz": {"ok": {"status": "ok"}},
    "readyz": {"ready": {"status": "ready", "queue": "ok", "alarms": {}, "templates": 3, "broken_templates": {}}},
}
"""Operation -> name of the example -> the answer."""
