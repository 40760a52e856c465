"""A backoff of its own is written in one way, in template.toml and in POST /jobs."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.backoff import MAX_ATTEMPTS, MAX_WAITS
from mailer.errors import InvalidSubmission, TemplateError
from mailer.jobs import Backoff
from mailer.manifest import parse_manifest
from service.bodies import validate
from service.submissions import EventSubmission, JobSubmission

DAY_S = 86_400


def by_template(written: str) -> Backoff | None:
    return parse_manifest(f"backoff = {written}").backoff


def by_job(value: object) -> Backoff | None:
    return validate(JobSubmission, {"template": "welcome", "backoff": value}).backoff


def read(written: str) -> Backoff | None:
    """What a template means by it, and a job that says the same in JSON."""
    own = by_template(written)
    assert by_job(tomllib.loads(f"backoff = {written}")["backoff"]) == own
    return own


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("[30, 120, 600]", Backoff(delays_s=(30, 120, 600))),
        ('["30s", "2m", "1h"]', Backoff(delays_s=(30, 120, 3600))),
        ('[0.5, "1d"]', Backoff(delays_s=(0.5, DAY_S))),
        (f"{[1] * MAX_WAITS}", Backoff(delays_s=(1.0,) * MAX_WAITS)),
        ("{ base = 10, cap = 300 }", Backoff(base_s=10, cap_s=300)),
        ('{ base = "10s", cap = "10s" }', Backoff(base_s=10, cap_s=10)),
        ('{ give_up_after = "30d", max_attempts = 1 }', Backoff(give_up_s=30 * DAY_S, max_attempts=1)),
        (f"{{ max_attempts = {MAX_ATTEMPTS} }}", Backoff(max_attempts=MAX_ATTEMPTS)),
        ("{ base = 86400 }", Backoff(base_s=DAY_S)),
        ("{}", Backoff()),
    ],
)
def test_seconds_and_durations_mean_the_same_in_a_template_and_in_a_job(written, meant):
    assert read(written) == meant


@given(st.lists(st.integers(1, DAY_S), min_size=1, max_size=MAX_WAITS))
def test_a_list_of_waits_is_taken_as_it_is(waits):
    assert read(str(waits)) == Backoff(delays_s=tuple(waits))


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("[]", "backoff"),
        (f"{[1] * (MAX_WAITS + 1)}", "backoff"),
        ("[30, 0]", "backoff.1"),
        ("[-1]", "backoff.0"),
        ("[86401]", "backoff.0"),
        ('["2d"]', "backoff.0"),
        ('["0s"]', "backoff.0"),
        ('["30"]', "backoff.0"),
        ('["soon"]', "backoff.0"),
        ("[true]", "backoff.0"),
        ("[nan]", "backoff.0"),
        ("[inf]", "backoff.0"),
        (f"[1{'0' * 400}]", "backoff.0"),
        ("[[30]]", "backoff.0"),
        ("{ base = 10, cap = 9 }", "backoff"),
        ('{ base = "1h", cap = "5m" }', "backoff"),
        ("{ base = 0 }", "backoff.base"),
        ("{ base = 0.5 }", "backoff.base"),
        ("{ base = true }", "backoff.base"),
        ("{ base = nan }", "backoff.base"),
        ("{ cap = 86401 }", "backoff.cap"),
        ("{ cap = [30] }", "backoff.cap"),
        ('{ give_up_after = "31d" }', "backoff.give_up_after"),
        ("{ give_up_after = 0 }", "backoff.give_up_after"),
        ("{ give_up_after = inf }", "backoff.give_up_after"),
        ("{ max_attempts = 0 }", "backoff.max_attempts"),
        (f"{{ max_attempts = {MAX_ATTEMPTS + 1} }}", "backoff.max_attempts"),
        ("{ max_attempts = true }", "backoff.max_attempts"),
        ("{ max_attempts = 2.5 }", "backoff.max_attempts"),
        ('{ max_attempts = "3" }', "backoff.max_attempts"),
        ("{ base_s = 10 }", "backoff.base_s"),
        ("{ delays = [30] }", "backoff.delays"),
        ("30", "backoff"),
        ('"5m"', "backoff"),
        ("true", "backoff"),
    ],
)
def test_what_is_no_backoff_is_refused_and_named(written, key):
    with pytest.raises(TemplateError) as broken:
        by_template(written)
    assert str(broken.value).startswith(f"template.toml: {key}: ")
    with pytest.raises(InvalidSubmission) as refused:
        by_job(tomllib.loads(f"backoff = {written}")["backoff"])
    assert [item.pointer for item in refused.value.errors] == ["/" + key.replace(".", "/")]


def test_each_wait_in_the_wrong_is_named():
    with pytest.raises(InvalidSubmission) as refused:
        by_job([30, 0, "5m", None])
    assert [item.pointer for item in refused.value.errors] == ["/backoff/1", "/backoff/3"]


def test_null_says_nothing():
    assert by_job(None) is None
    assert by_job({"base": 10, "cap": None}) == Backoff(base_s=10)


def test_an_events_jobs_have_their_templates_backoff_only():
    with pytest.raises(InvalidSubmission) as refused:
        validate(EventSubmission, {"event": "user.signed_up", "backoff": [30]})
    assert [item.pointer for item in refused.value.errors] == ["/backoff"]
