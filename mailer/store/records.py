"""How a job's record, payload and attempts are written on the queue server, in format version RECORD_VERSION. Pure."""

from collections.abc import Mapping
from typing import Any

import orjson

from mailer.addresses import Address
from mailer.errors import RecordTooNew
from mailer.jobs import (
    RECORD_VERSION,
    Attempt,
    Event,
    Field,
    Job,
    NewJob,
    Payload,
    Phase,
    Reason,
    Recipient,
    RecipientStatus,
    Reply,
    Status,
    Stream,
)


def new_record(job: NewJob) -> dict[str, str | bytes]:
    """The record's fields at acceptance, but for the times, which enqueue.lua sets."""
    record: dict[str, str | bytes] = {
        "v": str(RECORD_VERSION),
        "kind": "mail",
        "status": Status.PENDING,
        "stream": job.stream,
        "attempts": "0",
    }
    if job.template is not None:
        record["template"] = job.template
        record["template_version"] = job.template_version or ""
    if job.event is not None:
        record["event"] = orjson.dumps(job.event)
    if job.recipients is None:
        record["recipients_from"] = "source"
    else:
        record["recipients"] = encode_recipients(job.recipients)
    return record


def decode_record(job_id: str, raw: Mapping[bytes, bytes]) -> Job:
    """Raises RecordTooNew for a format that this version does not know."""
    if int(raw[b"v"]) > RECORD_VERSION:
        raise RecordTooNew
    text = {name.decode(): value.decode() for name, value in raw.items()}

    def milliseconds(name: str) -> int | None:
        return int(text[name]) if text.get(name) else None

    return Job(
        id=job_id,
        version=int(text["v"]),
        kind=text["kind"],
        status=Status(text["status"]),
        stream=Stream(text["stream"]),
        created_at=int(text["created_at"]),
        due_at=int(text["due_at"]),
        template=text.get("template"),
        template_version=text.get("template_version"),
        event=Event(**orjson.loads(text["event"])) if "event" in text else None,
        recipients=decode_recipients(text["recipients"]) if "recipients" in text else None,
        recipients_from_source=text.get("recipients_from") == "source",
        reason=Reason(text["reason"]) if text.get("reason") else None,
        detail=text.get("detail") or None,
        partial=text.get("partial") == "1",
        attempts=int(text["attempts"]),
        next_attempt_at=milliseconds("next_attempt_at"),
        expires_at=milliseconds("expires_at"),
        finished_at=milliseconds("finished_at"),
    )


def encode_recipients(recipients: tuple[Recipient, ...]) -> bytes:
    return orjson.dumps(recipients)


def decode_recipients(raw: str) -> tuple[Recipient, ...]:
    return tuple(
        Recipient(
            address=Address(**item["address"]),
            field=Field(item["field"]),
            status=RecipientStatus(item["status"]),
            reply=Reply(**item["reply"]) if item["reply"] else None,
        )
        for item in orjson.loads(raw)
    )


def encode_payload(payload: Payload) -> bytes:
    return orjson.dumps(payload)


def decode_payload(raw: bytes) -> Payload:
    item: dict[str, Any] = orjson.loads(raw)
    return Payload(
        data=item["data"],
        subject=item["subject"],
        html=item["html"],
        text=item["text"],
        sender=Address(**item["sender"]) if item["sender"] else None,
        reply_to=tuple(Address(**address) for address in item["reply_to"]),
        headers=tuple((name, value) for name, value in item["headers"]),
    )


def encode_attempt(attempt: Attempt) -> bytes:
    return orjson.dumps(attempt)


def decode_attempt(raw: bytes) -> Attempt:
    item: dict[str, Any] = orjson.loads(raw)
    return Attempt(**{**item, "phase": Phase(item["phase"]), "reply": Reply(**item["reply"])})
