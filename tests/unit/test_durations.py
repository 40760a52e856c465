"""A length of time, as authors and callers write it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.durations import MAX_DURATION_MS, parse_duration

UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [("90s", 90_000), ("30m", 1_800_000), ("12h", 43_200_000), ("3d", 259_200_000), (" 5 m ", 300_000), ("0s", 0)],
)
def test_a_duration_is_a_number_with_its_unit(written, milliseconds):
    assert parse_duration(written) == milliseconds


@given(st.integers(0, 9_999_999), st.sampled_from(sorted(UNITS)))
def test_a_duration_means_what_it_says_or_is_refused(number, unit):
    wanted = number * UNITS[unit]
    if wanted <= MAX_DURATION_MS:
        assert parse_duration(f"{number}{unit}") == wanted
    else:
        with pytest.raises(ValueError, match="30 days"):
            parse_duration(f"{number}{unit}")


@pytest.mark.parametrize(
    "written", ["", "30", "m", "30 minutes", "-5m", "1.5h", "5M", "5m5s", "30m\n5", 30, None, True]
)
def test_what_is_no_duration_is_refused(written):
    with pytest.raises(ValueError, match="90s, 30m, 12h or 3d"):
        parse_duration(written)
