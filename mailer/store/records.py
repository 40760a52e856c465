"""How a job's record, payload and attempts are written on the queue server, in format version RECORD_VERSION. Pure.

Versions run side by side during a deploy, so a reader ignores keys it does not know. A newer version raises the format
version only where an older one must not touch the job at all.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

import orjson

from mailer.addresses import Address
from mailer.errors import RecordTooNew
from mailer.jobs import (
    RECORD_VERSION,
    Attempt,
    Backoff,
    Event,
    Field,
    Job,
    JournalMark,
    NewJob,
    Payload,
    Phase,
    Reason,
    Recipient,
    RecipientStatus,
    Reply,
    Status,
    Stream,
    UnknownPolicy,
)
from mailer.store import long_texts
from mailer.store.packing import pack, unpack

T = TypeVar("T")
W = TypeVar("W", bound=StrEnum)
_PACKED = frozenset({b"event", b"recipients", b"backoff", b"journal"})
LONG_CHARS = LONG_OCTETS = 256 * 1024
"""Of html and text together: reading them takes about a millisecond."""
HISTORY = "history"
"""Field of a record that is read only where somebody asks for it: mailer.interventions."""


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
        record["event"] = pack(orjson.dumps(job.event))
    if job.backoff is not None:
        record["backoff"] = pack(orjson.dumps(job.backoff))
    if job.unknown_policy is not None:
        record["unknown_policy"] = job.unknown_policy
    if job.recipients is None:
        record["recipients_from"] = "source"
    else:
        record["recipients"] = encode_recipients(job.recipients)
    return record


def decode_record(job_id: str, raw: Mapping[bytes, bytes]) -> Job:
    """Raises RecordTooNew for what only a newer version can have written: a greater `v`, or a word unknown here."""
    if int(raw[b"v"]) > RECORD_VERSION:
        raise RecordTooNew
    text = {name.decode(): (unpack(value) if name in _PACKED else value).decode() for name, value in raw.items()}

    def milliseconds(name: str) -> int | None:
        return int(text[name]) if text.get(name) else None

    return Job(
        id=job_id,
        version=int(text["v"]),
        kind=text["kind"],
        status=_word(Status, text["status"]),
        stream=_word(Stream, text["stream"]),
        created_at=int(text["created_at"]),
        due_at=int(text["due_at"]),
        template=text.get("template"),
        template_version=text.get("template_version"),
        event=known(Event, orjson.loads(text["event"])) if "event" in text else None,
        recipients=_recipients(text),
        recipients_from_source=text.get("recipients_from") == "source",
        recipients_come_late="recipients_from" in text,
        reason=_word(Reason, text["reason"]) if text.get("reason") else None,
        detail=text.get("detail") or None,
        partial=text.get("partial") == "1",
        attempts=int(text["attempts"]),
        next_attempt_at=milliseconds("next_attempt_at"),
        expires_at=milliseconds("expires_at"),
        finished_at=milliseconds("finished_at"),
        stays_at=text.get("stays_at") or None,
        backoff=_backoff(text["backoff"]) if text.get("backoff") else None,
        unknown_policy=_word(UnknownPolicy, text["unknown_policy"]) if text.get("unknown_policy") else None,
        uncounted=int(text.get("uncounted") or 0),
        unknown_outcomes=int(text.get("unknown_outcomes") or 0),
        assumed=text.get("assumed") == "1",
        crashes=int(text.get("crashes") or 0),
        journal=known(JournalMark, orjson.loads(text["journal"])) if text.get("journal") else None,
        dated=milliseconds("dated"),
    )


def _recipients(text: Mapping[str, str]) -> tuple[Recipient, ...] | None:
    """0.2 knew for a job, and not by recipient, that an answer was lost; it had one relay, under any name."""
    if "recipients" not in text:
        return None
    recipients = decode_recipients(text["recipients"])
    if '"in_doubt":' in text["recipients"] or not int(text.get("unknown_outcomes") or 0) or text.get("assumed") == "1":
        return recipients
    return tuple(replace(item, in_doubt="") if item.was_taken else item for item in recipients)


def _word(cls: type[W], text: str) -> W:
    """A status, a stream or the like; one that is unknown here was written by a newer version."""
    try:
        return cls(text)
    except ValueError as error:
        raise RecordTooNew from error


def known(cls: type[T], item: Mapping[str, Any], **decoded: Any) -> T:
    """A value of `cls` from the keys it knows; those that a newer version added are left alone."""
    names = _names_of(cls)  # type: ignore[arg-type]  # a class is hashable
    return cls(**{**{name: value for name, value in item.items() if name in names}, **decoded})


@cache
def _names_of(cls: type[object]) -> frozenset[str]:
    return frozenset(field.name for field in fields(cls))  # type: ignore[arg-type]  # one of our dataclasses


def _backoff(raw: str) -> Backoff:
    item: dict[str, Any] = orjson.loads(raw)
    return known(Backoff, item, delays_s=tuple(item["delays_s"]) if item.get("delays_s") else None)


def encode_recipients(recipients: tuple[Recipient, ...]) -> bytes:
    return pack(orjson.dumps(recipients))


def decode_recipients(raw: str) -> tuple[Recipient, ...]:
    return tuple(
        known(
            Recipient,
            item,
            address=known(Address, item["address"]),
            field=_word(Field, item["field"]),
            status=_word(RecipientStatus, item["status"]),
            reply=known(Reply, item["reply"]) if item.get("reply") else None,
        )
        for item in orjson.loads(raw)
    )


def encode_payload(payload: Payload) -> bytes:
    if len(payload.html or "") + len(payload.text or "") < LONG_CHARS:
        return orjson.dumps(payload)
    return long_texts.written({field.name: getattr(payload, field.name) for field in fields(payload)})


def decode_payload(raw: bytes) -> Payload:
    """Of more than LONG_OCTETS it takes milliseconds: better in a thread."""
    item = long_texts.read(raw)
    return known(
        Payload,
        item,
        sender=known(Address, item["sender"]) if item.get("sender") else None,
        reply_to=tuple(known(Address, address) for address in item.get("reply_to", ())),
        headers=tuple((name, value) for name, value in item.get("headers", ())),
    )


def encode_journal(mark: JournalMark) -> bytes:
    return pack(orjson.dumps(mark))


def encode_attempt(attempt: Attempt) -> bytes:
    return pack(orjson.dumps(attempt))


def decode_attempt(raw: bytes) -> Attempt:
    item: dict[str, Any] = orjson.loads(unpack(raw))
    return known(
        Attempt,
        item,
        phase=_word(Phase, item["phase"]),
        reply=known(Reply, item["reply"]),
        conversation=tuple(item.get("conversation", ())),
    )
