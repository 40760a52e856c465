"""A refused body names each field in the wrong by its JSON pointer."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from mailer.errors import HeaderInjection, InvalidRequest, InvalidSubmission, Refused
from service.bodies import pointer, read_json, validate
from service.submissions import EventSubmission, JobSubmission


def request(body: bytes, content_type: str | None = "application/json") -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [] if content_type is None else [(b"content-type", content_type.encode())]
    return Request({"type": "http", "method": "POST", "path": "/jobs", "headers": headers}, receive)


def follow(document: Any, path: str) -> Any:
    """RFC 6901 4."""
    for step in path.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        document = document[int(name)] if isinstance(document, list) else document[name]
    return document


@pytest.mark.parametrize(
    ("loc", "expected"),
    [
        ((), ""),
        (("to", 0, "email"), "/to/0/email"),
        (("data", "a/b"), "/data/a~1b"),
        (("data", "m~n"), "/data/m~0n"),
        (("data", "~1"), "/data/~01"),
        (("data", ""), "/data/"),
        (("data", "é %"), "/data/é %"),
    ],
)
def test_a_pointer_is_written_as_rfc_6901_wants(loc, expected):
    assert pointer(loc) == expected


@given(st.lists(st.text() | st.integers(0, 3), max_size=4))
def test_a_pointer_leads_where_it_came_from(loc):
    document: Any = "found"
    for step in reversed(loc):
        document = [None] * step + [document] if isinstance(step, int) else {step: document}
    assert follow(document, pointer(tuple(loc))) == "found"


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8", " application/json "])
async def test_json_is_read_whatever_its_parameters(content_type):
    assert await read_json(request(b'{"a": 1}', content_type)) == {"a": 1}


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_what_is_not_called_json_is_not_read(content_type):
    with pytest.raises(InvalidRequest) as caught:
        await read_json(request(b"{}", content_type))
    assert (caught.value.status, caught.value.code) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b"{} {}",
        b"a=1",
    ],
)
async def test_the_decoder_is_strict(body):
    with pytest.raises(InvalidRequest) as caught:
        await read_json(request(body))
    assert (caught.value.status, caught.value.code) == (400, "malformed_json")


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"1"])
async def test_a_body_is_an_object(body):
    with pytest.raises(InvalidSubmission, match="must be a JSON object"):
        await read_json(request(body))


def test_every_field_in_the_wrong_is_named():
    body = {"template": 1, "too": [], "to": ["ada@example.com", "eve"], "data": []}
    with pytest.raises(InvalidSubmission) as caught:
        validate(JobSubmission, body)
    assert {error.pointer for error in caught.value.errors} == {"/template", "/too", "/to/1", "/data"}
    assert {error.code for error in caught.value.errors} == {"validation_failed"}
    assert "/too: there is no such field here" in str(caught.value)


def test_a_field_is_named_as_the_caller_wrote_it():
    with pytest.raises(InvalidSubmission) as caught:
        validate(JobSubmission, {"template": "welcome", "from": "Acme"})
    assert [error.pointer for error in caught.value.errors] == ["/from"]


def test_one_control_character_makes_it_a_header_injection():
    body = {"template": "welcome", "to": ["a@b.example\r\nBcc: x@evil.example", "eve"]}
    with pytest.raises(HeaderInjection) as caught:
        validate(JobSubmission, body)
    assert [(error.pointer, error.code) for error in caught.value.errors] == [
        ("/to/0", "header_injection"),
        ("/to/1", "validation_failed"),
    ]


def test_a_time_without_an_offset_is_told_apart():
    with pytest.raises(InvalidRequest) as caught:
        validate(EventSubmission, {"event": "x", "time": "2026-11-23T12:00:00"})
    assert (caught.value.status, caught.value.code) == (400, "naive_datetime")
    assert str(caught.value).startswith("/time: ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(["template", "event", "data", "to", "cc", "from", "subject", "html", "headers", "time", "x"])


@given(st.dictionaries(FIELDS, JSON), st.sampled_from([JobSubmission, EventSubmission]))
def test_whatever_is_sent_is_accepted_or_refused_with_an_answer_that_is_json(body, model):
    answer: Refused | None = None
    try:
        validate(model, body)
    except Refused as error:
        answer = error
    assert answer is None or (answer.status in {400, 422} and orjson.dumps([str(answer), answer.errors]))
