"""Settings as `postroom check` shows them: enough to see what is set, nothing that is secret."""

import pytest

from cli.masking import option, shown

SECRET = "hunter2-hunter2-hunter2"


@pytest.mark.parametrize(
    ("variable", "value", "seen"),
    [
        ("POSTROOM_SMTP_URL", f"smtp://ada:{SECRET}@mail.example?name=a&rate=20/s", "smtp://***@mail.example:587?name=a&rate=20/s"),
        ("POSTROOM_SMTP_URL", f"smtps://{SECRET}@mail.example", "smtps://***@mail.example:465"),
        ("POSTROOM_SMTP_URL", "smtp://[::1]:25?tls=none", "smtp://[::1]:25?tls=none"),
        ("POSTROOM_SMTP_URL", f"smtp://mail.example?pasword={SECRET}", "smtp://mail.example:587?***"),
        ("POSTROOM_SMTP_URL", f"smtp://ada:{SECRET}/x@mail.example", "***"),
        ("POSTROOM_SMTP_URL", SECRET, "***"),
        ("POSTROOM_SMTP_USERNAME", SECRET, "***"),
        ("POSTROOM_SMTP_PASSWORD", SECRET, "***"),
        ("POSTROOM_REDIS_URL", f"rediss://ada:{SECRET}@queue.example:6380/2", "rediss://***@queue.example:6380/2"),
        ("POSTROOM_REDIS_URL", f"redis://:{SECRET}@[::1]", "redis://***@[::1]:6379/0"),
        ("POSTROOM_REDIS_URL", "unix:///run/queue.sock?db=3", "unix:///run/queue.sock?db=3"),
        ("POSTROOM_REDIS_URL", f"redis://ada:{SECRET}/x@queue", "***"),
        ("POSTROOM_API_KEYS", f"shop:{SECRET}, ops:{SECRET}x", "shop:***, ops:***"),
        ("POSTROOM_API_KEYS", SECRET, "***"),
        ("POSTROOM_API_KEYS", "", "none"),
        ("POSTROOM_KEY", SECRET, "***"),
        ("POSTROOM_KEY", "", ""),
        ("POSTROOM_URL", f"https://ada:{SECRET}@api.example/x?token={SECRET}", "https://***@api.example/x?***"),
        ("POSTROOM_URL", "http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("POSTROOM_URL", f"http://ada:{SECRET}/@api.example", "***"),
        ("POSTROOM_FROM", "Acme <hello@acme.example>", "Acme <hello@acme.example>"),
    ],
)  # fmt: skip
def test_a_setting_is_shown_without_its_secret(variable, value, seen):
    assert shown(variable, value) == seen


@pytest.mark.parametrize(
    ("name", "value", "seen"),
    [
        ("url", f"smtp://ada:{SECRET}@mail.example", "smtp://***@mail.example:587"),
        ("url", 587, "***"),
        ("password", SECRET, "***"),
        ("username", SECRET, "***"),
        ("pasword", SECRET, "***"),
        ("password_file", "ses.secret", "ses.secret"),
        ("senders", ["acme.example", "ada@shop.example"], "acme.example, ada@shop.example"),
        ("connections", 20, "20"),
    ],
)
def test_a_key_of_the_relay_file_is_shown_without_its_secret(name, value, seen):
    assert option(name, value) == seen
