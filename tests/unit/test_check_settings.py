"""What `postroom check` says of settings: each that is set, where it is from, and what is wrong with it."""

from pathlib import Path

import pytest

from cli.check_settings import check_settings
from cli.findings import Finding, State

SECRET = "hunter2-hunter2-hunter2"


def found(environ: dict[str, str], *, defaults: bool = False) -> dict[str, Finding]:
    section, _ = check_settings(environ, defaults=defaults)
    return {finding.name: finding for finding in section.findings}


def test_what_is_set_is_shown_with_its_origin(tmp_path: Path):
    (tmp_path / "url").write_text(f"redis://:{SECRET}@queue.example\n")
    seen = found(
        {
            "POSTROOM_REDIS_URL_FILE": str(tmp_path / "url"),
            "POSTROOM_PORT": "9000",
            "POSTROOM_HOST": "",
            "POSTROOM_SOURCE_APP": f"http://ada:{SECRET}@app:80",
            "POSTROOM_SECRET_APP": SECRET,
            "HOME": "/root",
        }
    )
    assert [(name, each.state, each.detail, each.origin) for name, each in seen.items()] == [
        ("POSTROOM_REDIS_URL", State.OK, "redis://***@queue.example:6379/0", f"file {tmp_path / 'url'}"),
        ("POSTROOM_PORT", State.OK, "9000", "environment"),
        ("POSTROOM_SECRET_APP", State.OK, "***", "environment"),
        ("POSTROOM_SOURCE_APP", State.OK, "http://***@app:80", "environment"),
    ]


def test_nothing_set_is_said_and_the_defaults_are_there_when_asked_for():
    assert list(found({})) == ["none"]
    seen = found({"POSTROOM_PORT": "9000"}, defaults=True)
    assert (seen["POSTROOM_PORT"].detail, seen["POSTROOM_PORT"].origin) == ("9000", "environment")
    assert (seen["POSTROOM_WORKER_SLOTS"].detail, seen["POSTROOM_WORKER_SLOTS"].origin) == ("100", "default")
    assert {seen[name].detail for name in ("POSTROOM_FROM", "POSTROOM_API_KEYS", "POSTROOM_BACKOFF")} == {"none"}
    assert seen["POSTROOM_TEMPLATES_RELOAD"].detail == "false"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("POSTROOM_PORT", "http"),
        ("POSTROOM_WORKER_SLOTS", "0"),
        ("POSTROOM_BACKOFF", "{"),
        ("POSTROOM_REDIS_URL", "queue:6379"),
        ("POSTROOM_SOURCE_APP", "app:8080"),
        ("POSTROOM_KEY_FILE", "/nowhere/key"),
    ],
)
def test_a_mistake_is_told_at_its_variable_and_hides_no_other(variable, value):
    seen = found({variable: value, "POSTROOM_FROM": "Acme", "POSTROOM_LEASE_S": "12"})
    broken = {name for name, each in seen.items() if each.state is State.BROKEN}
    assert broken == {variable.removesuffix("_FILE"), "POSTROOM_FROM"}
    assert seen["POSTROOM_LEASE_S"].detail == "12"


def test_a_variable_that_nobody_reads_is_told_with_the_nearest_name():
    seen = found({"POSTROOM_SMTP_ULR": SECRET, "POSTROOM_PORT_FILE": "x", "POSTROOM_QQQQ": "x"})
    assert {(each.name, each.state, each.fix) for each in seen.values()} == {
        ("POSTROOM_SMTP_ULR", State.WARNING, "Did you mean POSTROOM_SMTP_URL?"),
        ("POSTROOM_PORT_FILE", State.WARNING, "Did you mean POSTROOM_PORT?"),
        ("POSTROOM_QQQQ", State.WARNING, "Remove it, or correct its name."),
    }
    assert SECRET not in str(seen)


def test_the_relay_file_is_shown_without_its_secrets(tmp_path: Path):
    file = tmp_path / "postroom.toml"
    file.write_text(
        f'[[relays]]\nname = "ses"\nurl = "smtp://mail.example"\nusername = "{SECRET}"\npassword = "{SECRET}"\n'
        f'[[relays]]\nurl = "smtp://ada:{SECRET}@second.example"\n'
    )
    seen = found({"POSTROOM_CONFIG": str(file)})
    assert (seen["relays[0]"].detail, seen["relays[0]"].origin) == (
        "name=ses  url=smtp://mail.example:587  username=***  password=***",
        "postroom.toml",
    )
    assert seen["relays[1]"].detail == "url=smtp://***@second.example:587"


def test_relays_that_cannot_be_understood_are_told_by_their_own_words(tmp_path: Path):
    file = tmp_path / "postroom.toml"
    file.write_text(f'[[relays]]\nurl = "smtp://mail.example"\npasword = "{SECRET}"\n')
    section, loaded = check_settings({"POSTROOM_CONFIG": str(file)}, defaults=False)
    assert loaded.relays is None
    assert loaded.relay_trouble is not None
    assert "did you mean password?" in loaded.relay_trouble
    assert SECRET not in f"{section} {loaded}"


def test_whether_a_relay_is_set_is_known():
    assert not check_settings({}, defaults=False)[1].names_a_relay
    assert check_settings({"POSTROOM_SMTP_URL": "smtp://mail.example"}, defaults=False)[1].names_a_relay
