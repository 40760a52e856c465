"""When nothing more is accepted: a stream's oldest job waits for too long, the queue server's memory is nearly full."""

import pytest

from mailer.errors import SettingsError
from mailer.jobs import Stream
from mailer.store.watch import memory_share
from service.pressure import full_streams, out_of_memory
from service.settings import Limits, ServiceSettings

LIMITS = Limits({Stream.CRITICAL: 900, Stream.NORMAL: 14_400}, 0.9)


@pytest.mark.parametrize(
    ("waits_s", "full"),
    [
        ({}, set()),
        ({Stream.CRITICAL: 899.9}, set()),
        ({Stream.CRITICAL: 900.0}, {Stream.CRITICAL}),
        ({Stream.NORMAL: 20_000.0, Stream.CRITICAL: 1.0}, {Stream.NORMAL}),
        ({Stream.BULK: 10.0**9}, set()),
    ],
)
def test_a_stream_is_full_by_its_oldest_job(waits_s: dict[Stream, float], full: set[Stream]) -> None:
    assert full_streams(waits_s, LIMITS).keys() == full


@pytest.mark.parametrize(("share", "full"), [(None, False), (0.89, False), (0.9, True), (17.0, True)])
def test_all_are_full_by_memory(share: float | None, full: bool) -> None:
    assert (out_of_memory(share, LIMITS) is not None) == full


def test_what_is_said_names_the_stream_and_the_limit() -> None:
    (said,) = full_streams({Stream.CRITICAL: 1000.4}, LIMITS).values()
    assert "critical" in said
    assert "1000 s" in said
    assert "900 s" in said
    assert "uses 100%" in (out_of_memory(17.0, LIMITS) or "")


@pytest.mark.parametrize(
    ("info", "share"),
    [
        ({"used_memory": 50, "maxmemory": 100, "total_system_memory": 1000}, 0.5),
        ({"used_memory": 50, "maxmemory": 0, "total_system_memory": 1000}, 0.05),
        ({"used_memory": 50}, None),
        ({}, None),
    ],
)
def test_memory_is_measured_by_the_bound_of_the_server_or_else_of_the_machine(
    info: dict[str, int], share: float | None
) -> None:
    assert memory_share(info) == share


def test_limits_keep_their_defaults_where_a_setting_says_nothing_and_null_is_none() -> None:
    assert ServiceSettings.load({}).limits == Limits(
        {Stream.CRITICAL: 900, Stream.NORMAL: 14_400, Stream.BULK: 86_400}, 0.9
    )
    own = ServiceSettings.load(
        {"POSTROOM_MAX_WAIT_S": '{"bulk": null, "critical": 60}', "POSTROOM_MAX_MEMORY_PERCENT": "75"}
    )
    assert own.limits == Limits({Stream.CRITICAL: 60, Stream.NORMAL: 14_400}, 0.75)


@pytest.mark.parametrize("waits", ['{"bulk": 0}', '{"fast": 10}', '{"bulk": "long"}', "[]", '{"bulk": 1e12}'])
def test_a_limit_that_is_none_is_named(waits: str) -> None:
    with pytest.raises(SettingsError, match="POSTROOM_MAX_WAIT_S"):
        ServiceSettings.load({"POSTROOM_MAX_WAIT_S": waits})
