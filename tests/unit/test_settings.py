"""Settings: each mistake names its variable, and no secret is ever shown."""

import traceback

import pytest
from pydantic import SecretStr

from cli.settings import ClientSettings, DevSettings
from mailer.addresses import Address
from mailer.errors import SettingsError
from mailer.jobs import Stream, UnknownPolicy
from mailer.settings import (
    NAMES_OF_OTHER_PROCESSES,
    SECRET_NAMES,
    Durability,
    MailerSettings,
    Settings,
    unknown_variables,
)
from service.settings import ServiceSettings, parse_api_keys
from worker.settings import DEFAULT_BACKOFF, BackoffSchedule, WorkerProcessSettings, read_secrets, read_sources

CLASSES = (MailerSettings, ServiceSettings, WorkerProcessSettings, DevSettings, ClientSettings)
SECRET = "hunter2-hunter2-hunter2"
SECRETS = [
    (MailerSettings, "POSTROOM_REDIS_URL", "redis_url", f"redis://:{SECRET}@queue"),
    (MailerSettings, "POSTROOM_SECRET_KEY", "secret_key", f"{SECRET}-{SECRET}"),
    (ServiceSettings, "POSTROOM_API_KEYS", "api_keys", f"ops:{SECRET}"),
    (WorkerProcessSettings, "POSTROOM_SMTP_URL", "smtp_url", f"smtp://u:{SECRET}@relay.example"),
    (WorkerProcessSettings, "POSTROOM_SMTP_PASSWORD", "smtp_password", SECRET),
    (ClientSettings, "POSTROOM_KEY", "key", SECRET),
]


def trouble(settings: type[Settings], **environ: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        settings.load(environ)
    return caught.value


def everything_said(error: BaseException) -> str:
    """What a process that ends with the error prints, without the lines of this file."""
    shown = traceback.format_exception(error)
    return "".join(part for part in shown if not part.lstrip().startswith("File "))


@pytest.mark.parametrize("settings", CLASSES)
def test_nothing_has_to_be_set(settings):
    assert settings.load({}) == settings.load(dict.fromkeys(map(settings.variable, settings.model_fields), ""))


@pytest.mark.parametrize("settings", CLASSES)
def test_every_setting_is_described(settings):
    assert [name for name, field in settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("settings", "variable", "value"),
    [
        (MailerSettings, "POSTROOM_REDIS_URL", "http://queue"),
        (MailerSettings, "POSTROOM_FROM", "Acme"),
        (MailerSettings, "POSTROOM_FROM", "a@b.example, c@d.example"),
        (MailerSettings, "POSTROOM_TEMPLATES_RELOAD", "maybe"),
        (MailerSettings, "POSTROOM_KEEP_RECORD_S", "1 day"),
        (MailerSettings, "POSTROOM_KEEP_PAYLOAD_S", "0"),
        (MailerSettings, "POSTROOM_LOG_FORMAT", "xml"),
        (MailerSettings, "POSTROOM_LOG_LEVEL", "loud"),
        (MailerSettings, "POSTROOM_SECRET_KEY", "x" * 31),
        (ServiceSettings, "POSTROOM_PORT", "http"),
        (ServiceSettings, "POSTROOM_PORT", "65536"),
        (ServiceSettings, "POSTROOM_AUTH", "none"),
        (ServiceSettings, "POSTROOM_MAX_BODY_MB", "0"),
        (ServiceSettings, "POSTROOM_API_KEYS", "ops"),
        (WorkerProcessSettings, "POSTROOM_RETURN_PATH", "bounces"),
        (WorkerProcessSettings, "POSTROOM_MESSAGE_ID_DOMAIN", "a b"),
        (WorkerProcessSettings, "POSTROOM_MESSAGE_ID_DOMAIN", "a.example>"),
        (WorkerProcessSettings, "POSTROOM_WORKER_SLOTS", "many"),
        (WorkerProcessSettings, "POSTROOM_BACKOFF", "{"),
        (WorkerProcessSettings, "POSTROOM_BACKOFF", '{"slow": {"base_s": 1, "cap_s": 1, "give_up_s": 1}}'),
        (WorkerProcessSettings, "POSTROOM_BACKOFF", '{"normal": {"base_s": 0, "cap_s": 1, "give_up_s": 1}}'),
        (WorkerProcessSettings, "POSTROOM_BACKOFF", '{"normal": {"base_s": true}}'),
        (WorkerProcessSettings, "POSTROOM_BACKOFF", '{"normal": {"max_attempts": 0}}'),
        (WorkerProcessSettings, "POSTROOM_BACKOFF", '{"normal": {"max_attempts": 2.5}}'),
        (WorkerProcessSettings, "POSTROOM_LEASE_S", "0.5"),
        (WorkerProcessSettings, "POSTROOM_LEASE_S", "301"),
        (WorkerProcessSettings, "POSTROOM_LEASE_S", "10 s"),
        (WorkerProcessSettings, "POSTROOM_WORKER_PORT", "0"),
        (WorkerProcessSettings, "POSTROOM_UNKNOWN_POLICY", "hold"),
        (WorkerProcessSettings, "POSTROOM_UNKNOWN_POLICY", '{"normal": "retry"}'),
        (WorkerProcessSettings, "POSTROOM_UNKNOWN_POLICY", '{"slow": "hold"}'),
        (MailerSettings, "POSTROOM_DURABILITY", "always"),
        (MailerSettings, "POSTROOM_DURABILITY_REPLICAS", "-1"),
        (DevSettings, "POSTROOM_DEMO_PORT", "-1"),
        (DevSettings, "POSTROOM_MAILBOX_SMTP_PORT", "smtp"),
        (ClientSettings, "POSTROOM_URL", "localhost:8000"),
    ],
)
def test_a_mistake_names_its_variable(settings, variable, value):
    assert str(trouble(settings, **{variable: value})).startswith(variable)


def test_every_mistake_is_named_at_once():
    said = str(trouble(ServiceSettings, POSTROOM_PORT="x", POSTROOM_AUTH="x"))
    assert "POSTROOM_PORT" in said
    assert "POSTROOM_AUTH" in said


@pytest.mark.parametrize(("settings", "variable", "field", "value"), SECRETS)
def test_a_secret_has_no_repr(settings, variable, field, value):
    loaded = settings.load({variable: value})
    assert getattr(loaded, field).get_secret_value() == value
    assert SECRET not in f"{loaded!r} {loaded} {loaded.model_dump()} {loaded.model_dump_json()}"


@pytest.mark.parametrize(
    ("settings", "variable", "value"),
    [
        (MailerSettings, "POSTROOM_REDIS_URL", f"queue:{SECRET}"),
        (MailerSettings, "POSTROOM_SECRET_KEY", SECRET),
        (ServiceSettings, "POSTROOM_API_KEYS", SECRET),
        (ServiceSettings, "POSTROOM_API_KEYS", f"a:{SECRET}, a:{SECRET}"),
        (ServiceSettings, "POSTROOM_API_KEYS", f"a:{SECRET} {SECRET}"),
        (ServiceSettings, "POSTROOM_API_KEYS", f"a:{SECRET}é"),
    ],
)
def test_no_error_repeats_a_secret_not_even_its_traceback(settings, variable, value):
    assert SECRET not in everything_said(trouble(settings, **{variable: value}))


@pytest.mark.parametrize(("settings", "variable", "field", "value"), SECRETS)
def test_a_secret_may_stand_in_a_file(tmp_path, settings, variable, field, value):
    (tmp_path / "secret").write_text(f"{value}\n")
    loaded = settings.load({f"{variable}_FILE": str(tmp_path / "secret"), variable: ""})
    assert getattr(loaded, field).get_secret_value() == value


def test_an_empty_file_variable_is_as_if_it_were_not_set():
    environ = {"POSTROOM_SMTP_PASSWORD": SECRET, "POSTROOM_SMTP_PASSWORD_FILE": ""}
    assert WorkerProcessSettings.load(environ).smtp_password == SecretStr(SECRET)


def test_a_secret_given_twice_is_refused():
    said = str(trouble(ClientSettings, POSTROOM_KEY=SECRET, POSTROOM_KEY_FILE="/run/key"))
    assert said == "POSTROOM_KEY and POSTROOM_KEY_FILE are both set: keep one of them"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    assert "POSTROOM_KEY_FILE" in str(trouble(ClientSettings, POSTROOM_KEY_FILE=str(tmp_path / "none")))
    (tmp_path / "binary").write_bytes(b"\xff")
    assert "POSTROOM_KEY_FILE" in str(trouble(ClientSettings, POSTROOM_KEY_FILE=str(tmp_path / "binary")))


def test_only_a_secret_is_read_from_a_file(tmp_path):
    (tmp_path / "port").write_text("9000")
    assert ServiceSettings.load({"POSTROOM_PORT_FILE": str(tmp_path / "port")}).port == 8000


def test_a_typing_error_is_told_with_the_nearest_name():
    environ = {"POSTROOM_REDIS_URI": "x", "POSTROOM_SMTP_ULR": "x", "POSTROOM_QQQQQQQQ": "x", "HOME": "x"}
    assert unknown_variables(environ) == [
        "POSTROOM_QQQQQQQQ is not a setting",
        "POSTROOM_REDIS_URI is not a setting; did you mean POSTROOM_REDIS_URL?",
        "POSTROOM_SMTP_ULR is not a setting; did you mean POSTROOM_SMTP_URL?",
    ]


def test_what_some_process_reads_draws_no_warning():
    names = [settings.variable(name) for settings in CLASSES for name in settings.model_fields]
    secrets = [f"{variable}_FILE" for _, variable, _, _ in SECRETS]
    environ = dict.fromkeys([*names, *secrets, "POSTROOM_SOURCE_APP", "POSTROOM_SECRET_APP_TOKEN"], "x")
    assert unknown_variables(environ) == []


def test_the_names_of_other_processes_are_those_of_their_classes():
    names = {cls.variable(name) for cls in CLASSES if cls is not MailerSettings for name in cls.model_fields}
    assert names == NAMES_OF_OTHER_PROCESSES
    secrets = {
        cls.variable(name)
        for cls in CLASSES
        for name, field in cls.model_fields.items()
        if "SecretStr" in str(field.annotation)
    }
    assert secrets == SECRET_NAMES


def test_only_a_secret_can_be_read_from_a_file():
    assert unknown_variables({"POSTROOM_PORT_FILE": "x", "POSTROOM_SMTP_URL_FILE": "x"}) == [
        "POSTROOM_PORT_FILE is not a setting; did you mean POSTROOM_PORT?"
    ]


def test_a_secret_file_of_more_than_64_kb_is_refused(tmp_path):
    (tmp_path / "key").write_bytes(b"x" * 65_537)
    with pytest.raises(SettingsError, match=r"POSTROOM_KEY_FILE: .* is larger than"):
        ClientSettings.load({"POSTROOM_KEY_FILE": str(tmp_path / "key")})


def test_addresses_and_schedules_arrive_ready_to_use():
    assert MailerSettings.load({"POSTROOM_FROM": "Acme <hello@acme.example>"}).from_ == Address(
        "hello@acme.example", "Acme"
    )
    settings = WorkerProcessSettings.load({"POSTROOM_BACKOFF": '{"bulk": {"base_s": 1, "cap_s": 2, "give_up_s": 3}}'})
    assert settings.backoff_of(Stream.BULK) == BackoffSchedule(base_s=1, cap_s=2, give_up_s=3)
    assert settings.backoff_of(Stream.NORMAL) == DEFAULT_BACKOFF[Stream.NORMAL]
    assert set(DEFAULT_BACKOFF) == set(Stream)
    settings = WorkerProcessSettings.load({"POSTROOM_BACKOFF": '{"bulk": {"max_attempts": 5}}'})
    assert settings.backoff_of(Stream.BULK) == DEFAULT_BACKOFF[Stream.BULK].model_copy(update={"max_attempts": 5})


def test_a_mail_in_doubt_is_sent_once_more_unless_its_stream_says_otherwise():
    assert {WorkerProcessSettings().policy_of(stream) for stream in Stream} == {UnknownPolicy.RESEND}
    settings = WorkerProcessSettings.load({"POSTROOM_UNKNOWN_POLICY": '{"critical": "accept", "bulk": "hold"}'})
    assert [settings.policy_of(stream) for stream in (Stream.CRITICAL, Stream.NORMAL, Stream.BULK)] == [
        UnknownPolicy.ACCEPT,
        UnknownPolicy.RESEND,
        UnknownPolicy.HOLD,
    ]


def test_a_dead_workers_jobs_run_again_after_ten_seconds_unless_said_otherwise():
    assert WorkerProcessSettings().lease_s == 10
    assert WorkerProcessSettings.load({"POSTROOM_LEASE_S": "2.5"}).lease_s == 2.5


def test_what_counts_as_accepted_is_the_servers_word_or_that_of_its_disk():
    assert MailerSettings().durable == Durability(fsync=False, replicas=0)
    synced = {"POSTROOM_DURABILITY": "fsync", "POSTROOM_DURABILITY_REPLICAS": "2"}
    assert MailerSettings.load(synced).durable == Durability(fsync=True, replicas=2)


def test_several_api_keys_each_with_an_owner():
    assert parse_api_keys(f" ops:{SECRET} , ,app:{SECRET}:x ") == {"ops": SECRET, "app": f"{SECRET}:x"}
    assert parse_api_keys("") == {}


@pytest.mark.parametrize("text", ["ops:", ":key" * 5, "ops:short", f"a:{SECRET},a:{SECRET}", f"a:{SECRET}\0", SECRET])
def test_an_api_key_that_is_not_safe_is_refused(text):
    with pytest.raises(ValueError, match=r"name|the key of"):
        parse_api_keys(text)


def test_sources_and_secrets_are_families_of_variables():
    environ = {
        "POSTROOM_SOURCE_APP": "http://app:8080/",
        "POSTROOM_SOURCE_EMPTY": "",
        "POSTROOM_SECRET_APP_TOKEN": SECRET,
        "POSTROOM_SECRET_EMPTY": "",
    }
    assert read_sources(environ) == {"app": "http://app:8080"}
    assert read_secrets(environ) == {"app_token": SecretStr(SECRET)}
    assert SECRET not in repr(read_secrets(environ))


def test_postrooms_own_secret_key_is_none_of_the_templates():
    environ = {"POSTROOM_SECRET_KEY": SECRET, "POSTROOM_SECRET_KEY_FILE": "/run/key", "POSTROOM_SECRET_KEYS": "x"}
    assert read_secrets(environ) == {"keys": SecretStr("x")}


@pytest.mark.parametrize("url", ["app:8080", "ftp://app", "file:///etc/passwd", "//app"])
def test_a_source_has_to_be_an_http_address(url):
    with pytest.raises(SettingsError, match=r"^POSTROOM_SOURCE_APP must begin with http"):
        read_sources({"POSTROOM_SOURCE_APP": url})
