"""The file with several relays: understood, or refused with the place in it, and no secret ever shown."""

import os
import re
import traceback
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from mailer.errors import SettingsError
from worker.relays.relay import Relay, relays_from
from worker.relays.relay_file import read_relay_file
from worker.settings import WorkerProcessSettings

ROOT = Path(__file__).parents[2]
PASSWORD = "hunter2"
TWO = """
[[relays]]
name = "ses"
url = "smtp://email-smtp.eu-central-1.amazonaws.com:587"
username = "AKIA/+%"
password_file = "ses.secret"
connections = 20
rate = "14/s"
senders = ["acme.example", "Billing@SHOP.example"]

[[relays]]
url = "smtp://localhost:25?tls=none&rate=600/m"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "postroom.toml"


def relays(file: Path, text: str | bytes, **environ: str) -> tuple[Relay, ...]:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    more = {f"POSTROOM_{name.upper()}": value for name, value in environ.items()}
    return relays_from(WorkerProcessSettings.load({"POSTROOM_CONFIG": str(file), **more}))


def trouble(file: Path, text: str | bytes, **environ: str) -> str:
    """What is said; `PASSWORD` and URLs are nowhere in it, nor in the traceback."""
    with pytest.raises(SettingsError) as caught:
        relays(file, text, **environ)
    shown = traceback.format_exception(caught.value)
    assert PASSWORD not in "".join(part for part in shown if not part.lstrip().startswith("File "))
    return str(caught.value).replace(f"{file}", "FILE")


def test_the_first_relay_is_preferred_and_each_has_what_its_table_says(file):
    (file.parent / "ses.secret").write_text(f"{PASSWORD}\n")
    first, second = relays(file, TWO)
    assert first == Relay(
        name="ses",
        host="email-smtp.eu-central-1.amazonaws.com",
        port=587,
        tls="starttls",
        username="AKIA/+%",
        password=PASSWORD,
        connections=20,
        rate=14.0,
        senders=("acme.example", "Billing@shop.example"),
    )
    assert second == Relay("localhost:25", "localhost", 25, "none", None, None, rate=10.0)


def test_an_option_means_the_same_in_the_url_and_beside_it(file):
    in_url = 'url = "smtp://ada:pw@mail.example?name=a&connections=5&rate=20/s&tls=required&senders=acme.example"'
    beside = """
        url = "smtp://mail.example"
        username = "ada"
        password = "pw"
        name = "a"
        connections = 5
        rate = "20/s"
        tls = "required"
        senders = ["acme.example"]
    """
    assert relays(file, f"[[relays]]\n{in_url}") == relays(file, f"[[relays]]\n{beside}")


def test_user_and_password_beside_the_url_win_over_those_in_it(file):
    (file.parent / "secret").write_text("of the file")
    (only,) = relays(file, '[[relays]]\nurl = "smtp://ada:old@mail.example"\npassword = "new"')
    assert (only.username, only.password) == ("ada", "new")
    (only,) = relays(file, '[[relays]]\nurl = "smtp://ada:old@mail.example"\npassword_file = "secret"')
    assert (only.username, only.password) == ("ada", "of the file")


def test_a_byte_order_mark_is_no_mistake(file):
    (only,) = relays(file, b'\xef\xbb\xbf[[relays]]\r\nurl = "smtps://mail.example"\r\n')
    assert (only.tls, only.port) == ("implicit", 465)


def test_a_passwords_file_is_looked_for_beside_the_file_that_names_it(file, monkeypatch):
    (file.parent / "ses.secret").write_text("beside")
    elsewhere = file.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "ses.secret").write_text("of the working directory")
    monkeypatch.chdir(elsewhere)
    assert relays(file, TWO)[0].password == "beside"
    monkeypatch.chdir(file.parent)
    assert relays(Path(file.name), TWO)[0].password == "beside"


def test_no_file_is_read_that_nobody_named(file, monkeypatch):
    file.write_text("[[relays]]\nurl = 'smtp://mail.example'")
    monkeypatch.chdir(file.parent)
    assert relays_from(WorkerProcessSettings.load({}))[0].host == "127.0.0.1"
    assert relays_from(WorkerProcessSettings.load({"POSTROOM_CONFIG": ""}))[0].host == "127.0.0.1"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", 'FILE: relays[1] has no url: write url = "smtp://host:587"'),
        ("url = 25", "FILE: relays[1].url must be text"),
        ('url = ""', "FILE: relays[1].url must begin with smtp:// or smtps://"),
        (f'url = "http://ada:{PASSWORD}@mail.example"', "FILE: relays[1].url must begin with smtp://"),
        (f'url = "smtp://ada:{PASSWORD}/x@mail.example"', "FILE: relays[1].url is not a URL with a port"),
        (f'url = "smtp://ada:{PASSWORD}@mail.example?rate=x"', "FILE: relays[1].url: rate must be mails per"),
        (f'url = "smtp://ada:{PASSWORD}@mail.example?tls=none"', "FILE: relays[1]: with tls=none the password would"),
        ('url = "smtp://mail.example?tsl=none"', "FILE: relays[1].url: there is no option 'tsl'; did you mean tls?"),
        (f'url = "smtp://mail.example"\nusername = "ada:{PASSWORD}"', "FILE: relays[1] needs both user and password"),
        (f'url = "smtp://mail.example"\npassword = "{PASSWORD}"', "FILE: relays[1] needs both user and password"),
        (f'url = "smtp://mail.example"\npassword = ["{PASSWORD}"]', "FILE: relays[1].password must be text"),
        (f'url = "smtp://mail.example"\npassword = "{PASSWORD}\\u0000"', "FILE: relays[1].password has a control"),
        ('url = "smtp://ada:pw@mail.example"\npassword = ""', "FILE: relays[1].password must be text, and not empty"),
        ('url = "smtp://ada:pw@mail.example"\nusername = 7', "FILE: relays[1].username must be text"),
        (
            f'url = "smtp://mail.example"\nusername = "ada"\npassword = "{PASSWORD}"\npassword_file = "secret"',
            "FILE: relays[1] has both password and password_file: keep one",
        ),
        ('host = "mail.example"', "FILE: relays[1]: there is no option 'host'; known are ca_file, cert_file"),
        ('url = "smtp://mail.example"\nrates = "1/s"', "there is no option 'rates'; did you mean rate?"),
        ('url = "smtp://mail.example?rate=1/s"\nrate = "1/s"', "FILE: relays[1].rate stands in the URL as well"),
        ('url = "smtp://mail.example"\nrate = 20', "FILE: relays[1].rate must be mails per second, minute or hour"),
        ('url = "smtp://mail.example"\nconnections = true', "FILE: relays[1].connections must be a number from 1"),
        ('url = "smtp://mail.example"\nconnections = 1.5', "FILE: relays[1].connections must be a number from 1"),
        ('url = "smtp://mail.example"\ntls = false', "FILE: relays[1].tls must be required or none"),
        ('url = "smtps://mail.example"\ntls = "none"', "FILE: relays[1].tls must not be none: smtps:// is TLS from"),
        ('url = "smtp://mail.example"\nname = ["ses"]', "FILE: relays[1].name must be at most 100 letters"),
        ('url = "smtp://mail.example"\nname = "first"', "FILE: relays[1].name is first, as is that of FILE: relays[0]"),
        ('url = "smtp://mail.example"\nsenders = []', "FILE: relays[1].senders must list domains and addresses"),
        ('url = "smtp://mail.example"\nsenders = [1]', "FILE: relays[1].senders must list domains and addresses"),
        ('url = "smtp://mail.example"\nsenders = ["a b"]', "FILE: relays[1].senders has 'a b', neither a domain"),
        ('url = "smtp://mail.example"\nca_file = 1', "FILE: relays[1].ca_file must be text"),
        ('url = "smtp://mail.example"\nca_file = "a\\u0000"', "FILE: relays[1].ca_file has a control character"),
        ('url = "smtp://mail.example"\n[relays.tls]\nca = 1', "FILE: relays[1].tls must be required or none"),
    ],
)
def test_a_mistake_is_named_by_its_place(file, table, said):
    first = '[[relays]]\nname = "first"\nurl = "smtp://mail.example"\n'
    assert said in trouble(file, f"{first}[[relays]]\n{table}")


def test_two_relays_of_one_host_need_names(file):
    table = '[[relays]]\nurl = "smtp://mail.example"\n'
    assert "relays[1].name is mail.example:587, as is that of FILE: relays[0]" in trouble(file, table * 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "FILE names no relay: write [[relays]]"),
        ("relays = []", "FILE names no relay: write [[relays]]"),
        ("relays = 'x'", "FILE: relays must be tables: write [[relays]]"),
        ("relays = ['x']", "FILE: relays must be tables: write [[relays]]"),
        ("[relays]\nurl = 'smtp://mail.example'", "FILE: relays must be tables: write [[relays]]"),
        ("[[relay]]\nurl = 'smtp://mail.example'", "FILE: there is no 'relay' here; only [[relays]] is known"),
        (TWO + "[webhooks]\n", "FILE: there is no 'webhooks' here; only [[relays]] is known"),
        ('[[relays]]\nurl = "smtp://mail.example"\n' * 21, "FILE: relays has more than 20"),
        (f"[[relays]]\npassword = {PASSWORD}", "FILE is not valid TOML at line 2, column 12"),
        (f"[[relays]]\npassword = '{PASSWORD}", "FILE is not valid TOML at end of document"),
        (f"[[relays]]\npassword = {{ {PASSWORD} = 1, {PASSWORD} = 2 }}", "FILE is not valid TOML at line 2"),
        ("[[relays]]\nconnections = " + "9" * 5000, "FILE is not valid TOML"),
        ("relays = " + "[" * 50_000, "FILE is not valid TOML"),
        (b"[[relays]]\npassword = 'caf\xe9'", "FILE is not valid UTF-8 at line 2"),
        (b"#" * 1_000_001, "POSTROOM_CONFIG: FILE is larger than 1,000,000 bytes"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "bytes",
)
def test_a_file_that_is_none_of_relays_is_refused(file, text, said):
    assert said in trouble(file, text)


@pytest.mark.parametrize("variable", ["smtp_url", "smtp_username", "smtp_password"])
def test_the_relays_are_named_in_one_place(file, variable):
    value = {"smtp_url": f"smtp://ada:{PASSWORD}@mail.example"}.get(variable, PASSWORD)
    said = trouble(file, TWO, **{variable: value})
    assert said == f"POSTROOM_CONFIG and POSTROOM_{variable.upper()} are both set: keep one of them"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, why in [("none.toml", "cannot be read"), (".", "is not a file"), ("pipe", "is not a file")]:
        path = tmp_path / name
        with pytest.raises(SettingsError, match=f"^POSTROOM_CONFIG: {path} {why}"):
            relays_from(WorkerProcessSettings.load({"POSTROOM_CONFIG": str(path)}))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "ses.secret cannot be read (No such file or directory)"),
        (b"", "must be text, and not empty"),
        (b"\n", "must be text, and not empty"),
        (f"{PASSWORD}\n{PASSWORD}".encode(), "has a control character"),
        (f"{PASSWORD}\xff".encode("latin-1"), "cannot be read (it is not valid UTF-8)"),
        (PASSWORD.encode() * 10_000, "is larger than"),
    ],
    ids=["missing", "empty", "only an end of line", "two lines", "not UTF-8", "too large"],
)
def test_a_password_file_that_holds_no_password_is_named(file, content, why):
    if content is not None:
        (file.parent / "ses.secret").write_bytes(content)
    said = trouble(file, TWO)
    assert said.startswith("FILE: relays[0].password_file: ")
    assert why in said


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_what_an_editor_puts_around_a_password_is_no_part_of_it(file, ending):
    (file.parent / "ses.secret").write_bytes(b"\xef\xbb\xbf" + PASSWORD.encode() + ending)
    assert relays(file, TWO)[0].password == PASSWORD


@given(st.text(), st.sampled_from(["", "[[relays]]\n", "[[relays]]\nurl = '"]))
def test_no_text_at_all_is_more_than_refused(tmp_path_factory, text, before):
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(before + text, encoding="utf-8", newline="")
    assert said_of(file).startswith(str(file))


def said_of(file: Path) -> str:
    try:
        return f"{file} has {len(read_relay_file(file, 'POSTROOM_CONFIG'))}"
    except SettingsError as error:
        return str(error)


def test_dev_mode_sends_through_no_relay_of_the_file(file, monkeypatch):
    from cli.dev import Plan
    from cli.settings import DevSettings
    from mailer.settings import MailerSettings
    from service.settings import ServiceSettings

    file.write_text(TWO)
    monkeypatch.setenv("POSTROOM_CONFIG", str(file))
    monkeypatch.setenv("POSTROOM_SMTP_USERNAME", "ada")
    plan = Plan(MailerSettings.load({}), ServiceSettings.load({}), DevSettings.load({}), own_queue=None)
    (only,) = relays_from(WorkerProcessSettings.load(plan.environment("redis://127.0.0.1:6379/0")))
    assert (only.name, only.host, only.port) == ("mailbox", "127.0.0.1", 1025)


def test_the_pages_example_is_one(file):
    example = re.search(r"```toml\n(.*?)```", (ROOT / "docs" / "relays.md").read_text(), re.DOTALL)
    assert example is not None
    own = trustme.CA().issue_cert("postroom.example")
    (file.parent / "ses.secret").write_text(PASSWORD)
    own.cert_chain_pems[0].write_to_path(file.parent / "internal-ca.pem")
    own.cert_chain_pems[0].write_to_path(file.parent / "postroom.pem")
    own.private_key_pem.write_to_path(file.parent / "postroom.key")
    ses, smarthost, local = relays(file, example[1])
    assert (ses.name, ses.rate, ses.connections) == ("ses", 14, 20)
    assert (smarthost.name, smarthost.key_file) == ("smarthost", file.parent / "postroom.key")
    assert (local.name, local.tls) == ("127.0.0.1:25", "none")
