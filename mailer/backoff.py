"""How a template or a job writes a backoff of its own, for template.toml and POST /jobs alike. The trap: a null is what
its stream has, and the stream's values are known to the worker only."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, TypeAdapter, model_validator

from mailer.durations import parse_duration
from mailer.jobs import Backoff
from mailer.settings import DAY_S, LONGEST_TRYING_S

MAX_WAITS = 50
MAX_ATTEMPTS = 1000
SHORTEST_S = 1.0
"""Of what is repeated without a count: a relay must not be asked many times a second on a caller's word."""


def _seconds(value: object) -> object:
    """Seconds, from a number or a duration."""
    if isinstance(value, str):
        return parse_duration(value) / 1000
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be seconds, or a number with its unit: 90s, 30m, 12h or 3d")  # noqa: TRY004 - pydantic wants ValueError
    return value


_Text = Annotated[str, Field(pattern=r"^\s*[0-9]{1,7}\s*[smhd]\s*$")]
_AnyWait = Annotated[float, Field(gt=0, le=DAY_S, allow_inf_nan=False)]
_Wait = Annotated[_AnyWait, BeforeValidator(_seconds, json_schema_input_type=_AnyWait | _Text)]
_AnyStep = Annotated[float, Field(ge=SHORTEST_S, le=DAY_S, allow_inf_nan=False)]
_Step = Annotated[_AnyStep, BeforeValidator(_seconds, json_schema_input_type=_AnyStep | _Text)]
_AnyLimit = Annotated[float, Field(gt=0, le=LONGEST_TRYING_S, allow_inf_nan=False)]
_Limit = Annotated[_AnyLimit, BeforeValidator(_seconds, json_schema_input_type=_AnyLimit | _Text)]
_Waits = Annotated[list[_Wait], Field(min_length=1, max_length=MAX_WAITS)]
_WAITS: TypeAdapter[list[float]] = TypeAdapter(_Waits)


class GrowingBackoff(BaseModel):
    """Waits that double from `base` to `cap`. What is left out is as the stream has it. Seconds, or durations: `5m`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: _Step | None = Field(None, description="Longest first wait; chance takes up to half of each wait away.")
    cap: _Step | None = Field(None, description="Longest wait.")
    give_up_after: _Limit | None = Field(None, description="From the due time: then the job fails.")
    max_attempts: int | None = Field(None, ge=1, le=MAX_ATTEMPTS, strict=True)

    @model_validator(mode="after")
    def _grows(self) -> "GrowingBackoff":
        if self.base is not None and self.cap is not None and self.cap < self.base:
            raise ValueError("cap must not be less than base")
        return self


def _backoff(value: object) -> Backoff:
    if isinstance(value, list):
        return Backoff(delays_s=tuple(_WAITS.validate_python(value)))
    if isinstance(value, dict):
        given = GrowingBackoff.model_validate(value)
        return Backoff(
            base_s=given.base, cap_s=given.cap, give_up_s=given.give_up_after, max_attempts=given.max_attempts
        )
    raise ValueError("give a list of waits, [30, 120, 600], or base, cap, give_up_after and max_attempts")


OwnBackoff = Annotated[Backoff, PlainValidator(_backoff, json_schema_input_type=_Waits | GrowingBackoff)]
