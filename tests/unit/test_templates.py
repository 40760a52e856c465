"""A folder is a template; a broken one is named, and stops nobody else's mail."""

import os
import shutil
from pathlib import Path

import pytest

from mailer.catalogue import TemplateLibrary, load_catalogue
from mailer.errors import TemplateError, TemplateUnavailable, UnknownEvent, UnknownTemplate
from mailer.templates import MAX_FILE_BYTES

GOOD = {"subject.txt": "Hello {{ name }}", "body.txt": "Dear {{ name }}"}


def write(root: Path, name: str, files: dict[str, str | bytes]) -> None:
    for file, content in files.items():
        path = root / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def trouble(root: Path, files: dict[str, str | bytes], shared: dict[str, str | bytes] | None = None) -> str:
    """What is said of a broken folder that stands beside a good one."""
    write(root, "broken", files)
    write(root, "good", GOOD)
    write(root, ".", shared or {})
    catalogue = load_catalogue(root)
    assert list(catalogue.templates) == ["good"]
    assert list(catalogue.broken) == ["broken"]
    return catalogue.broken["broken"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"body.txt": "x"}, "subject.txt is missing or empty"),
        ({"subject.txt": " \n", "body.txt": "x"}, "subject.txt is missing or empty"),
        ({"subject.txt": "x"}, "body.html and body.txt are both missing"),
        ({**GOOD, "template.toml": 'layout = "fancy"'}, "there is no layout _layouts/fancy.txt"),
        ({**GOOD, "template.toml": "to = ["}, "template.toml is not valid TOML"),
        ({**GOOD, "template.toml": 'strem = "bulk"'}, "template.toml: strem: "),
        ({**GOOD, "template.toml": b"\xff"}, "template.toml is not UTF-8"),
        ({**GOOD, "subject.txt": b"caf\xe9"}, "subject.txt is not UTF-8"),
        ({**GOOD, "body.txt": b"x" * (MAX_FILE_BYTES + 1)}, "body.txt is larger than 1,000,000 bytes"),
        ({**GOOD, "body.txt": "{% if %}"}, "broken/body.txt, line 1: "),
        ({**GOOD, "body.txt": "a\n{{ x"}, "broken/body.txt, line 2: "),
        ({**GOOD, "body.txt": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}"}, "broken/body.txt: "),
        ({**GOOD, "body.txt": "{% extends '_layouts/x.txt' %}"}, "name the layout in template.toml"),
        ({**GOOD, "body.txt": "{% include part %}"}, "a partial must be named by a constant"),
        ({**GOOD, "body.txt": "{% include '_partials/' ~ name %}"}, "a partial must be named by a constant"),
        ({**GOOD, "body.txt": "{% include '_partials/none.txt' %}"}, "there is no _partials/none.txt"),
        ({**GOOD, "body.txt": "{% include '../secret.txt' %}"}, "there is no ../secret.txt"),
        ({**GOOD, "body.txt": "{{ sources.app }}"}, "sources cannot be used here"),
        ({**GOOD, "subject.txt": "{{ secrets.token }}"}, "secrets cannot be used here"),
        ({**GOOD, "template.toml": "[fields]\nnam = {}"}, "name is used, but is neither in [fields] nor a source"),
        ({**GOOD, "template.toml": '[fields]\nname={}\n[fetch.u]\nurl="{{ idd }}"'}, "idd is used, but is neither in"),
        ({**GOOD, "template.toml": '[fetch.u]\nurl="{{ v }}"\n[fetch.v]\nurl="x"'}, "fetch.u cannot use v"),
        ({**GOOD, "template.toml": '[fetch.u]\nurl="{{ secrets.a }}"'}, "fetch.u cannot use secrets"),
        ({**GOOD, "template.toml": '[fetch.u]\nurl="{{ mail.subject }}"'}, "fetch.u cannot use mail"),
        ({**GOOD, "sample.json": "{"}, "sample.json is not valid JSON"),
        ({**GOOD, "sample.json": "[]"}, "sample.json must be an object"),
        ({**GOOD, "body.html": '<p {% if name %} class="a" {% endif %}>x</p>'}, "stands between attributes"),
    ],
)
def test_a_broken_folder_is_named_and_the_others_still_work(tmp_path, files, said):
    assert said in trouble(tmp_path, files)


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("no block", "_layouts/fancy.txt must have one"),
        ("{% block content %}{% endblock %}" * 2, "_layouts/fancy.txt must have one"),
        ("{% block content %}{% endblock %}{{ sender_name }}", "sender_name is used, but is neither in [fields]"),
        (b"\xff", "fancy.txt is not UTF-8"),
    ],
)
def test_a_mistake_in_a_layout_is_told_for_the_templates_that_use_it(tmp_path, layout, said):
    files = {**GOOD, "template.toml": 'layout = "fancy"\n[fields]\nname = {}'}
    assert said in trouble(tmp_path, files, {"_layouts/fancy.txt": layout})


@pytest.mark.parametrize(
    ("partial", "said"),
    [
        ("{% if %}", "_partials/p.txt, line 1"),
        (b"\xff", "_partials/p.txt is not UTF-8"),
        ("{{ footer }}", "footer is used, but is neither in [fields]"),
        ("{% include '_partials/q.txt' %}", "there is no _partials/q.txt"),
    ],
)
def test_a_mistake_in_a_partial_is_told_for_the_templates_that_use_it(tmp_path, partial, said):
    files = {**GOOD, "body.txt": "{% include '_partials/p.txt' %}", "template.toml": "[fields]\nname = {}"}
    assert said in trouble(tmp_path, files, {"_partials/p.txt": partial})


def test_partials_that_include_each_other_do_not_hang_the_load(tmp_path):
    write(tmp_path, "_partials", {"p.txt": "{% if x %}{% include '_partials/p.txt' %}{% endif %}"})
    write(tmp_path, "a", {"subject.txt": "s", "body.txt": "{% include '_partials/p.txt' %}"})
    assert set(load_catalogue(tmp_path).templates["a"].fields) == {"x"}


@pytest.mark.parametrize("name", ["with space", "ünï", "a.b", "-a", "x" * 101])
def test_a_folder_that_no_request_could_name_is_broken(tmp_path, name):
    write(tmp_path, name, GOOD)
    assert "letters, digits, - and _ only" in load_catalogue(tmp_path).broken[name]


def test_hidden_and_shared_folders_and_loose_files_are_no_templates(tmp_path):
    for name in (".git", "_layouts", "_partials"):
        write(tmp_path, name, GOOD)
    (tmp_path / "README.md").write_text("x")
    catalogue = load_catalogue(tmp_path)
    assert (catalogue.templates, catalogue.broken) == ({}, {})


def test_no_folder_at_all_names_the_setting(tmp_path):
    with pytest.raises(TemplateError, match="POSTROOM_TEMPLATES_DIR"):
        load_catalogue(tmp_path / "nowhere")


def test_without_fields_every_variable_the_template_uses_is_one(tmp_path):
    manifest = 'to = { email = "{{ email }}" }\n[fetch.user]\nurl = "{{ sources.app }}/users/{{ id }}"'
    write(
        tmp_path,
        "a",
        {"subject.txt": "{{ user.name }}", "body.txt": "{{ x }} {{ event.id }}", "template.toml": manifest},
    )
    template = load_catalogue(tmp_path).get("a")
    assert set(template.fields) == {"email", "id", "x"}
    assert template.uses_event


@pytest.mark.parametrize(("name", "hint"), [("welcme", "did you mean welcome?"), ("xyz", "There is no template 'xyz'")])
def test_an_unknown_template_is_refused_with_the_nearest_name(tmp_path, name, hint):
    write(tmp_path, "welcome", GOOD)
    with pytest.raises(UnknownTemplate, match=hint) as caught:
        load_catalogue(tmp_path).get(name)
    assert caught.value.errors[0].pointer == "/template"


def test_an_unknown_event_is_refused_with_the_nearest_name(tmp_path):
    write(tmp_path, "welcome", {**GOOD, "template.toml": 'events = ["user.signed_up"]'})
    with pytest.raises(UnknownEvent, match=r"did you mean user.signed_up\?") as caught:
        load_catalogue(tmp_path).answering("user.signedup")
    assert caught.value.errors[0].pointer == "/event"


def test_each_template_that_answers_an_event_is_found_in_order(tmp_path):
    for name in ("b", "a", "c"):
        write(tmp_path, name, {**GOOD, "template.toml": 'events = ["x"]' if name != "c" else 'events = ["y"]'})
    assert [template.name for template in load_catalogue(tmp_path).answering("x")] == ["a", "b"]


def test_an_event_of_a_broken_folder_waits_for_the_mend(tmp_path):
    """Accepting it for the other templates alone would lose a mail for good."""
    write(tmp_path, "good", {**GOOD, "template.toml": 'events = ["user.signed_up"]'})
    write(tmp_path, "bad", {**GOOD, "template.toml": 'events = ["user.signed_up"]', "body.txt": "{% if %}"})
    catalogue = load_catalogue(tmp_path)
    with pytest.raises(TemplateUnavailable, match=r"bad answers user.signed_up, but is broken"):
        catalogue.answering("user.signed_up")
    with pytest.raises(TemplateUnavailable, match=r"The template bad is broken: bad/body.txt, line 1"):
        catalogue.get("bad")
    assert catalogue.get("good").name == "good"


VERSIONED = {
    "a/subject.txt": "s", "a/body.txt": "{% include '_partials/p.txt' %}", "a/template.toml": 'layout = "l"',
    "a/sample.json": "{}", "_layouts/l.txt": "{% block content %}{% endblock %}", "_partials/p.txt": "p",
}  # fmt: skip


def _version(root: Path) -> str:
    return load_catalogue(root).get("a").version


@pytest.mark.parametrize("file", VERSIONED)
def test_the_version_changes_with_every_file_the_mail_is_made_of(tmp_path, file):
    write(tmp_path, ".", dict(VERSIONED))
    before = _version(tmp_path)
    (tmp_path / file).write_text(VERSIONED[file] + " ")
    assert _version(tmp_path) != before


def test_the_version_changes_with_a_new_file_and_with_nothing_else(tmp_path):
    write(tmp_path, ".", dict(VERSIONED))
    before = _version(tmp_path)
    write(tmp_path, "b", GOOD)
    os.utime(tmp_path / "a/subject.txt", (1, 1))
    assert _version(tmp_path) == before
    shutil.copytree(tmp_path, tmp_path / "elsewhere")
    assert _version(tmp_path / "elsewhere") == before
    (tmp_path / "a/body.html").write_text("<p>x</p>")
    (tmp_path / "_layouts/l.html").write_text("{% block content %}{% endblock %}")
    assert _version(tmp_path) != before


@pytest.mark.parametrize(("reload", "seen"), [(True, "new"), (False, "old")])
def test_a_changed_folder_is_read_again_where_that_was_asked_for(tmp_path, reload, seen):
    write(tmp_path, "a", {**GOOD, "template.toml": 'description = "old"'})
    library = TemplateLibrary(tmp_path, reload=reload)
    write(tmp_path, "a", {"template.toml": 'description = "new"'})
    os.utime(tmp_path / "a/template.toml", (2e9, 2e9))
    assert library.catalogue(0.5).get("a").manifest.description == "old", "at most once a second"
    assert library.catalogue(1.5).get("a").manifest.description == seen


def test_an_unchanged_folder_is_not_read_again(tmp_path):
    write(tmp_path, "a", GOOD)
    library = TemplateLibrary(tmp_path, reload=True)
    assert library.catalogue(5) is library.catalogue(10)
