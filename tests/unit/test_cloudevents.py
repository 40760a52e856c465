"""What the three modes of a CloudEvent say is read as its sender meant it, and is the same event in each."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from mailer.errors import Refused
from service.cloudevents import read_form
from service.intake import Item

HEADERS = {"ce-specversion": "1.0", "ce-type": "user.signed_up", "ce-source": "/app", "ce-id": "e1"}


def request(body: bytes, headers: list[tuple[bytes, bytes]]) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "path": "/jobs", "headers": headers}, receive)


async def read(message: HTTPMessage) -> dict[str, Any]:
    headers = [(name.lower().encode(), value.encode("ascii")) for name, value in message.headers.items()]
    form = await read_form(request(message.body, headers), None)
    assert isinstance(form, Item)
    return form.body


async def source_of(value: bytes) -> str:
    headers = [(name.encode(), text.encode()) for name, text in HEADERS.items() if name != "ce-source"]
    form = await read_form(request(b"{}", [*headers, (b"ce-source", value)]), None)
    assert isinstance(form, Item)
    return str(form.body["source"])


# What CloudEvents lets an attribute have: no control characters, no halves of surrogate pairs.
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=200)
TIMES = st.datetimes(timezones=st.integers(-720, 720).map(lambda minutes: timezone(timedelta(minutes=minutes))))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=5,
)
ATTRIBUTES = st.fixed_dictionaries(
    {"type": TEXT, "source": TEXT, "id": TEXT, "time": TIMES},
    optional={
        "subject": TEXT,
        "dataschema": TEXT,
        "datacontenttype": st.sampled_from(
            ["application/json", "application/vnd.acme+json; charset=utf-8", "text/json"]
        ),
        "traceparent": TEXT,
        "partitionkey": TEXT,
    },
)


@given(ATTRIBUTES, st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=3))
async def test_whatever_the_sdk_can_send_is_read_as_it_was_meant_and_the_same_in_both_modes(attributes, data):
    event = CloudEvent(attributes, data)
    binary, structured = await read(to_binary_event(event)), await read(to_structured_event(event))
    assert binary == structured
    assert datetime.fromisoformat(binary.pop("time")) == event.get_time()
    assert binary.pop("event") == event.get_type()
    assert binary.pop("data") == data
    optional = {} if event.get_subject() is None else {"subject": event.get_subject()}
    assert binary == {"source": event.get_source(), "id": event.get_id(), **optional}


async def test_an_event_of_the_sdk_without_data_has_empty_data():
    event = CloudEvent({"type": "user.signed_up", "source": "/app", "time": datetime(2026, 11, 23, tzinfo=UTC)})
    assert (await read(to_binary_event(event)))["data"] == (await read(to_structured_event(event)))["data"] == {}


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        (b"%e2%82%ac", "€"),
        (b"%61bc", "abc"),
        (b"%2541", "%41"),
        (b"100%", "100%"),
        (b"a+b", "a+b"),
        (b'"with spaces"', "with spaces"),
        (rb'"say \"hi\" \\ %41"', 'say "hi" \\ A'),
        (b'half "quoted"', 'half "quoted"'),
        ("/größe".encode(), "/größe"),
    ],
)
async def test_a_header_is_unquoted_and_percent_decoded_once(value, meant):
    assert await source_of(value) == meant


@pytest.mark.parametrize("value", [b"%C0%A0", b"%ff", b"\xff", b"%ED%A0%80"])
async def test_a_header_that_is_not_utf_8_is_refused_by_name(value):
    with pytest.raises(Refused) as caught:
        await source_of(value)
    assert [error.pointer for error in caught.value.errors] == ["/header/ce-source"]


@pytest.mark.parametrize(
    "content_type", ["application/cloudevents+json", "Application/CloudEvents+JSON; charset=UTF-8"]
)
async def test_content_type_decides_and_headers_beside_a_structured_event_mean_nothing(content_type):
    body = orjson.dumps({"specversion": "1.0", "type": "in.body", "source": "/app", "id": "1"})
    headers = {**HEADERS, "ce-id": "%ff", "content-type": content_type}
    assert await read(HTTPMessage(headers, body)) == {"event": "in.body", "source": "/app", "id": "1", "data": {}}


async def test_without_a_specversion_it_is_postrooms_own_form():
    headers = {"ce-id": "e1", "ce-type": "x", "content-type": "application/json"}
    assert await read(HTTPMessage(headers, b'{"event": "y"}')) == {"event": "y"}


async def test_an_attribute_that_is_null_is_as_if_it_were_left_out():
    event = {
        "specversion": "1.0",
        "type": "x",
        "source": "/app",
        "id": "1",
        "subject": None,
        "trace": None,
        "data": None,
    }
    message = HTTPMessage({"content-type": "application/cloudevents+json"}, orjson.dumps(event))
    assert await read(message) == {"event": "x", "source": "/app", "id": "1", "data": {}}
