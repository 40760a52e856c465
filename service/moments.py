"""When a job may be sent, as its author says it: bounds, and what contradicts itself. Pure: the time is an argument."""

from mailer.errors import InvalidSubmission
from service.submissions import JobSubmission

FURTHEST_MS = 3653 * 24 * 3600 * 1000
"""Ten years: a time that is later is a mistake, such as seconds taken for milliseconds."""
CLOCKS_DIFFER_MS = 60_000
"""A time that was less than so long ago is now."""


def check_moments(submission: JobSubmission, now_ms: int) -> None:
    """Raises InvalidSubmission that names the field. `now_ms`: since the epoch."""
    check_moment("send_at", submission.send_at, now_ms)
    check_moment("expires_at", submission.expires_at, now_ms)
    if submission.expires_at is not None and submission.expires_at <= max(submission.send_at or 0, now_ms):
        before = "send_at" if submission.send_at is not None and submission.send_at > now_ms else "now"
        raise InvalidSubmission.at("/expires_at", f"expires_at has to be later than {before}: it would never be sent")


def check_moment(name: str, moment: int | None, now_ms: int) -> None:
    if moment is None:
        return
    if moment < now_ms - CLOCKS_DIFFER_MS:
        raise InvalidSubmission.at(f"/{name}", f"{name} is in the past")
    if moment > now_ms + FURTHEST_MS:
        raise InvalidSubmission.at(f"/{name}", f"{name} is more than 10 years ahead")
