"""What is written on the queue server is read back as it was."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from mailer.store import records
from mailer.store.packing import unpack

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MAYBE = st.none() | TEXT
MS = st.integers(0, 2**53)
ADDRESSES = st.builds(Address, TEXT, MAYBE)
REPLIES = st.builds(Reply, st.none() | st.integers(200, 599), TEXT, MAYBE)
RECIPIENTS = st.builds(
    Recipient, ADDRESSES, st.sampled_from(Field), st.sampled_from(RecipientStatus), st.none() | REPLIES, MAYBE
)
RECIPIENT_LISTS = st.lists(RECIPIENTS, max_size=3).map(tuple)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
PAYLOADS = st.builds(
    Payload,
    data=st.dictionaries(TEXT, JSON, max_size=3),
    subject=MAYBE,
    html=MAYBE,
    text=MAYBE,
    sender=st.none() | ADDRESSES,
    reply_to=st.lists(ADDRESSES, max_size=2).map(tuple),
    headers=st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
)
SECONDS = st.none() | st.floats(0.001, 30 * 86400)
BACKOFFS = st.builds(
    Backoff,
    delays_s=st.none() | st.lists(st.floats(0.001, 86400), min_size=1, max_size=50).map(tuple),
    base_s=SECONDS,
    cap_s=SECONDS,
    give_up_s=SECONDS,
    max_attempts=st.none() | st.integers(1, 1000),
)
NEW_JOBS = st.builds(
    NewJob,
    id=st.just("0123"),
    payload=st.just(Payload()),
    stream=st.sampled_from(Stream),
    template=MAYBE,
    template_version=TEXT,
    event=st.none() | st.builds(Event, TEXT, TEXT, MAYBE, MAYBE, MAYBE),
    recipients=st.none() | RECIPIENT_LISTS,
    backoff=st.none() | BACKOFFS,
    unknown_policy=st.none() | st.sampled_from(UnknownPolicy),
)


def stored(record: dict[str, str | bytes], **more: str) -> dict[bytes, bytes]:
    """The record as the queue server gives it back, with the times that enqueue.lua sets."""
    fields = {"created_at": "1", "due_at": "2", **record, **more}
    return {name.encode(): value if isinstance(value, bytes) else value.encode() for name, value in fields.items()}


@given(NEW_JOBS)
def test_an_accepted_job_is_read_back(new):
    assert records.decode_record(new.id, stored(records.new_record(new))) == Job(
        id=new.id,
        status=Status.PENDING,
        stream=new.stream,
        created_at=1,
        due_at=2,
        template=new.template,
        template_version=new.template_version if new.template is not None else None,
        event=new.event,
        recipients=new.recipients,
        recipients_from_source=new.recipients is None,
        recipients_come_late=new.recipients is None,
        backoff=new.backoff,
        unknown_policy=new.unknown_policy,
    )


def test_a_record_of_version_1_is_read_as_it_was_written():
    """Written by release 0.1: it knows neither crashes nor journal, policy or backoff."""
    record = {"v": "1", "kind": "mail", "status": "deferred", "stream": "normal", "attempts": "2", "token": "t"}
    record |= {"template": "welcome", "template_version": "v", "recipients_from": "source", "next_attempt_at": "9"}
    job = records.decode_record("0123", stored(record))
    assert (job.version, job.status, job.attempts, job.next_attempt_at) == (1, Status.DEFERRED, 2, 9)
    assert (job.unknown_policy, job.unknown_outcomes, job.assumed) == (None, 0, False)
    assert (job.crashes, job.journal, job.dated, job.backoff) == (0, None, None, None)


def test_a_backoff_is_one_field_that_an_older_worker_ignores():
    new = NewJob(id="0123", payload=Payload(), recipients=(), backoff=Backoff(delays_s=(30, 120)))
    with_it, without = records.new_record(new), records.new_record(replace(new, backoff=None))
    assert (with_it.keys() - without.keys(), with_it["v"]) == ({"backoff"}, without["v"])


MARKS = st.builds(JournalMark, TEXT, MS, MS)


@given(MARKS, RECIPIENT_LISTS, MS.filter(bool), st.integers(0, 9), st.integers(0, 9), st.booleans())
def test_what_was_journaled_and_how_often_it_went_wrong_is_read_back(mark, recipients, dated, crashes, lost, assumed):
    new = NewJob(id="0123", payload=Payload(), recipients=())
    raw = stored(records.new_record(new), dated=str(dated), crashes=str(crashes), unknown_outcomes=str(lost))
    raw |= {b"journal": records.encode_journal(mark), b"recipients": records.encode_recipients(recipients)}
    raw |= {b"assumed": b"1"} if assumed else {}
    accepted = records.decode_record("0123", stored(records.new_record(new)))
    assert records.decode_record("0123", raw) == replace(
        accepted,
        journal=mark,
        recipients=recipients,
        dated=dated,
        crashes=crashes,
        unknown_outcomes=lost,
        assumed=assumed,
    )


@given(RECIPIENT_LISTS, st.sampled_from(Reason), TEXT.filter(bool), MS.filter(bool), st.booleans(), TEXT.filter(bool))
def test_how_a_job_ended_is_read_back(recipients, reason, detail, at, partial, stays_at):
    new = NewJob(id="0123", payload=Payload(), template="welcome", template_version="v")
    raw = stored(records.new_record(new), status="failed", reason=reason, detail=detail, attempts="3")
    raw |= stored({}, finished_at=str(at), expires_at=str(at), next_attempt_at=str(at), partial="1" if partial else "0")
    raw |= stored({}, stays_at=stays_at, uncounted="2")
    raw[b"recipients"] = records.encode_recipients(recipients)
    accepted = records.decode_record("0123", stored(records.new_record(new)))
    assert records.decode_record("0123", raw) == replace(
        accepted,
        status=Status.FAILED,
        reason=reason,
        detail=detail,
        attempts=3,
        finished_at=at,
        expires_at=at,
        next_attempt_at=at,
        partial=partial,
        recipients=recipients,
        stays_at=stays_at,
        uncounted=2,
    )


def test_what_finish_leaves_empty_is_nothing():
    new = records.new_record(NewJob(id="0123", payload=Payload(), recipients=()))
    plain = records.decode_record("0123", stored(new))
    emptied = stored(
        new, reason="", detail="", next_attempt_at="", expires_at="", finished_at="", partial="0", stays_at=""
    )
    assert records.decode_record("0123", emptied) == plain


@given(PAYLOADS)
def test_a_payload_is_read_back(payload):
    assert records.decode_payload(records.encode_payload(payload)) == payload


def test_a_payload_of_megabytes_is_read_back_also_by_the_version_before():
    payload = Payload(html="<p>Привет</p>\n" * 100_000, text='"short"', sender=Address("me@acme.example", "Me"))
    raw = records.encode_payload(payload)
    assert records.decode_payload(raw) == payload
    assert {**orjson.loads(raw), "long": None} == {**orjson.loads(orjson.dumps(payload)), "long": None}


ATTEMPTS = st.builds(
    Attempt,
    *(MS, MS, MS, st.sampled_from(Phase), TEXT, REPLIES, MAYBE, st.none() | MS),
    queue_id=MAYBE,
    timings=st.dictionaries(TEXT, MS, max_size=3),
    conversation=st.lists(TEXT, max_size=3).map(tuple),
)


@given(ATTEMPTS)
def test_an_attempt_is_read_back(attempt):
    assert records.decode_attempt(records.encode_attempt(attempt)) == attempt


def test_a_record_of_a_newer_version_is_left_alone():
    record = records.new_record(NewJob(id="0123", payload=Payload()))
    with pytest.raises(RecordTooNew):
        records.decode_record("0123", stored(record, v=str(RECORD_VERSION + 1), status="a status of the future"))


def test_the_content_of_a_mail_is_not_in_its_record():
    payload = Payload(data={"password": "hunter2"}, subject="hunter2", html="hunter2", text="hunter2")
    record = records.new_record(NewJob(id="0123", payload=payload, template="a", template_version="v"))
    assert b"hunter2" not in orjson.dumps({name: str(value) for name, value in record.items()})


def test_an_attempt_of_an_earlier_release_is_read_as_it_was_written():
    """Release 0.2 knew neither queue id nor timings nor conversation."""
    known = {"number": 1, "at": 1, "duration_ms": 2, "phase": "connect", "outcome": "deferred", "relay": "relay"}
    known |= {"reply": {"code": 421, "text": "later", "enhanced": None}, "next_attempt_at": 9}
    attempt = records.decode_attempt(orjson.dumps(known))
    assert (attempt.phase, attempt.relay, attempt.next_attempt_at) == (Phase.CONNECT, "relay", 9)
    assert (attempt.queue_id, attempt.timings, attempt.conversation) == (None, {}, ())


ATTEMPT = Attempt(1, at=1, duration_ms=2, phase=Phase.MAIL, outcome="deferred", reply=Reply(451, "later"))


def test_keys_of_a_newer_version_are_left_alone():
    attempt = orjson.loads(unpack(records.encode_attempt(ATTEMPT))) | {"weather": ["rain"], "mood": "4fXyz"}
    attempt["reply"]["lines"] = 2
    mark = orjson.loads(unpack(records.encode_journal(JournalMark("relay", 1, 2)))) | {"octets": 5}
    record = stored(records.new_record(NewJob(id="0123", payload=Payload())), journal=orjson.dumps(mark).decode())
    assert records.decode_record("0123", record).journal == JournalMark("relay", 1, 2)
    assert records.decode_attempt(orjson.dumps(attempt)) == ATTEMPT
    recipient = orjson.loads(unpack(records.encode_recipients((Recipient(Address("ada@example.com")),))))
    recipient[0] |= {"bounced_at": 5}
    assert records.decode_recipients(orjson.dumps(recipient).decode()) == (Recipient(Address("ada@example.com")),)
    backoff = b'{"delays_s": [30, 60], "jitter": {"of": 0.5}}'
    record = stored(records.new_record(NewJob(id="0123", payload=Payload())), backoff=backoff.decode())
    assert records.decode_record("0123", record).backoff == Backoff(delays_s=(30, 60))
    payload = orjson.loads(records.encode_payload(Payload(subject="Hi", text="Hi"))) | {"attachments": []}
    assert records.decode_payload(orjson.dumps(payload)) == Payload(subject="Hi", text="Hi")


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"v", b"4"), (b"status", b"paused"), (b"stream", b"urgent"), (b"reason", b"odd"), (b"unknown_policy", b"ask")],
)
def test_what_only_a_newer_version_can_have_written_is_told_apart(key, value):
    record = {b"v": b"1", b"kind": b"mail", b"status": b"pending", b"stream": b"normal"}
    record |= {b"created_at": b"1", b"due_at": b"1", b"attempts": b"0"}
    assert records.decode_record("a", record).attempts == 0
    with pytest.raises(RecordTooNew):
        records.decode_record("a", record | {key: value})
