"""`postroom render`: a template as it would be sent, with nothing fetched and nothing sent."""

from pathlib import Path

import pytest

from mailer.addresses import Address
from mailer.catalogue import load_catalogue
from mailer.errors import AddressError, HeaderError, InvalidSubmission, RenderingError
from mailer.previewing import preview

CATALOGUE = Path(__file__).parents[2] / "templates"
NAMES = sorted(path.name for path in CATALOGUE.iterdir() if path.is_dir() and not path.name.startswith("_"))


def shipped(name: str):
    return load_catalogue(CATALOGUE).get(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_template_is_shown_from_its_sample_alone(name):
    shown = preview(shipped(name), {})
    assert shown.content.subject
    assert [item.address for item in shown.recipients] == [Address("ada@example.com", "Ada Lovelace")]


def test_what_is_given_stands_before_the_sample():
    user = {"name": "Zoë", "email": "zoe@example.com", "dashboard_url": "https://x.example"}
    shown = preview(shipped("welcome"), {"user": user})
    assert shown.recipients[0].address == Address("zoe@example.com", "Zoë")
    assert "Hello Zoë" in (shown.content.text or "")


def test_a_mistake_is_told_as_a_submission_would_be():
    with pytest.raises(InvalidSubmission, match="welcome has no field idd; did you mean id"):
        preview(shipped("welcome"), {"idd": 1})
    with pytest.raises(InvalidSubmission, match="id must be of type integer, not string"):
        preview(shipped("welcome"), {"id": "x"})


def test_what_the_data_lacks_is_told_as_the_sending_would(tmp_path):
    (tmp_path / "a").mkdir()
    for file, text in {"subject.txt": "s", "body.txt": "Hello\n{{ user.name }}", "sample.json": '{"user": {}}'}.items():
        (tmp_path / "a" / file).write_text(text)
    with pytest.raises(RenderingError, match=r"a/body.txt, line 2"):
        preview(load_catalogue(tmp_path).get("a"), {})


def test_a_sample_without_a_good_address_can_still_be_looked_at(tmp_path):
    (tmp_path / "a").mkdir()
    manifest = 'events = ["x.y"]\nto = { email = "{{ email }}" }'
    sample = '{"email": "nobody"}'
    content = {"subject.txt": "{{ event.name }}", "body.txt": "b", "sample.json": sample, "template.toml": manifest}
    for file, text in content.items():
        (tmp_path / "a" / file).write_text(text)
    shown = preview(load_catalogue(tmp_path).get("a"), {})
    assert (shown.content.subject, shown.recipients) == ("x.y", ())
    with pytest.raises(AddressError, match="'somebody' is not an email address"):
        preview(load_catalogue(tmp_path).get("a"), {"email": "somebody"})


def test_a_subject_over_two_lines_is_told_as_the_sending_would(tmp_path):
    (tmp_path / "a").mkdir()
    for file, text in {"subject.txt": "{{ title }}", "body.txt": "b"}.items():
        (tmp_path / "a" / file).write_text(text)
    with pytest.raises(HeaderError, match="the subject has the control character"):
        preview(load_catalogue(tmp_path).get("a"), {"title": "a\nb"})
