"""What a template and its data become: subject, html, text, recipients."""

from pathlib import Path

import pytest

from mailer.addresses import Address
from mailer.catalogue import load_catalogue
from mailer.errors import AddressError, RenderingError
from mailer.jobs import Event, Field, Recipient
from mailer.rendering import is_wanted, recipient_variables, render, render_recipients, render_reply_to
from mailer.templates import Template
from mailer.turns import at_once

SHIPPED = Path(__file__).parents[2] / "templates"
NAMES = sorted(path.name for path in SHIPPED.iterdir() if path.is_dir() and not path.name.startswith("_"))


def template(root: Path, manifest: str = "", **files: str) -> Template:
    folder = root / "a"
    folder.mkdir()
    content = {"subject.txt": "s", "body.txt": "b", "template.toml": manifest}
    content |= {name.replace("_", "."): text for name, text in files.items()}
    for name, text in content.items():
        (folder / name).write_text(text)
    catalogue = load_catalogue(root)
    assert catalogue.broken == {}
    return catalogue.get("a")


def test_no_shipped_template_is_broken():
    catalogue = load_catalogue(SHIPPED)
    assert catalogue.broken == {}
    assert sorted(catalogue.templates) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_template_renders_its_sample_as_html_and_as_text(name):
    found = load_catalogue(SHIPPED).get(name)
    variables = {**dict.fromkeys(found.fields), **found.sample, "event": Event("sample", "1")}
    mail = at_once(render(found, variables))
    assert mail.subject
    assert mail.subject.isprintable()
    assert mail.html is not None
    assert mail.html.rstrip().endswith("</html>")
    assert mail.text is not None
    for content in (mail.subject, mail.html, mail.text):
        assert not [word for word in ("{{", "{%", "{#", "jinja-", "None", "Undefined") if word in content]
    assert "\n\n\n" not in mail.text
    assert max(map(len, mail.text.splitlines())) <= 78
    assert [item.address for item in render_recipients(found, variables)] == [
        Address("ada@example.com", "Ada Lovelace")
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_template_needs_no_optional_field(name):
    found = load_catalogue(SHIPPED).get(name)
    optional = {field: spec.default for field, spec in found.fields.items() if not spec.required}
    assert at_once(render(found, {**found.sample, **optional, "event": Event("sample", "1")})).subject


def test_the_layout_knows_subject_and_preheader(tmp_path):
    (tmp_path / "_layouts").mkdir()
    (tmp_path / "_layouts/l.html").write_text(
        "<title>{{ mail.subject }}</title><i>{{ mail.preheader }}</i>{% block content %}{% endblock %}"
    )
    (tmp_path / "_layouts/l.txt").write_text("{{ mail.subject }}\n{% block content %}{% endblock %}")
    found = template(
        tmp_path, 'layout = "l"\npreheader = "For {{ x }}"', subject_txt="<{{ x }}>\n", body_html="<p>{{ x }}</p>"
    )
    mail = at_once(render(found, {"x": "A&B"}))
    assert mail.subject == "<A&B>"
    assert "<title>&lt;A&amp;B&gt;</title>" in (mail.html or "")
    assert "<i>For A&amp;B</i>" in (mail.html or "")
    assert mail.text == "<A&B>\nb"


def test_a_page_whose_head_and_body_have_no_tags_keeps_its_doctype_and_its_style_sheet(tmp_path):
    page = "<!doctype html>\n<style>p { color: red }</style>\n{% if x %}<p>b</p>{% endif %}"
    mail = at_once(render(template(tmp_path, body_html=page), {"x": 1}))
    assert mail.html == (
        "<!DOCTYPE html><html><head><style>p { color: red }</style>\n</head>"
        '<body><p style="color: red;">b</p></body></html>'
    )


def test_a_byte_order_mark_is_no_part_of_what_a_file_says(tmp_path):
    mail = at_once(render(template(tmp_path, subject_txt="\ufeffs", body_txt="\ufeffb"), {}))
    assert (mail.subject, mail.text) == ("s", "b")


def test_a_mail_may_have_text_only_or_html_only(tmp_path):
    assert at_once(render(template(tmp_path), {})).html is None
    (tmp_path / "a/body.txt").unlink()
    (tmp_path / "a/body.html").write_text("<p>b</p>")
    assert at_once(render(load_catalogue(tmp_path).get("a"), {})).text is None


def test_what_the_data_lacks_is_named_with_file_and_line(tmp_path):
    found = template(tmp_path, body_txt="Hello\n\n{{ user.name }}")
    with pytest.raises(RenderingError, match=r"^a/body.txt, line 3: .*name"):
        at_once(render(found, {"user": {}}))


@pytest.mark.parametrize(
    ("value", "wanted"), [(True, True), (1, True), ("x", True), (False, False), (0, False), ("", False), (None, False)]
)
def test_when_decides_whether_there_is_a_mail_at_all(tmp_path, value, wanted):
    found = template(tmp_path, 'when = "{{ user.wants_mail }}"')
    assert is_wanted(found, {"user": {"wants_mail": value}}) is wanted


def test_without_when_there_is_always_a_mail(tmp_path):
    assert is_wanted(template(tmp_path), {})


PEOPLE = """
to = [{ email = "{{ user.email }}", name = "{{ user.name }}" }, { email = "{{ second }}" }]
cc = { email = "cc@example.com", name = "{{ boss }}" }
bcc = { email = "archive@example.com" }
reply_to = { email = "help@example.com", name = "Help" }
"""


def test_each_recipient_the_manifest_names_is_one_mailbox_with_its_place(tmp_path):
    found = template(tmp_path, PEOPLE)
    assert recipient_variables(found) == {"user", "second", "boss"}
    user = {"email": " ada@EXAMPLE.com\n", "name": "Ada"}
    assert render_recipients(found, {"user": user, "second": "b@example.com", "boss": ""}) == (
        Recipient(Address("ada@example.com", "Ada"), Field.TO),
        Recipient(Address("b@example.com"), Field.TO),
        Recipient(Address("cc@example.com"), Field.CC),
        Recipient(Address("archive@example.com"), Field.BCC),
    )
    assert render_reply_to(found, {}) == (Address("help@example.com", "Help"),)


@pytest.mark.parametrize(
    "name", ["x@evil.example, Ada", "Ada <x@evil.example>", '"', "a;b", "Ada (x@evil.example)", "<>", "&lt;b&gt;"]
)
def test_a_hostile_name_stays_a_name(tmp_path, name):
    found = template(tmp_path, PEOPLE)
    user = {"email": "ada@example.com", "name": name}
    first, second, *_ = render_recipients(found, {"user": user, "second": "b@example.com", "boss": "B"})
    assert first.address == Address("ada@example.com", name)
    assert second.address.email == "b@example.com"


@pytest.mark.parametrize(
    "email",
    ["ada@example.com, x@evil.example", "Ada <ada@example.com>", "", "ada", "ada@example.com\r\nBcc: x@evil.example"],
)
def test_a_value_cannot_become_two_recipients(tmp_path, email):
    found = template(tmp_path, PEOPLE)
    with pytest.raises(AddressError):
        render_recipients(found, {"user": {"email": email, "name": "Ada"}, "second": "b@example.com", "boss": "B"})


@pytest.mark.parametrize("control", ["\r\n", "\n", "\0", "\u2028"])
def test_a_control_character_in_a_name_is_refused(tmp_path, control):
    found = template(tmp_path, PEOPLE)
    user = {"email": "ada@example.com", "name": f"Ada{control}Bcc: x@evil.example"}
    with pytest.raises(AddressError) as caught:
        render_recipients(found, {"user": user, "second": "b@example.com", "boss": "B"})
    assert caught.value.injection
