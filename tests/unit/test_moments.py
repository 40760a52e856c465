"""When a job may be sent, in its author's words: what is taken, and what is refused with its field."""

import pytest

from mailer.errors import InvalidRequest, InvalidSubmission
from service.bodies import validate
from service.moments import check_moments
from service.submissions import JobSubmission

NOW = 1_795_000_000_000  # 2026-11-18T11:06:40Z
JOB = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi"}


def checked(**moments: object) -> JobSubmission:
    submission = validate(JobSubmission, JOB | moments)
    check_moments(submission, NOW)
    return submission


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-18T11:06:40Z", NOW),
        ("2026-11-18T12:06:40+01:00", NOW),
        ("2026-11-18T11:06:40.250Z", NOW + 250),
        ("2026-11-18T11:05:41Z", NOW - 59_000),
        ("2036-11-17T00:00:00Z", 2_110_492_800_000),
    ],
)
def test_a_time_with_its_offset_is_that_moment_up_to_ten_years_ahead(text: str, moment: int) -> None:
    assert checked(send_at=text).send_at == moment


@pytest.mark.parametrize(
    ("moments", "pointer", "detail"),
    [
        ({"send_at": "2026-11-18T11:05:39Z"}, "/send_at", "in the past"),
        ({"send_at": "1970-01-01T00:00:00Z"}, "/send_at", "in the past"),
        ({"send_at": "2036-11-20T00:00:00Z"}, "/send_at", "10 years"),
        ({"send_at": "9999-12-31T23:59:59Z"}, "/send_at", "10 years"),
        ({"expires_at": "2026-11-17T00:00:00Z"}, "/expires_at", "in the past"),
        ({"expires_at": "2026-11-18T11:06:40Z"}, "/expires_at", "later than now"),
        ({"expires_at": "2036-11-20T00:00:00Z"}, "/expires_at", "10 years"),
        (
            {"send_at": "2026-11-19T00:00:00Z", "expires_at": "2026-11-19T00:00:00Z"},
            "/expires_at",
            "later than send_at",
        ),
        ({"send_at": "tomorrow"}, "/send_at", "not a time"),
        ({"send_at": 1_795_000_000}, "/send_at", "must be a string"),
        ({"send_at": ""}, "/send_at", "not a time"),
        ({"stream": "express"}, "/stream", "critical"),
        ({"unknown_policy": "ask"}, "/unknown_policy", "resend"),
    ],
    ids=str,
)
def test_what_could_never_be_meant_is_refused_with_its_field(
    moments: dict[str, object], pointer: str, detail: str
) -> None:
    with pytest.raises(InvalidSubmission) as refused:
        checked(**moments)
    (error,) = refused.value.errors
    assert error.pointer == pointer
    assert detail in error.detail


@pytest.mark.parametrize("name", ["send_at", "expires_at"])
def test_a_time_without_offset_is_nobodys_time(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        checked(**{name: "2026-11-19T12:00:00"})
    assert refused.value.code == "naive_datetime"
    assert f"/{name}" in str(refused.value)


def test_nothing_said_is_nothing_wanted() -> None:
    submission = checked(send_at=None)
    assert (submission.send_at, submission.expires_at, submission.stream, submission.unknown_policy) == (None,) * 4
