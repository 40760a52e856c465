"""What is known of a relay across processes, as it is written and read."""

import math
from dataclasses import replace
from typing import Any

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from mailer.jobs import Phase, Reply
from mailer.relays import OpenedBy, RelayState, Trouble, spacing_us
from mailer.store.relays import decode_state
from worker.relays.board import Alerting, Unshared

TROUBLE = Trouble(1, "credentials_refused", Phase.AUTH, Reply(535, "No", "5.7.8"))
STATE = RelayState(
    failures=2,
    opened_at=1,
    open_until=2,
    opened_by=OpenedBy.CREDENTIALS,
    openings=3,
    refused={"1f2e": 4},
    probe="a worker",
    probe_until=5,
    pace=0.25,
    paced_at=6,
    trouble=TROUBLE,
)


def written(state: RelayState) -> dict[str, Any]:
    item: dict[str, Any] = orjson.loads(orjson.dumps(state))
    return item


def test_a_state_is_read_back():
    assert decode_state(orjson.dumps({"write": "w:1", "state": STATE})) == STATE


def test_what_was_never_written_is_a_relay_at_rest():
    assert decode_state(None) == RelayState()


def test_keys_of_a_newer_version_are_left_alone():
    state = written(STATE) | {"weather": ["rain"]}
    assert decode_state(orjson.dumps({"write": "w:1", "mood": "fine", "state": state})) == STATE


def test_a_word_of_a_newer_version_costs_no_more_than_itself():
    state = written(replace(STATE, paused_at=7)) | {"opened_by": "a whim"}
    state["trouble"]["phase"] = "prologue"
    expected = replace(STATE, paused_at=7, opened_by=OpenedBy.CONNECTION, trouble=None)
    assert decode_state(orjson.dumps({"state": state})) == expected


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"1", b"{}", b'{"state": null}', b'{"state": []}'])
def test_what_cannot_be_understood_counts_for_nothing(raw):
    assert decode_state(raw) == RelayState()


@given(st.floats(0.001, 1000), st.floats(0.1, 10), st.randoms(use_true_random=False))
def test_no_window_has_more_mails_than_its_rate_allows_though_each_may_be_late(rate, window_s, random):
    """Late by up to a twentieth of the window, and by each mail's own chance."""
    spacing = spacing_us(rate) / 1e6
    lateness = window_s / 20
    arrivals = sorted(n * spacing + random.uniform(0, lateness) * 0.99 for n in range(200))
    most = max(sum(start <= at < start + window_s for at in arrivals) for start in arrivals[:100])
    assert most <= max(1, math.ceil(rate * window_s))


def test_the_same_alert_is_told_once_a_minute():
    now = 0.0
    alerting = Alerting(lambda: now)
    with structlog.testing.capture_logs() as logs:
        for second in range(61):
            now = float(second)
            alerting.alert("acme", TROUBLE, "set the password")
        alerting.alert("other", TROUBLE)
    assert [(line["event"], line["relay"], line["row"]) for line in logs] == [
        ("relay.alert", "acme", "credentials_refused"),
        ("relay.alert", "acme", "credentials_refused"),
        ("relay.alert", "other", "credentials_refused"),
    ]
    assert (logs[0]["code"], logs[0]["fix"], "fix" in logs[2]) == (535, "set the password", False)


def test_one_mail_without_a_queue_server_alerts_too():
    with structlog.testing.capture_logs() as logs:
        Unshared().alert("acme", TROUBLE)
    assert [line["event"] for line in logs] == ["relay.alert"]
