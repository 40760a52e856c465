"""template.toml: what an author may write there, and how a mistake is named."""

import pytest

from mailer.addresses import Address
from mailer.errors import TemplateError
from mailer.jobs import Stream, UnknownPolicy
from mailer.manifest import RESERVED, parse_manifest


def trouble(text: str) -> str:
    with pytest.raises(TemplateError) as caught:
        parse_manifest(text)
    return str(caught.value)


def test_every_key_may_be_left_out():
    manifest = parse_manifest("")
    assert manifest.events == ()
    assert manifest.to == ()
    assert manifest.stream is Stream.NORMAL
    assert manifest.fields is None
    assert (manifest.delay, manifest.expires_after, manifest.backoff) == (0, None, None)


@pytest.mark.parametrize("policy", UnknownPolicy)
def test_a_template_may_say_what_becomes_of_a_mail_in_doubt(policy):
    assert parse_manifest(f'unknown_policy = "{policy}"').unknown_policy is policy
    assert parse_manifest("").unknown_policy is None


def test_one_recipient_needs_no_list():
    one = parse_manifest('to = { email = "{{ user.email }}" }')
    several = parse_manifest('to = [{ email = "{{ user.email }}" }]')
    assert one.to == several.to
    assert len(one.to) == 1


def test_the_from_address_is_read_once_at_load():
    assert parse_manifest('from = "Acme <hello@acme.example>"').sender == Address("hello@acme.example", "Acme")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('from = "Acme"', "from: 'Acme' is not an email address"),
        ('from = "a@acme.example, b@acme.example"', "from: "),
        ('sender = "a@acme.example"', "sender: "),
        ('strem = "bulk"', "strem: "),
        ('stream = "urgent"', "stream: "),
        ('unknown_policy = "retry"', "unknown_policy: "),
        ("unknown_policy = true", "unknown_policy: "),
        ('events = ["user signed up"]', "events.0: "),
        ('events = [""]', "events.0: "),
        ('layout = "../../etc"', "layout: "),
        ('layout = ""', "layout: "),
        ('delay = "soon"', "delay: must be a number with its unit"),
        ('expires_after = "31d"', "expires_after: must be 30 days or less"),
        ('to = "ada@example.com"', "to: "),
        ('to = { name = "Ada" }', "to.0.email: "),
        ('to = { email = "a@b.example", mail = "x" }', "to.0.mail: "),
        ('[fields]\nid = { type = "uuid" }', "fields.id.type: "),
        ("[fields]\nid = { typ = 1 }", "fields.id.typ: "),
        ('[fields]\n"first-name" = {}', "fields: 'first-name' cannot be a variable"),
        ("[fields]\n1st = {}", "fields: '1st' cannot be a variable"),
        ('[fetch.user]\non_missing = "fail"', "fetch.user.url: "),
        ('[fetch.user]\nurl = "x"\non_missing = "retry"', "fetch.user.on_missing: "),
        ('[fetch.user]\nurl = "x"\nmethod = "POST"', "fetch.user.method: "),
        ('[fetch.user]\nurl = "x"\nheaders = { "X Y" = "1" }', "fetch.user.headers.X Y."),
        ('[fetch.user]\nurl = "x"\nheaders = { "X-Ref:" = "1" }', "fetch.user.headers.X-Ref:."),
        ("to = [", "template.toml is not valid TOML"),
        ('layout = "a"\nlayout = "b"', "template.toml is not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_its_key(text, named):
    message = trouble(text)
    assert message.startswith("template.toml")
    assert named in message


def test_every_mistake_is_named_at_once():
    message = trouble('strem = "bulk"\ndelay = "soon"')
    assert "strem: " in message
    assert "delay: " in message


@pytest.mark.parametrize("name", sorted(RESERVED))
@pytest.mark.parametrize("table", ["[fields]\n{} = {{}}", '[fetch.{}]\nurl = "x"'])
def test_a_name_with_a_meaning_of_its_own_cannot_be_taken(name, table):
    assert f"'{name}' is reserved" in trouble(table.format(name))


def test_a_name_is_a_field_or_a_source_but_not_both():
    assert "user is both a field and a source" in trouble('[fields]\nuser = {}\n[fetch.user]\nurl = "x"')
