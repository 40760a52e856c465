"""`POSTROOM_SMTP_URL`: understood, or refused with the part in the wrong, and the password never shown."""

import traceback

import pytest

from mailer.errors import SettingsError
from worker.relays.relay import Relay, relay_from
from worker.settings import WorkerProcessSettings

PASSWORD = "hunter2"


def relay(url: str, **environ: str) -> Relay:
    more = {f"POSTROOM_{name.upper()}": value for name, value in environ.items()}
    return relay_from(WorkerProcessSettings.load({"POSTROOM_SMTP_URL": url, **more}))


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("smtp://mail.example", "mail.example", 587, "starttls"),
        ("smtp://mail.example:25", "mail.example", 25, "starttls"),
        ("SMTP://Mail.Example/", "mail.example", 587, "starttls"),
        ("smtp://mail.example?tls=required", "mail.example", 587, "starttls"),
        ("smtp://mail.example:25?tls=none", "mail.example", 25, "none"),
        ("smtps://mail.example", "mail.example", 465, "implicit"),
        ("smtps://mail.example:2465?tls=required", "mail.example", 2465, "implicit"),
        ("smtp://[2001:db8::1]:25", "2001:db8::1", 25, "starttls"),
    ],
)
def test_tls_is_required_unless_it_is_turned_off(url, host, port, tls):
    found = relay(url)
    assert (found.host, found.port, found.tls) == (host, port, tls)
    assert (found.username, found.password) == (None, None)
    assert found.connections == 30


def test_without_a_setting_it_is_this_machines_own_server():
    assert relay("").host == "127.0.0.1"


@pytest.mark.parametrize(
    ("url", "username", "password"),
    [
        (f"smtp://ada:{PASSWORD}@mail.example", "ada", PASSWORD),
        ("smtp://ada%40acme.example:p%40ss%2Fw%3Ard%23%3F%25@mail.example", "ada@acme.example", "p@ss/w:rd#?%"),
        ("smtp://ada:p:w@mail.example", "ada", "p:w"),
        ("smtp://ada@acme.example:pw@mail.example", "ada@acme.example", "pw"),
        ("smtp://zo%C3%AB:%C3%A9@mail.example", "zoë", "é"),
        ("smtp://a+b:c+d@mail.example", "a+b", "c+d"),
    ],
)
def test_user_and_password_are_percent_decoded(url, username, password):
    found = relay(url)
    assert (found.username, found.password, found.host) == (username, password, "mail.example")


def test_user_and_password_may_stand_outside_the_url():
    found = relay("smtp://mail.example", smtp_username="ada", smtp_password="p@ss/w%23")
    assert (found.username, found.password) == ("ada", "p@ss/w%23")
    assert relay("smtp://ada:old@mail.example", smtp_password="new").password == "new"
    assert relay("smtp://ada@mail.example", smtp_password="new").username == "ada"


def test_the_records_name_the_relay_as_its_operator_does():
    assert relay("smtp://ada:pw@mail.example").name == "mail.example:587"
    assert relay("smtp://mail.example?name=ses&connections=5").name == "ses"
    assert relay("smtp://mail.example?name=ses&connections=5").connections == 5


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mail.example:587", "must begin with smtp:// or smtps://"),
        ("http://mail.example", "must begin with smtp:// or smtps://"),
        ("//mail.example", "must begin with smtp:// or smtps://"),
        ("smtp://", "names no host that can be one"),
        ("smtp://:587", "names no host that can be one"),
        ("smtp://mail..example", "names no host that can be one"),
        ("smtp://email-smtp.eu-central-1.amazonaws.com%20", "names no host that can be one"),
        ("smtp://" + "z" * 64 + ".example", "names no host that can be one"),
        ("smtp://mail.example:0", "0 is no port"),
        (f"smtp://ada:{PASSWORD}@", "names no host that can be one"),
        ("smtp://mail.example:smtp", "is not a URL with a port"),
        ("smtp://mail.example:99999", "is not a URL with a port"),
        ("smtp://[::1", "is not a URL with a port"),
        ("smtp://mail.example/inbox", "has something after the port"),
        ("smtp://mail.example#a", "has something after the port"),
        ("smtp://ada@mail.example", "needs both user and password"),
        ("smtp://:pw@mail.example", "needs both user and password"),
        ("smtp://ada:@mail.example", "needs both user and password"),
        ("smtp://mail.example?tls=maybe", "tls must be required or none, not 'maybe'"),
        ("smtp://mail.example?tls=", "tls must be required or none, not ''"),
        ("smtp://mail.example?tsl=none", "there is no option 'tsl'; known are connections, name, tls"),
        ("smtps://mail.example?tls=none", "smtps:// is TLS from the start"),
        ("smtp://mail.example?connections=0", "connections must be a number from 1 to 1000"),
        ("smtp://mail.example?connections=1001", "connections must be a number from 1 to 1000"),
        ("smtp://mail.example?connections=many", "connections must be a number from 1 to 1000"),
        (f"smtp://ada:{PASSWORD}@mail.example?tls=none", "the password would travel in clear"),
    ],
)
def test_a_mistake_is_named(url, said):
    with pytest.raises(SettingsError, match="POSTROOM_SMTP_URL") as caught:
        relay(url)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"smtp://ada:{PASSWORD}/x@mail.example",
        f"smtp://ada:x/{PASSWORD}@mail.example",
        f"smtp://ada:{PASSWORD}#x@mail.example",
        f"smtp://ada:12#{PASSWORD}@mail.example",
        f"smtp://ada:{PASSWORD}?x@mail.example",
        f"smtp://ada:12?{PASSWORD}@mail.example",
        f"smtp://ada:12?x&{PASSWORD}@mail.example",
        f"smtp://ada:12?tls={PASSWORD}@mail.example",
        f"smtp://ada:{PASSWORD}\u2100@mail.example",
        f"smtp://ada:{PASSWORD}[@mail.example",
        f"smtp://ada:{PASSWORD}@mail.example:x",
        f"smtp://:{PASSWORD}@mail.example",
        f"smtp://ada:{PASSWORD}@mail.example?tls=none",
        f"http://ada:{PASSWORD}@mail.example",
        f"ada:{PASSWORD}@mail.example",
    ],
)
def test_a_password_that_breaks_the_url_is_not_repeated_not_even_in_the_traceback(url):
    with pytest.raises(SettingsError) as caught:
        relay(url)
    shown = traceback.format_exception(caught.value)
    assert PASSWORD not in "".join(part for part in shown if not part.lstrip().startswith("File "))


def test_a_relay_has_no_password_in_its_repr():
    assert PASSWORD not in repr(relay(f"smtp://ada:{PASSWORD}@mail.example"))
