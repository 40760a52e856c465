"""What `postroom emit` and `postroom send` say to the API."""

from typing import Any

import httpx

from cli.settings import ClientSettings
from mailer.errors import PostroomError, QueueUnavailable

TIMEOUT_S = 10.0


def submit(settings: ClientSettings, body: dict[str, Any]) -> dict[str, Any]:
    """POST /jobs. Raises PostroomError with the problem's own words."""
    key = settings.key.get_secret_value()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.post(f"{settings.url.rstrip('/')}/jobs", json=body, headers=headers, timeout=TIMEOUT_S)
    except httpx.TransportError as error:
        raise QueueUnavailable(f"The API at {settings.url} does not answer ({error}); set POSTROOM_URL") from error
    try:
        content: dict[str, Any] = answer.json()
    except ValueError as error:
        raise PostroomError(f"{settings.url} answered {answer.status_code}, but not as Postroom does") from error
    if answer.is_success:
        return content
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise QueueUnavailable(content.get("detail"))
    raise PostroomError(f"{content.get('code')}: {content.get('detail')}")
