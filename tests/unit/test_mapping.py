"""A submission becomes jobs, or is refused with the field that is in the wrong."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mailer.addresses import Address
from mailer.catalogue import Catalogue, load_catalogue
from mailer.errors import HeaderInjection, InvalidSubmission, Refused, UnknownEvent, UnknownTemplate, VariableMissing
from mailer.jobs import Backoff, Field, NewJob, Recipient, Stream, UnknownPolicy
from service.bodies import validate
from service.mapping import job_from, jobs_from
from service.submissions import EventSubmission, JobSubmission

FROM = Address("hello@postroom.example", "Postroom")
ADA = {"email": "ada@example.com", "name": "Ada", "dashboard_url": "https://app.example.com"}
OWN = {
    "plain": {"subject.txt": "Hello {{ name }}", "body.txt": "b", "template.toml": 'events = ["plain"]'},
    "named": {
        "subject.txt": "Hello",
        "body.txt": "b",
        "template.toml": 'events = ["named"]\nto = { email = "{{ email }}", name = "{{ name }}" }\ndelay = "10m"\n'
        'expires_after = "1h"\nstream = "bulk"\nbackoff = ["30s", 120]',
    },
    "for-event": {
        "subject.txt": "About {{ event.subject }}",
        "body.txt": "b",
        "template.toml": 'events = ["happened", "named"]\nto = { email = "{{ email }}" }',
    },
    "twice": {
        "subject.txt": "s",
        "body.txt": "b",
        "template.toml": 'to = [{ email = "{{ a }}" }, { email = "{{ b }}" }]\ncc = { email = "{{ a }}" }',
    },
}


@cache
def shipped() -> Catalogue:
    return load_catalogue(Path(__file__).parents[2] / "templates")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    root = tmp_path_factory.mktemp("templates")
    for name, files in OWN.items():
        (root / name).mkdir()
        for file, text in files.items():
            (root / name / file).write_text(text)
    catalogue = load_catalogue(root)
    assert catalogue.broken == {}
    return catalogue


def job(body: dict[str, Any], catalogue: Catalogue | None = None, default_from: Address | None = FROM) -> NewJob:
    return job_from(validate(JobSubmission, body), catalogue or shipped(), default_from)


def event(body: dict[str, Any], catalogue: Catalogue | None = None):
    return jobs_from(validate(EventSubmission, body), catalogue or shipped(), FROM)


def pointers(error: Refused) -> list[tuple[str, str]]:
    return [(item.pointer, item.code) for item in error.errors]


def test_a_job_is_no_more_than_a_template_and_an_id():
    new = job({"template": "welcome", "data": {"id": 42}})
    assert (new.template, new.template_version) == ("welcome", shipped().get("welcome").version)
    assert new.payload.data == {"id": 42}
    assert new.recipients is None, "only the source knows them"
    assert new.event is None


def test_each_job_has_an_id_of_its_own():
    assert len({job({"template": "welcome", "data": {"id": 42}}).id for _ in range(10)}) == 10


def test_a_template_gives_stream_and_expiry():
    new = job({"template": "reset-password", "data": {"id": 42, "reset_url": "https://x.example"}})
    assert (new.stream, new.expires_in_ms, new.delay_ms) == (Stream.CRITICAL, 30 * 60_000, 0)


def test_a_jobs_backoff_stands_in_place_of_its_templates_as_a_whole(own):
    named = {"template": "named", "data": {"email": "a@b.example", "name": "A"}}
    assert job(named, own).backoff == Backoff(delays_s=(30, 120))
    assert job({**named, "backoff": {"max_attempts": 3}}, own).backoff == Backoff(max_attempts=3)
    assert job({**named, "backoff": {}}, own).backoff == Backoff(), "as its stream has it"
    assert job({"template": "welcome", "data": {"id": 42}}).backoff is None
    assert job({"template": "welcome", "data": {"id": 42}, "backoff": [30]}).backoff == Backoff(delays_s=(30,))


def test_inline_content_has_its_own_backoff_or_its_streams():
    inline = {"subject": "s", "text": "t", "to": "a@b.example"}
    assert job(inline).backoff is None
    assert job({**inline, "backoff": ["5m"]}).backoff == Backoff(delays_s=(300,))


def test_recipients_of_the_job_stand_in_place_of_the_templates():
    new = job({"template": "welcome", "data": {"id": 42}, "to": "eve@example.com", "bcc": "log@example.com"})
    assert new.recipients == (
        Recipient(Address("eve@example.com"), Field.TO),
        Recipient(Address("log@example.com"), Field.BCC),
    )


def test_recipients_are_known_at_once_where_the_data_tells():
    new = job({"template": "welcome", "data": {"id": 42, "user": ADA}})
    assert new.recipients == (Recipient(Address("ada@example.com", "Ada")),)


def test_nobody_gets_one_mail_twice(own):
    new = job({"template": "welcome", "data": {"id": 1}, "to": ["a@b.example", "A <a@B.EXAMPLE>"], "cc": "a@b.example"})
    assert new.recipients == (Recipient(Address("a@b.example")),)
    same = job({"template": "twice", "data": {"a": "a@b.example", "b": "a@b.example"}}, own)
    assert same.recipients == (Recipient(Address("a@b.example")),)


def test_inline_content_is_carried_as_it_is():
    body = {
        "subject": "{{ x }}", "html": "<p>{{ x }}</p>", "text": "t", "to": "a@b.example", "from": "Me <me@b.example>",
        "reply_to": ["r@b.example"], "headers": {"X-Ref": "1"},
    }  # fmt: skip
    payload = job(body, default_from=None).payload
    assert (payload.subject, payload.html, payload.text) == ("{{ x }}", "<p>{{ x }}</p>", "t")
    assert (payload.sender, payload.reply_to) == (Address("me@b.example", "Me"), (Address("r@b.example"),))
    assert payload.headers == (("X-Ref", "1"),)


def test_inline_content_to_hidden_recipients_only_is_a_mail_too():
    new = job({"subject": "s", "text": "t", "bcc": ["a@b.example", "c@d.example"]})
    assert [item.field for item in new.recipients or ()] == [Field.BCC, Field.BCC]


@pytest.mark.parametrize("to", [{}, {"to": []}])
def test_inline_content_for_nobody_is_refused(to):
    with pytest.raises(InvalidSubmission) as caught:
        job({"subject": "s", "text": "t", **to})
    assert pointers(caught.value) == [("/to", "validation_failed")]


def test_a_template_for_nobody_is_refused(own):
    for body in ({"template": "plain", "data": {"name": "A"}}, {"template": "named", "to": []}):
        with pytest.raises(InvalidSubmission) as caught:
            job(body, own)
        assert pointers(caught.value) == [("/to", "validation_failed")]
    with pytest.raises(InvalidSubmission, match="plain answers it, but names no recipients") as caught:
        event({"event": "plain", "data": {"name": "A"}}, own)
    assert pointers(caught.value) == [("/event", "validation_failed")]


@pytest.mark.parametrize(
    ("body", "kind", "found"),
    [
        ({"template": "welcme"}, UnknownTemplate, ("/template", "unknown_template")),
        ({"template": "../welcome"}, UnknownTemplate, ("/template", "unknown_template")),
        ({"template": "_layouts"}, UnknownTemplate, ("/template", "unknown_template")),
        ({"template": "welcome"}, VariableMissing, ("/data/id", "template_variable_missing")),
        ({"template": "welcome", "data": {"id": "42"}}, InvalidSubmission, ("/data/id", "validation_failed")),
        ({"template": "welcome", "data": {"id": 1, "x": 1}}, InvalidSubmission, ("/data/x", "validation_failed")),
        (
            {"template": "welcome", "data": {"id": 1, "user": {}}},
            VariableMissing,
            ("/data", "template_variable_missing"),
        ),
        (
            {"template": "welcome", "data": {"id": 1, "user": 7}},
            VariableMissing,
            ("/data", "template_variable_missing"),
        ),
        (
            {"template": "welcome", "data": {"id": 1, "user": {**ADA, "email": "ada"}}},
            InvalidSubmission,
            ("/data/user", "validation_failed"),
        ),
    ],
)
def test_what_could_never_be_sent_is_refused_at_once(body, kind, found):
    with pytest.raises(kind) as caught:
        job(body)
    assert pointers(caught.value) == [found]


CONTROLS = pytest.mark.parametrize("control", ["\r\n", "\n", "\r", "\0", "\t", "\x85", "\u2028"])


@CONTROLS
def test_a_control_character_on_its_way_into_a_recipient_is_an_injection(control):
    user = {**ADA, "name": f"Ada{control}Bcc: x@evil.example"}
    for submit, body in ((job, {"template": "welcome"}), (event, {"event": "user.signed_up"})):
        with pytest.raises(HeaderInjection) as caught:
            submit({**body, "data": {"id": 42, "user": user}})
        assert pointers(caught.value) == [("/data/user/name", "header_injection")]


@CONTROLS
def test_a_control_character_on_its_way_into_the_subject_is_an_injection(control, own):
    with pytest.raises(HeaderInjection) as caught:
        job({"template": "plain", "to": "a@b.example", "data": {"name": f"A{control}Bcc: x@evil.example"}}, own)
    assert pointers(caught.value) == [("/data/name", "header_injection")]
    order = {**shipped().get("receipt").sample["order"], "number": f"A{control}B"}
    with pytest.raises(HeaderInjection) as caught:
        job({"template": "receipt", "data": {"id": 1, "order": order}})
    assert pointers(caught.value) == [("/data/order/number", "header_injection")]


@CONTROLS
def test_a_control_character_elsewhere_in_the_data_is_content(control):
    user = {**ADA, "plan": f"a{control}b"}
    assert job({"template": "welcome", "data": {"id": 42, "user": user}}).payload.data["user"] == user


def test_without_any_from_address_nothing_is_accepted():
    for body in ({"template": "welcome", "data": {"id": 1}}, {"subject": "s", "text": "t", "to": "a@b.example"}):
        with pytest.raises(InvalidSubmission, match="POSTROOM_FROM") as caught:
            job(body, default_from=None)
        assert pointers(caught.value) == [("/from", "validation_failed")]
        assert job({**body, "from": "me@b.example"}, default_from=None).payload.sender == Address("me@b.example")


def test_a_template_about_an_event_needs_one(own):
    with pytest.raises(InvalidSubmission, match="only an event can cause it"):
        job({"template": "for-event", "data": {"email": "a@b.example"}}, own)


def test_an_event_becomes_a_job_for_each_template_that_answers_it(own):
    happened, jobs = event({"event": "named", "data": {"email": "a@b.example", "name": "A", "more": 1}}, own)
    assert [new.template for new in jobs] == ["for-event", "named"]
    assert all(new.event == happened for new in jobs)
    assert [new.payload.data for new in jobs] == [{"email": "a@b.example"}, {"email": "a@b.example", "name": "A"}]
    assert (jobs[1].delay_ms, jobs[1].expires_in_ms, jobs[1].stream) == (600_000, 3_600_000, Stream.BULK)
    assert [new.backoff for new in jobs] == [None, Backoff(delays_s=(30, 120))]


def test_what_a_job_says_of_its_way_takes_the_place_of_what_its_template_says(own):
    data = {"email": "a@b.example", "name": "A"}
    plain = job({"template": "named", "data": data}, own)
    assert (plain.stream, plain.delay_ms, plain.send_at, plain.expires_at) == (Stream.BULK, 600_000, None, None)
    own_way = {"stream": "critical", "send_at": "2030-01-01T00:00:00Z", "expires_at": "2030-01-02T00:00:00Z"}
    new = job({"template": "named", "data": data, "unknown_policy": "hold", **own_way}, own)
    assert (new.stream, new.send_at, new.expires_at) == (Stream.CRITICAL, 1_893_456_000_000, 1_893_542_400_000)
    assert (new.unknown_policy, new.backoff) == (UnknownPolicy.HOLD, plain.backoff)
    inline = job({"to": ["a@b.example"], "subject": "s", "text": "t", "unknown_policy": "accept", **own_way})
    assert (inline.stream, inline.send_at, inline.expires_at) == (new.stream, new.send_at, new.expires_at)
    assert inline.unknown_policy is UnknownPolicy.ACCEPT


def test_an_event_is_accepted_as_a_whole_or_not_at_all(own):
    with pytest.raises(VariableMissing) as caught:
        event({"event": "named", "data": {"email": "a@b.example"}}, own)
    assert pointers(caught.value) == [("/data/name", "template_variable_missing")]


def test_an_event_keeps_what_its_producer_said_and_gets_an_id_if_it_has_none():
    said = {"id": "7", "source": "/shop", "subject": "u/42", "time": "2026-11-23T12:00:00Z"}
    happened, _ = event({"event": "user.signed_up", "data": {"id": 42}, **said})
    assert {name: getattr(happened, name) for name in said} == said
    assert happened.name == "user.signed_up"
    assert event({"event": "user.signed_up", "data": {"id": 42}})[0].id


def test_an_event_nobody_answers_is_refused():
    with pytest.raises(UnknownEvent, match=r"did you mean user.signed_up\?") as caught:
        event({"event": "user.signedup"})
    assert pointers(caught.value) == [("/event", "unknown_event")]
