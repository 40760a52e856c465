"""Send-time data: a template's sources are read when the mail is about to be sent, all at once."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import orjson
from pydantic import SecretStr

from mailer.errors import CallFailed, RenderingError, SourceMissing, SourceUnavailable
from mailer.http import GuardedClient
from mailer.sandbox import BaseUrl, render_part
from mailer.settings import SECRET_PREFIX, SOURCE_PREFIX
from mailer.templates import Source, Template

MAX_HEADER_CHARS = 8000
READS_AT_ONCE = 20
"""Of one worker: a full queue must not come down on an application as a hundred connections at once."""


class _Configured(dict[str, str]):
    """What `sources` or `secrets` mean. A name that nobody configured is the operator's to mend: the mail waits."""

    def __init__(self, values: Mapping[str, str], prefix: str) -> None:
        super().__init__(values)
        self._prefix = prefix

    def __missing__(self, name: str) -> str:
        raise SourceUnavailable(f"{self._prefix}{name.upper()} is not set for the worker")


class Fetcher:
    """Reads sources. `sources` and `secrets` are what `sources.*` and `secrets.*` mean in a manifest."""

    def __init__(self, client: GuardedClient, sources: Mapping[str, str], secrets: Mapping[str, SecretStr]) -> None:
        self._client = client
        self._at_once = asyncio.Semaphore(READS_AT_ONCE)
        self._sources = _Configured({name: BaseUrl(url) for name, url in sources.items()}, SOURCE_PREFIX)
        plain = {name: secret.get_secret_value() for name, secret in secrets.items()}
        self._secrets = _Configured(plain, SECRET_PREFIX)

    async def fetch(self, template: Template, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Each source's JSON, but for those whose value came with the job.

        Raises SourceMissing (404, 410), SourceUnavailable (no useful answer) and RenderingError (the URL is wrong).
        """
        names = [name for name in template.sources if name not in variables]
        if not names:
            return {}
        results = await asyncio.gather(
            *(self._read(name, template.sources[name], variables) for name in names), return_exceptions=True
        )
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors:
            raise min(errors, key=_gravity)
        return dict(zip(names, results, strict=True))

    async def _read(self, name: str, source: Source, variables: Mapping[str, Any]) -> object:
        url = render_part(source.url.code, {**variables, "sources": self._sources})
        headers = {
            header: self._header(header, render_part(part.code, {**variables, "secrets": self._secrets}))
            for header, part in source.headers.items()
        }
        try:
            async with self._at_once:
                answer = await self._client.get(url, {"Accept": "application/json", **headers})
        except CallFailed as error:
            raise SourceUnavailable(f"{name}: {error}") from error
        place = f"{name} ({urlsplit(url).path})"
        if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            raise SourceMissing(f"{place} answered {answer.status}", code=answer.status, on_missing=source.on_missing)
        if answer.status != HTTPStatus.OK:
            raise SourceUnavailable(f"{place} answered {answer.status}", code=answer.status)
        try:
            return orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            raise SourceUnavailable(f"{place} answered 200, but not with JSON: {error}", code=answer.status) from error

    def _header(self, name: str, value: str) -> str:
        if len(value) > MAX_HEADER_CHARS or not (value.isascii() and value.isprintable()):
            raise RenderingError(f"the fetch header {name} is too long, or has a character beyond printable ASCII")
        return value


def _gravity(error: BaseException) -> int:
    """What decides when several sources fail: a defect, then what is final, then what may pass."""
    order = (RenderingError, SourceMissing, SourceUnavailable)
    return next((place for place, kind in enumerate(order, 1) if isinstance(error, kind)), 0)
