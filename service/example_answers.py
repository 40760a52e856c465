"""The named examples of answers in /docs. A test validates each by its model."""

from typing import Any

_JOB_ID = "b9892a383be24e9eafd8cb5a52726247"
_MAIL_ID = "a4eb0955cd5a49378a23b64cf95fee98"
_ADA = {"email": "ada@example.com", "name": "Ada Lovelace"}
_TAKEN = {"code": 250, "enhanced": "2.0.0", "text": "Ok: queued"}
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

_ATTEMPT: dict[str, Any] = {
    "number": 1,
    "at": "2026-11-23T12:36:00.955Z",
    "duration_ms": 48,
    "relay": "smtp.acme.example:587",
    "phase": "rcpt",
    "outcome": "deferred",
    **_REPLY,
    "row": "relay_not_now",
    "queue_id": None,
    "next_attempt_at": "2026-11-23T12:36:23.120Z",
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
    "attempts": [_ATTEMPT],
    "links": {
        "self": f"/jobs/{_JOB_ID}",
        "attempts": f"/jobs/{_JOB_ID}/attempts",
        "history": f"/jobs/{_JOB_ID}/history",
    },
}

_BATCH: dict[str, Any] = {
    "accepted": 1,
    "rejected": 1,
    "results": [
        {"index": 0, "id": _JOB_ID, "status": "queued", "replayed": False, "problem": None},
        {
            "index": 1,
            "id": None,
            "status": None,
            "replayed": False,
            "problem": {
                "code": "unknown_template",
                "title": "There is no such template",
                "detail": "There is none",
                "errors": [
                    {
                        "pointer": "/jobs/1/template",
                        "code": "unknown_template",
                        "detail": "There is none",
                    }
                ],
            },
        },
    ],
}

_CLOUDEVENTS: dict[str, Any] = {
    "accepted": 1,
    "rejected": 1,
    "results": [
        {"index": 0, "id": "7f1c9a04", "status": "queued", "replayed": True, "problem": None},
        {
            "index": 1,
            "id": None,
            "status": None,
            "replayed": False,
            "problem": {
                "code": "validation_failed",
                "title": "The submission is not valid",
                "detail": "/source: is missing",
                "errors": [{"pointer": "/1/source", "code": "validation_failed", "detail": "is missing"}],
            },
        },
    ],
}

_CANCELLED: dict[str, Any] = {
    **_DEFERRED,
    "status": "cancelled",
    "next_attempt_at": None,
    "finished_at": "2026-11-23T12:36:08.310Z",
    "recipients": [{**_ADA, "field": "to", "status": "cancelled", "reply": _REPLY}],
}

_SENT: dict[str, Any] = {
    **_DEFERRED,
    "status": "sent",
    "next_attempt_at": None,
    "finished_at": "2026-11-23T12:36:01.003Z",
    "recipients": [{**_ADA, "field": "to", "status": "sent", "reply": _TAKEN}],
    "attempts": [{**_ATTEMPT, **_TAKEN, "phase": "dot", "outcome": "sent", "row": None, "next_attempt_at": None}],
}

_VERDICT: dict[str, Any] = {"id": _ACCEPTED["id"], "status": "sent", "jobs": [_SENT]}

_LISTED: dict[str, Any] = {name: value for name, value in _DEFERRED.items() if name != "attempts"}

_HISTORY: dict[str, Any] = {
    "data": [
        {"id": "1764070560871-accepted", "at": "2026-11-23T12:36:00.871Z", "what": "accepted"},
        {
            "id": "1764070561003-attempted",
            "at": "2026-11-23T12:36:01.003Z",
            "what": "attempted",
            "attempt": _ATTEMPT,
        },
        {
            "id": "1764070568310-cancelled",
            "at": "2026-11-23T12:36:08.310Z",
            "what": "cancelled",
            "by": "shop",
            "was": "deferred",
            "became": "cancelled",
        },
    ]
}

_ATTEMPTS: dict[str, Any] = {
    "data": [
        {
            **_ATTEMPT,
            "timings": {"envelope": 46},
            "conversation": [
                {"at_ms": 0, "who": "note", "text": "a connection that carried 12 mails before"},
                {"at_ms": 0, "who": "postroom", "text": "MAIL FROM:<hello@acme.example> SIZE=3210"},
                {"at_ms": 0, "who": "postroom", "text": "RCPT TO:<ada@example.com>"},
                {"at_ms": 0, "who": "postroom", "text": "DATA"},
                {"at_ms": 44, "who": "relay", "text": "250 2.1.0 Ok"},
                {"at_ms": 44, "who": "relay", "text": "451 4.3.0 Try again later"},
                {"at_ms": 44, "who": "relay", "text": "554 5.5.1 No valid recipients"},
                {"at_ms": 44, "who": "postroom", "text": "RSET"},
            ],
        }
    ]
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

_RELAY: dict[str, Any] = {
    "name": "smtp.acme.example:587",
    "order": 0,
    "host": "smtp.acme.example",
    "port": 587,
    "tls": "starttls",
    "connections": 30,
    "rate": 20.0,
    "senders": ["acme.example"],
    "breaker": {"state": "closed", "opened_by": None, "opened_at": None, "open_until": None, "failures": 0},
    "paused_at": None,
    "pace": 1.0,
    "trouble": None,
    "seen_at": "2026-11-23T12:36:00.871Z",
}

_OPEN: dict[str, Any] = {
    **_RELAY,
    "breaker": {
        "state": "open",
        "opened_by": "credentials",
        "opened_at": "2026-11-23T12:35:10.402Z",
        "open_until": "2026-11-23T12:40:10.402Z",
        "failures": 0,
    },
    "trouble": {
        "at": "2026-11-23T12:35:10.402Z",
        "row": "credentials_refused",
        "phase": "auth",
        "code": 535,
        "enhanced": "5.7.8",
        "text": "Authentication credentials invalid",
    },
}

_STREAM: dict[str, Any] = {
    "name": "bulk",
    "paused_at": None,
    "ready": 9981,
    "scheduled": 20,
    "leased": 70,
    "quarantined": 0,
    "oldest_wait_s": 41.3,
}

_DRAFT: dict[str, Any] = {
    "template": "welcome",
    "template_version": "58053e3c6f355ed2",
    "recipients": [{**_ADA, "field": "to"}],
    "reply_to": [],
    "subject": "Welcome to Postroom, Ada Lovelace",
    "html": "<p>Hello Ada Lovelace</p>",
    "text": "Hello Ada Lovelace",
}

_RENDERED: dict[str, Any] = {**_DRAFT, "preheader": "It is good to have you here."}

_DRY_RUN: dict[str, Any] = {
    **_DRAFT,
    "status": "queued",
    "stream": "normal",
    "due_at": "2026-11-23T12:36:00.871Z",
    "expires_at": None,
    "from_sample": ["user"],
    "sender": {"email": "hello@acme.example", "name": "Acme"},
    "size": 15003,
    "message": "Date: Mon, 23 Nov 2026 12:36:00 +0000\r\nFrom: Acme <hello@acme.example>\r\n",
}

ANSWERS: dict[str, dict[str, Any]] = {
    "submit 202": {"event": _ACCEPTED, "cloudevents": _CLOUDEVENTS},
    "submit 200": {"waited_for": _VERDICT, "dry_run": {"jobs": [_DRY_RUN]}},
    "getJob 200": {"deferred": _DEFERRED},
    "submitBatch 202": {"one_refused": _BATCH},
    "cancelJob 200": {"cancelled": _CANCELLED},
    "retryJob 200": {"queued": {**_DEFERRED, "status": "queued", "next_attempt_at": None}},
    "resolveJob 200": {"queued": {**_DEFERRED, "status": "queued", "next_attempt_at": None}},
    "rescheduleJob 200": {"deferred": _DEFERRED},
    "listJobs 200": {"deferred": {"data": [_LISTED], "next": "MTc2NDA3MDU2MDg3MS5iOTg5MmEzODNiZTI0ZTll"}},
    "retryJobs 200": {"done": {"retried": 4998, "content_expired": 1, "changed": 1, "next": None}},
    "getHistory 200": {"cancelled": _HISTORY},
    "listAttempts 200": {"deferred": _ATTEMPTS},
    "listStreams 200": {"one": {"data": [_STREAM]}},
    "pauseStream 200": {"paused": {**_STREAM, "paused_at": "2026-11-23T12:36:08.310Z"}},
    "resumeStream 200": {"resumed": _STREAM},
    "listRelays 200": {"open": {"data": [_OPEN]}},
    "pauseRelay 200": {"paused": {**_RELAY, "paused_at": "2026-11-23T12:36:08.310Z"}},
    "resumeRelay 200": {"resumed": _RELAY},
    "renderTemplate 200": {"welcome": _RENDERED},
    "listMail 200": {"one": {"data": [_SUMMARY], "next": None}},
    "waitForMail 200": {"arrived": _SUMMARY},
    "getMail 200": {"welcome": _MAIL},
    "healthz 200": {"ok": {"status": "ok"}},
    "readyz 200": {"ready": {"status": "ready", "queue": "ok", "alarms": {}, "templates": 3, "broken_templates": {}}},
}
"""Operation and status -> name of the example -> the answer."""
