"""`POSTROOM_SMTP_URL`: understood, or refused with the part in the wrong, and the password never shown."""

import dataclasses
import socket
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.addresses import parse_address
from mailer.errors import SettingsError
from mailer.relays import RelayDescription
from worker.relays.relay import Relay, describe, relays_from
from worker.settings import WorkerProcessSettings

PASSWORD = "hunter2"


def relay(url: str, **environ: str) -> Relay:
    more = {f"POSTROOM_{name.upper()}": value for name, value in environ.items()}
    (only,) = relays_from(WorkerProcessSettings.load({"POSTROOM_SMTP_URL": url, **more}))
    return only


def everything_said(error: BaseException) -> str:
    """What a process that ends with the error prints, without the lines of this file."""
    shown = traceback.format_exception(error)
    return "".join(part for part in shown if not part.lstrip().startswith("File "))


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
    assert relay("smtp://[2001:db8::1]").name == "2001:db8::1:587"
    assert relay("smtp://[::1]:25").name == "0000:0000:0000:0000:0000:0000:0000:0001:25"


def test_a_rate_is_written_by_the_second_minute_or_hour():
    rates = {text: relay(f"smtp://mail.example?rate={text}").rate for text in ("20/s", "600/m", "3600/h", "1/h")}
    assert rates == {"20/s": 20, "600/m": 10, "3600/h": 1, "1/h": 1 / 3600}
    assert relay("smtp://mail.example").rate is None


def test_this_machine_is_called_by_its_host_name_unless_the_relay_is_told_another_one():
    assert relay("smtp://mail.example").ehlo_name == socket.gethostname()
    for name in ("app", "app.acme.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"):
        assert relay(f"smtp://mail.example?ehlo_name={name}").ehlo_name == name


def test_senders_are_domains_and_addresses_in_one_spelling():
    url = "smtp://mail.example?senders=ACME.example,%20b%C3%BCcher.example,Billing%2Beu%40Shop.example,a+b%40x.example"
    assert relay(url).senders == ("acme.example", "xn--bcher-kva.example", "Billing+eu@shop.example", "a+b@x.example")
    assert relay("smtp://mail.example?senders=acme.example,ACME.example").senders == ("acme.example",)


@pytest.mark.parametrize(
    ("sender", "allowed"),
    [
        ("hello@acme.example", True),
        ("Acme <hello@ACME.example>", True),
        ("hello@mail.acme.example", False),
        ("hello@notacme.example", False),
        ("billing@shop.example", True),
        ("hello@shop.example", False),
        ("ada@bücher.example", True),
        ('"x@acme.example"@other.example', False),
    ],
)
def test_a_domain_stands_for_its_addresses_and_an_address_for_itself(sender, allowed):
    senders = "acme.example,billing%40shop.example,xn--bcher-kva.example"
    assert relay(f"smtp://mail.example?senders={senders}").allows(parse_address(sender)) is allowed
    assert relay("smtp://mail.example").allows(parse_address(sender))


def test_a_relay_describes_itself_without_its_credentials():
    found = relay(f"smtp://ada:{PASSWORD}@mail.example?name=ses&rate=20/s&senders=acme.example&connections=5")
    assert describe(found, 2) == RelayDescription(
        "ses", 2, "mail.example", 587, "starttls", 5, rate=20.0, senders=("acme.example",)
    )


def test_other_credentials_leave_another_mark_of_sixteen_bits():
    found = relay(f"smtp://ada:{PASSWORD}@mail.example")
    mark = found.credentials_mark()
    assert mark is not None
    assert (len(mark), int(mark, 16) < 2**16, mark) == (4, True, found.credentials_mark())
    others = {"password": "hunter3", "username": "bob", "name": "other", "host": "other.example"}
    marks = {dataclasses.replace(found, **{name: value}).credentials_mark() for name, value in others.items()}
    assert len(marks | {mark}) == 5
    assert relay("smtp://mail.example").credentials_mark() is None


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
        ("smtp://mail.example:0", "has a port that is no number from 1 to 65535"),
        (f"smtp://ada:{PASSWORD}@", "names no host that can be one"),
        ("smtp://mail.example:smtp", "has a port that is no number from 1 to 65535"),
        ("smtp://mail.example:99999", "has a port that is no number from 1 to 65535"),
        (f"smtp://ada:{PASSWORD}@mail.example:58x", "has a port that is no number from 1 to 65535"),
        ("smtp://ada:x@[::1]:99999", "has a port that is no number from 1 to 65535"),
        (f"smtp://ada:{PASSWORD}/x@mail.example", "percent-encode special characters in user and password"),
        (f"smtp://ada:{PASSWORD}/x@mail.example:587", "percent-encode special characters in user and password"),
        (f"smtp://ada:{PASSWORD}#x@mail.example:46500", "percent-encode special characters in user and password"),
        ("smtp://[::1", "is not a URL with a port"),
        ("smtp://mail.example/inbox", "has something after the port"),
        ("smtp://mail.example#a", "has something after the port"),
        ("smtp://ada@mail.example", "needs both user and password"),
        ("smtp://:pw@mail.example", "needs both user and password"),
        ("smtp://ada:@mail.example", "needs both user and password"),
        ("smtp://mail.example?tls=maybe", "tls must be required or none, not 'maybe'"),
        ("smtp://mail.example?tls=", "tls must be required or none, not ''"),
        ("smtp://mail.example?tsl=none", "there is no option 'tsl'; did you mean tls?"),
        (
            "smtp://mail.example?colour=red",
            "no option 'colour'; known are ca_file, cert_file, connections, ehlo_name, key_file, name, rate",
        ),
        ("smtp://mail.example?url=smtp://other.example", "there is no option 'url'"),
        (f"smtp://mail.example?password={PASSWORD}", "there is no option 'password'"),
        ("smtp://mail.example?tls=none&tls=required", "has the option 'tls' twice"),
        ("smtp://mail.example?&tls=none", "there is no option ''"),
        ("smtps://mail.example?tls=none", "smtps:// is TLS from the start"),
        ("smtp://mail.example?connections=0", "connections must be a number from 1 to 1000"),
        ("smtp://mail.example?connections=1001", "connections must be a number from 1 to 1000"),
        ("smtp://mail.example?connections=many", "connections must be a number from 1 to 1000"),
        ("smtp://mail.example?connections=٣", "connections must be a number from 1 to 1000"),
        ("smtp://mail.example?connections=" + "9" * 5000, "connections must be a number from 1 to 1000"),
        ("smtp://mail.example?rate=20", "rate must be mails per second, minute or hour, such as 20/s"),
        ("smtp://mail.example?rate=0/s", "rate must be mails per second"),
        ("smtp://mail.example?rate=-1/s", "rate must be mails per second"),
        ("smtp://mail.example?rate=20/d", "rate must be mails per second"),
        ("smtp://mail.example?rate=1e9/s", "rate must be mails per second"),
        ("smtp://mail.example?ehlo_name=", "ehlo_name must be a host name such as app.acme.example"),
        ("smtp://mail.example?ehlo_name=app_1", "ehlo_name must be a host name"),
        ("smtp://mail.example?ehlo_name=app.example.", "ehlo_name must be a host name"),
        ("smtp://mail.example?ehlo_name=app%0D%0AQUIT", "ehlo_name must be a host name"),
        ("smtp://mail.example?ehlo_name=" + "a." * 130 + "example", "ehlo_name must be a host name"),
        ("smtp://mail.example?name=", "name must be at most 100 letters"),
        ("smtp://mail.example?name=-ses", "name must be at most 100 letters"),
        ("smtp://mail.example?name=a%20b", "name must be at most 100 letters"),
        ("smtp://mail.example?name=a/b", "name must be at most 100 letters"),
        ("smtp://mail.example?name=s%C3%A9s", "name must be at most 100 letters"),
        ("smtp://mail.example?name=ses%0A", "name must be at most 100 letters"),
        ("smtp://mail.example?name=" + "a" * 101, "name must be at most 100 letters"),
        ("smtp://" + "a." * 60 + "example", "name must be given"),
        ("smtp://_dmarc.example", "name must be given"),
        ("smtp://mail.example?senders=", "senders must list domains and addresses"),
        ("smtp://mail.example?senders=acme.example,", "senders must list domains and addresses"),
        ("smtp://mail.example?senders=acme", "senders has 'acme', neither a domain such as acme.example nor"),
        ("smtp://mail.example?senders=%40acme.example", "senders has '@acme.example', neither a domain"),
        ("smtp://mail.example?senders=*.acme.example", "senders has '*.acme.example': there are no wildcards"),
        ("smtp://mail.example?senders=*%40acme.example", "senders has '*@acme.example': there are no wildcards"),
        ("smtp://mail.example?senders=" + ",".join(["a.example"] * 501), "senders must list at most 500"),
        ("smtp://mail.example?senders=a@b.example", "percent-encode / ? # in user and password, and @ in options"),
        ("smtp://mail.example?ca_file=", "ca_file must be text, and not empty"),
        ("smtp://mail.example?ca_file=%00", "ca_file has a control character"),
        ("smtp://mail.example?ca_file=%ff", "has a percent-encoded part that is not UTF-8"),
        (f"smtp://ada:{PASSWORD}%ff@mail.example", "has a percent-encoded part that is not UTF-8"),
        (f"smtp://ada:{PASSWORD}%00@mail.example", "password has a control character"),
        (f"smtp://ada%0A:{PASSWORD}@mail.example", "username has a control character"),
        (f"smtp://ada:{PASSWORD} @mail.example", "has a space or a control character"),
        (f"smtp://ada:{PASSWORD}\n@mail.example", "has a space or a control character"),
        (f"smtp://ada:{PASSWORD}\udcff@mail.example", "has a space or a control character"),
        ("smtp://[fe80::1%25eth0]", "names no host that can be one"),
        ("smtp://...", "names no host that can be one"),
        ("smtp://mail.example?key_file=key.pem", "key_file needs a cert_file"),
        ("smtp://mail.example?tls=none&ca_file=ca.pem", "ca_file is for TLS, and tls is none"),
        (f"smtp://ada:{PASSWORD}@mail.example?tls=none", "the password would travel in clear"),
    ],
)
def test_a_mistake_is_named(url, said):
    with pytest.raises(SettingsError, match="POSTROOM_SMTP_URL") as caught:
        relay(url)
    assert said in str(caught.value)
    assert PASSWORD not in everything_said(caught.value)


def test_every_mistake_is_named_at_once():
    with pytest.raises(SettingsError) as caught:
        relay("smtp://mail.example?rate=20&connections=0&name=-")
    assert [line.split()[1] for line in str(caught.value).split("; ")] == ["name", "connections", "rate"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("smtp_password", f"{PASSWORD}\r"), ("smtp_password", f"{PASSWORD}\0"), ("smtp_username", "a\n")],
)
def test_a_user_or_password_that_no_command_can_hold_is_named_by_its_variable(variable, value):
    with pytest.raises(SettingsError, match=f"^POSTROOM_{variable.upper()} has a control character") as caught:
        relay("smtp://mail.example", **{"smtp_username": "ada", "smtp_password": PASSWORD, variable: value})
    assert PASSWORD not in everything_said(caught.value)


@given(st.text(), st.text(alphabet=st.characters(exclude_characters="/?#@[]"), min_size=1))
def test_no_url_at_all_is_more_than_refused(url, word):
    for text in (url, f"smtp://{url}", f"smtp://ada:{word}@mail.example?{url}", f"smtp://mail.example?name={url}"):
        assert said_of(text).startswith("POSTROOM_SMTP_URL")


def said_of(url: str) -> str:
    try:
        return f"POSTROOM_SMTP_URL is {relay(url).name}"
    except SettingsError as error:
        return str(error)


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
    assert PASSWORD not in everything_said(caught.value)


def test_a_relay_has_no_password_in_its_repr():
    """Nor the user: at some providers it is the same token."""
    assert PASSWORD not in repr(relay(f"smtp://{PASSWORD}:{PASSWORD}@mail.example"))
    environ = {"POSTROOM_SMTP_USERNAME": PASSWORD, "POSTROOM_SMTP_PASSWORD": PASSWORD}
    assert PASSWORD not in repr(WorkerProcessSettings.load(environ))
