"""The queue server's address: understood in one place, and its password never repeated."""

import pytest

from mailer.errors import SettingsError
from mailer.server import QueueServer, parse_queue_url
from mailer.settings import MailerSettings

SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("redis://queue", QueueServer("queue", 6379, None, 0, False, None, None)),
        ("redis://u:p%40ss%2Fw@queue:7000/3", QueueServer("queue", 7000, None, 3, False, "u", "p@ss/w")),
        ("rediss://:secret@queue", QueueServer("queue", 6379, None, 0, True, None, "secret")),
        ("redis://queue?db=5", QueueServer("queue", 6379, None, 5, False, None, None)),
        (
            "unix:///run/queue%201.sock?db=2",
            QueueServer("localhost", 6379, "/run/queue 1.sock", 2, False, None, None),
        ),
    ],
)
def test_an_address_is_understood(url, server):
    assert parse_queue_url(url) == server


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{SECRET}@queue",
        f"redis://:pa:{SECRET}/w@queue",
        f"redis://:{SECRET}@queue/zero",
        f"redis://:{SECRET}@queue/99999",
        f"redis://:{SECRET}@queue:port",
        f"redis://:12#{SECRET}@queue",
        f"redis://:{SECRET}@queue?db=1&ssl=1",
        "unix://",
    ],
)
def test_what_is_not_understood_is_refused_without_repeating_it(url):
    with pytest.raises(SettingsError) as caught:
        MailerSettings.load({"POSTROOM_REDIS_URL": url})
    assert "POSTROOM_REDIS_URL" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(parse_queue_url(f"redis://:{SECRET}@queue"))
