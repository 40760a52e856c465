"""What people did to a job: kept with its record, so that its history shows who moved it, and from where. Pure."""

from dataclasses import dataclass, fields
from enum import StrEnum

import orjson

from mailer.jobs import Reason, Status

KEPT = 50
"""Of one job, the newest."""


class Deed(StrEnum):
    CANCELLED = "cancelled"
    RETRIED = "retried"
    RESOLVED = "resolved"
    RESCHEDULED = "rescheduled"


@dataclass(frozen=True, slots=True)
class Intervention:
    """`by`: owner of the API key. `was`, `became`: stored statuses. `reason` and `detail`: what the job said of itself
    before. `at`: ms."""

    at: int
    deed: Deed
    by: str
    was: Status
    became: Status
    reason: Reason | None = None
    detail: str | None = None


def decode_interventions(raw: bytes | None) -> tuple[Intervention, ...]:
    """Keys that a newer version added are left alone."""
    names = {field.name for field in fields(Intervention)}
    items = orjson.loads(raw) if raw else []
    return tuple(Intervention(**{name: value for name, value in item.items() if name in names}) for item in items)


def with_intervention(raw: bytes | None, newest: Intervention) -> bytes:
    """The record's field with one more."""
    return orjson.dumps([*decode_interventions(raw), newest][-KEPT:])
