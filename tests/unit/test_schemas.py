"""What a submission may say."""

import pytest

from mailer.addresses import Address
from mailer.errors import HeaderInjection, InvalidRequest, InvalidSubmission, Refused
from service.bodies import validate
from service.submissions import EventSubmission, JobSubmission

ADA = "ada@example.com"
TEMPLATED = {"template": "welcome"}
INLINE = {"subject": "Hello", "text": "Hi", "to": ADA}


def refusal(body, model=JobSubmission) -> Refused:
    with pytest.raises(Refused) as caught:
        validate(model, body)
    return caught.value


@pytest.mark.parametrize(
    "to",
    [ADA, [ADA], f"<{ADA}>", {"email": ADA}, [{"email": ADA, "name": None}], {"email": "ada@EXAMPLE.com", "name": ""}],
)
def test_an_address_may_be_written_in_several_ways(to):
    assert validate(JobSubmission, {**TEMPLATED, "to": to}).to == [Address(ADA)]


def test_a_name_given_apart_is_any_text():
    hostile = "x@evil.example, Ada"
    to = [{"email": ADA, "name": hostile}, f'"{hostile}" <{ADA}>']
    assert validate(JobSubmission, {**TEMPLATED, "to": to}).to == [Address(ADA, hostile)] * 2


@pytest.mark.parametrize(
    "to",
    [
        "ada", "", f"{ADA}, eve@example.com", 1, None.__class__, True, {"email": ADA, "nmae": "x"}, {"name": "Ada"},
        {"email": ADA, "name": 1}, {"email": f"Ada <{ADA}>"}, {"email": [ADA]}, [[ADA]], [None],
    ],
)  # fmt: skip
def test_what_is_not_one_mailbox_is_refused(to):
    assert isinstance(refusal({**TEMPLATED, "to": to}), InvalidSubmission)


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("to", [ADA, "Ada\r\nBcc: x@evil.example <ada@example.com>"], "/to/1"),
        ("cc", [{"email": ADA, "name": "Ada\nBcc: x"}], "/cc/0"),
        ("bcc", ["ada@example.com\0"], "/bcc/0"),
        ("from", "Acme\u2028 <hello@acme.example>", "/from"),
        ("reply_to", ["Acme\r <hello@acme.example>"], "/reply_to/0"),
        ("headers", {"X-Ref": "a\r\nBcc: x@evil.example"}, "/headers"),
        ("subject", "Hello\r\nBcc: x@evil.example", "/subject"),
    ],
)
def test_a_control_character_in_a_header_is_named_as_injection(field, value, pointer):
    error = refusal({**INLINE, field: value})
    assert isinstance(error, HeaderInjection)
    assert [(item.pointer, item.code) for item in error.errors] == [(pointer, "header_injection")]


@pytest.mark.parametrize(
    "name", ["Bcc", "bcc", "From", "Subject", "Message-ID", "Content-Type", "MIME-Version", "X Y", "X:", ""]
)
def test_a_header_that_postroom_writes_itself_or_that_is_none_is_refused(name):
    assert [item.pointer for item in refusal({**INLINE, "headers": {name: "x"}}).errors] == ["/headers"]


def test_braces_in_a_refused_value_do_no_harm():
    assert "{name}{0}" in str(refusal({**TEMPLATED, "to": "{name}{0}"}))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "give a template, an event, or inline content"),
        ({"subject": "Hello", "to": ADA}, "give a template, an event, or inline content"),
        ({"text": "Hi", "to": ADA}, "give a template, an event, or inline content"),
        ({"html": "<p>Hi</p>", "to": ADA}, "give a template, an event, or inline content"),
        ({**INLINE, "subject": ""}, "at least 1 character"),
        ({**INLINE, "template": "welcome"}, "not template and subject"),
        ({**TEMPLATED, "html": "<p>"}, "not template and html"),
        ({**INLINE, "data": {"a": 1}}, "data is for templates"),
        ({**TEMPLATED, "cc": ADA}, "cc and bcc need to"),
        ({**TEMPLATED, "bcc": [ADA]}, "cc and bcc need to"),
        ({**TEMPLATED, "priority": 1}, "/priority: there is no such field here"),
        ({"event": "x"}, "/event: there is no such field here"),
        ({**TEMPLATED, "to": [ADA] * 51}, "at most 50"),
        ({**TEMPLATED, "to": [ADA] * 30, "cc": [ADA] * 20, "bcc": ADA}, "may have 50 addresses together"),
        ({**TEMPLATED, "headers": {f"X-{n}": "x" for n in range(51)}}, "at most 50"),
    ],
)
def test_what_does_not_go_together_is_refused(body, said):
    assert said in str(refusal(body))


def test_inline_content_is_html_or_text_or_both():
    for content in ({"text": "Hi"}, {"html": "<p>Hi</p>"}, {"text": "Hi", "html": "<p>Hi</p>"}):
        submission = validate(JobSubmission, {"subject": "Hello {{ name }}", "to": ADA, **content})
        assert submission.subject == "Hello {{ name }}", "strings of a request are never templates"


def test_fifty_recipients_together_are_not_too_many():
    body = {**TEMPLATED, "to": [ADA] * 20, "cc": [ADA] * 20, "bcc": [ADA] * 10}
    assert len(validate(JobSubmission, body).to) == 20


@pytest.mark.parametrize(
    "time", ["2026-11-23T12:00:00Z", "2026-11-23T12:00:00+02:00", "2026-11-23T12:00:00.123456-00:30", None]
)
def test_a_time_is_kept_as_it_was_written(time):
    assert validate(EventSubmission, {"event": "x", "time": time}).time == time


@pytest.mark.parametrize("time", ["2026-11-23T12:00:00", "2026-11-23", "2026-11-23 12:00"])
def test_a_time_without_its_offset_is_refused_for_nobody_knows_when_it_is(time):
    error = refusal({"event": "x", "time": time}, EventSubmission)
    assert isinstance(error, InvalidRequest)
    assert error.code == "naive_datetime"


@pytest.mark.parametrize(
    "time",
    [
        "",
        "now",
        "23.11.2026",
        "2026-W50-1T00:00:00Z",
        "2026-11-23x12:00:00Z",
        "20261123T120000Z",
        1_700_000_000,
        True,
        "2026-13-01T00:00:00Z",
    ],
)
def test_what_is_no_time_is_refused(time):
    assert [item.pointer for item in refusal({"event": "x", "time": time}, EventSubmission).errors] == ["/time"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"event": ""}, "/event"),
        ({"event": 1}, "/event"),
        ({"event": "x" * 256}, "/event"),
        ({"event": "x", "id": ""}, "/id"),
        ({"event": "x", "source": "s" * 2001}, "/source"),
        ({"event": "x", "data": [1]}, "/data"),
        ({"event": "x", "to": ADA}, "/to"),
    ],
)
def test_an_event_has_the_fields_of_cloudevents_and_no_others(body, pointer):
    assert [item.pointer for item in refusal(body, EventSubmission).errors] == [pointer]
