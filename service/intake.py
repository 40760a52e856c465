"""The only place where a job is born: a submission is checked, mapped to jobs, recorded and enqueued in one script."""

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import orjson

from mailer.addresses import Address
from mailer.catalogue import TemplateLibrary
from mailer.errors import (
    BatchRefused,
    IdempotencyKeyReused,
    InvalidRequest,
    QueueUnavailable,
    Refused,
    TemplateUnavailable,
    UnknownEvent,
    UnknownTemplate,
)
from mailer.jobs import NewJob, Stream
from mailer.store.jobs import EnqueueRequest, EnqueueResult, Idempotency, JobStore, Verdict
from service import bodies, mapping
from service.moments import check_moments
from service.schemas import Accepted
from service.submissions import EventSubmission, JobSubmission

REUSED = "This idempotency key came with another body within the last 24 hours."
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The answer to a submission, as JSON. `location` names the job where there is just one."""

    answer: bytes
    replayed: bool

    @property
    def said(self) -> Accepted:
        return Accepted.model_validate_json(self.answer)

    @property
    def location(self) -> str | None:
        jobs = orjson.loads(self.answer)["jobs"]
        link: str | None = jobs[0]["links"]["self"] if len(jobs) == 1 else None
        return link


@dataclass(frozen=True, slots=True)
class Item:
    """A request, alone or among others. `spelling` is told a pointer into `body`, and says where that stands in what
    was sent."""

    body: dict[str, Any]
    idempotency_key: str | None
    spelling: Callable[[str], str] = str

    @contextmanager
    def spelled(self) -> Iterator[None]:
        """A Refused from within names the fields in the wrong as they were sent."""
        try:
            yield
        except Refused as refusal:
            refusal.errors = tuple(replace(error, pointer=self.spelling(error.pointer)) for error in refusal.errors)
            raise


@dataclass(frozen=True, slots=True)
class _Asked:
    request: EnqueueRequest
    answer: bytes

    def accepted(self, result: EnqueueResult) -> Acceptance:
        """Raises IdempotencyKeyReused."""
        if result.verdict is Verdict.REUSED:
            raise IdempotencyKeyReused(REUSED)
        if result.verdict is Verdict.REPLAYED and result.answer is not None:
            # The same ids come back when only the reply to our own call was lost: that is no replay.
            return Acceptance(result.answer, replayed=result.answer != self.answer)
        return Acceptance(self.answer, replayed=False)


@dataclass(frozen=True, slots=True)
class Intake:
    store: JobStore
    templates: TemplateLibrary
    default_from: Address | None
    secret_key: bytes = field(default=b"", repr=False)
    """Of the fingerprints."""
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    admit: Callable[[Iterable[Stream]], None] = lambda _: None
    """Raises Overloaded where one of the streams takes no more."""

    async def accept(self, body: dict[str, Any], owner: str, idempotency_key: str | None = None) -> Acceptance:
        """Accept a job or an event. A Refused leaves nothing behind; QueueUnavailable means: send it again."""
        asked = await self._asked(body, owner, idempotency_key)
        return asked if isinstance(asked, Acceptance) else asked.accepted(await self.store.enqueue(asked.request))

    async def accept_item(self, item: Item, owner: str) -> Acceptance:
        """As `accept`; a Refused names the fields in the wrong as they were sent."""
        with item.spelled():
            return await self.accept(item.body, owner, item.idempotency_key)

    async def accept_together(self, items: Sequence[Item | Refused], owner: str) -> list[Acceptance]:
        """Accept all of them or none. Raises BatchRefused with what is wrong with each, another Refused where it is
        only too early, and QueueUnavailable."""
        asked: list[Acceptance | _Asked] = []
        refusals: dict[int, Refused] = {}
        for index, item in enumerate(items):
            try:
                if isinstance(item, Refused):
                    raise item
                asked.append(await self._asked(item.body, owner, item.idempotency_key))
            except Refused as refusal:
                refusals[index] = refusal
        if refusals:
            raise _refusal_of_all(refusals)
        new = {index: found for index, found in enumerate(asked) if isinstance(found, _Asked)}
        results = await self.store.enqueue_together([found.request for found in new.values()]) if new else []
        known = dict(zip(new, results, strict=True))
        if reused := [index for index, result in known.items() if result.verdict is Verdict.REUSED]:
            raise BatchRefused.of({index: IdempotencyKeyReused(REUSED) for index in reused})
        return [
            found if isinstance(found, Acceptance) else found.accepted(known[index])
            for index, found in enumerate(asked)
        ]

    async def _asked(self, body: dict[str, Any], owner: str, idempotency_key: str | None) -> "Acceptance | _Asked":
        """What is asked of the store; or what was answered before to a request that would be refused by now."""
        key = _hashed(f"key {checked_key(idempotency_key)}") if idempotency_key is not None else _event_key(body)
        fingerprint = _fingerprint(body, self.secret_key) if key else ""
        try:
            answer_id, jobs = self.prepare(body)
            self.admit({job.stream for job in jobs})
        except Refused as refusal:
            # What was accepted once stays accepted, whatever has become of its template since.
            earlier = await self._earlier(owner, key, fingerprint, refusal) if key else None
            if earlier is None:
                raise
            return Acceptance(earlier, replayed=True)
        answer = orjson.dumps(_answer(answer_id, jobs, self._now_ms()))
        idempotency = Idempotency(owner, key, fingerprint, answer) if key else None
        return _Asked(EnqueueRequest(jobs, idempotency), answer)

    async def _earlier(self, owner: str, key: str, fingerprint: str, refusal: Refused) -> bytes | None:
        try:
            return await self.store.earlier_answer(owner, key, fingerprint)
        except QueueUnavailable:
            if isinstance(refusal, TemplateUnavailable | UnknownTemplate | UnknownEvent):
                raise  # it may have been accepted: send it again
            raise refusal from None

    def prepare(self, body: dict[str, Any]) -> tuple[str, tuple[NewJob, ...]]:
        """Check and map a body without writing anything: the answer's id, and the jobs."""
        catalogue = self.templates.catalogue(self.monotonic())
        if "event" in body:
            submission = bodies.validate(EventSubmission, body)
            event, jobs = mapping.jobs_from(submission, catalogue, self.default_from)
            return event.id, jobs
        wanted = bodies.validate(JobSubmission, body)
        check_moments(wanted, self._now_ms())
        job = mapping.job_from(wanted, catalogue, self.default_from)
        return job.id, (job,)

    def _now_ms(self) -> int:
        return int(self.wall() * 1000)


def _refusal_of_all(refusals: Mapping[int, Refused]) -> Refused:
    """Where nothing is wrong but that it cannot be now, the whole may be sent again."""
    first = next(iter(refusals.values()))
    later = all(refusal.status is HTTPStatus.SERVICE_UNAVAILABLE for refusal in refusals.values())
    return first if later else BatchRefused.of(refusals)


def _event_key(body: dict[str, Any]) -> str | None:
    """An event's `source` and `id` say which one it is. Values of other types are refused later."""
    source, event_id = body.get("source"), body.get("id")
    if "event" in body and isinstance(source, str) and isinstance(event_id, str) and source and event_id:
        return _hashed(f"event {source}\n{event_id}")
    return None


def _fingerprint(body: dict[str, Any], secret_key: bytes) -> str:
    """HMAC of the canonical JSON; without a key its plain hash, as 0.3 had it. An event is the same whether it leaves
    out what it has not, or says so."""
    if "event" in body:
        body = {"data": {}, **{name: value for name, value in body.items() if value is not None}}
    canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return (hmac.digest(secret_key, canonical, "sha256") if secret_key else hashlib.sha256(canonical).digest()).hex()


def _hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def checked_key(key: str) -> str:
    if not IDEMPOTENCY_KEY.match(key):
        raise InvalidRequest(
            "idempotency_key_invalid",
            "The Idempotency-Key is not valid",
            "Idempotency-Key must have 1 to 255 visible ASCII characters; a UUID is a good one.",
        )
    return key


def _answer(answer_id: str, jobs: tuple[NewJob, ...], now_ms: int) -> dict[str, Any]:
    statuses = ["scheduled" if is_scheduled(job, now_ms) else "queued" for job in jobs]
    items = [
        {
            "id": job.id,
            "template": job.template,
            "status": status,
            "recipients": None
            if job.recipients is None
            else [{"email": item.address.email, "name": item.address.name} for item in job.recipients],
            "links": {"self": f"/jobs/{job.id}"},
        }
        for job, status in zip(jobs, statuses, strict=True)
    ]
    return {"id": answer_id, "status": "queued" if "queued" in statuses else "scheduled", "jobs": items}


def is_scheduled(job: NewJob, now_ms: int) -> bool:
    return job.delay_ms > 0 if job.send_at is None else job.send_at > now_ms
