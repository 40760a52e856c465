"""The only place where a job is born: a submission is checked, mapped to jobs, recorded and enqueued in one script."""

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from service.submissions import EventSubmission, JobSubmission

REUSED = "This idempotency key came with another body within the last 24 hours."
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The answer to a submission, and the same as JSON."""

    said: Mapping[str, Any]
    answer: bytes
    replayed: bool = False

    @classmethod
    def again(cls, answer: bytes) -> "Acceptance":
        return cls(orjson.loads(answer), answer, replayed=True)

    @property
    def location(self) -> str | None:
        """Where to read the job, if there is just one."""
        jobs = self.said["jobs"]
        link: str | None = jobs[0]["links"]["self"] if len(jobs) == 1 else None
        return link


@dataclass(frozen=True, slots=True)
class Item:
    """A request, alone or among others. `spelling` is told a pointer into `body`, and says where that stands in what
    was sent."""

    body: dict[str, Any]
    idempotency_key: str | None
    spelling: Callable[[str], str] = str

    def spelled(self, refusal: Refused) -> Refused:
        """The same, with the fields in the wrong named as they were sent."""
        refusal.errors = tuple(replace(error, pointer=self.spelling(error.pointer)) for error in refusal.errors)
        return refusal


@dataclass(frozen=True, slots=True)
class _Asked:
    request: EnqueueRequest
    acceptance: Acceptance

    def outcome(self, result: EnqueueResult) -> Acceptance | IdempotencyKeyReused:
        match result.verdict, result.answer:
            case Verdict.REUSED, _:
                return IdempotencyKeyReused(REUSED)
            case Verdict.REPLAYED, bytes(answer) if answer != self.acceptance.answer:
                return Acceptance.again(answer)
            case ((Verdict.ACCEPTED | Verdict.REPLAYED), _):  # the same ids: only the reply to our own call was lost
                return self.acceptance
            case _:
                raise ValueError(f"No outcome of its own: {result.verdict}")


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

    async def accept(self, item: Item, owner: str) -> Acceptance:
        """Accept a job or an event. A Refused leaves nothing behind, and names the fields in the wrong as they were
        sent; QueueUnavailable means: send it again."""
        asked = self._asked(item, owner)
        if isinstance(asked, Refused):
            return await self._accepted_before(item, owner, asked)
        outcome = asked.outcome(await self.store.enqueue(asked.request))
        if isinstance(outcome, Refused):
            raise outcome
        return outcome

    async def accept_each(self, items: Sequence[Item | Refused], owner: str) -> list[Acceptance | BaseException]:
        """As `accept`, for each; what that would raise for one stands in its place."""
        found = await self._checked(items, owner)
        new = {index: one for index, one in enumerate(found) if isinstance(one, _Asked)}
        results = await self.store.enqueue_each([asked.request for asked in new.values()]) if new else []
        known = {
            index: result if isinstance(result, Exception) else new[index].outcome(result)
            for index, result in zip(new, results, strict=True)
        }
        return [known[index] if isinstance(one, _Asked) else one for index, one in enumerate(found)]

    async def accept_together(self, items: Sequence[Item | Refused], owner: str) -> list[Acceptance]:
        """Accept all of them or none. Raises BatchRefused with what is wrong with each, another Refused where it is
        only too early, and QueueUnavailable."""
        found = await self._checked(items, owner)
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, Refused):
                raise one
        if refusals := {index: one for index, one in enumerate(found) if isinstance(one, Refused)}:
            raise _refusal_of_all(refusals)
        new = {index: one for index, one in enumerate(found) if isinstance(one, _Asked)}
        results = await self.store.enqueue_together([asked.request for asked in new.values()]) if new else []
        answered = dict(zip(new, results, strict=True))
        if reused := [index for index, result in answered.items() if result.verdict is Verdict.REUSED]:
            raise BatchRefused.of({index: IdempotencyKeyReused(REUSED) for index in reused})
        outcomes = {index: new[index].outcome(result) for index, result in answered.items()}
        known = {index: one for index, one in [*enumerate(found), *outcomes.items()] if isinstance(one, Acceptance)}
        return [known[index] for index in range(len(items))]

    async def _checked(
        self, items: Sequence[Item | Refused], owner: str
    ) -> list["_Asked | Acceptance | BaseException"]:
        """What is asked of the store for each; else what was answered to it before, or what is wrong with it."""
        found: list[_Asked | Acceptance | BaseException] = []
        refused: list[tuple[int, Item, Refused]] = []
        for index, item in enumerate(items):
            if not isinstance(item, Item):
                found.append(item)
                continue
            try:
                found.append(one := self._asked(item, owner))
            except Exception as defect:  # noqa: BLE001 - whoever asked raises it, once the others are in
                found.append(defect)
                continue
            if isinstance(one, Refused):
                refused.append((index, item, one))
        before = (self._accepted_before(item, owner, refusal) for _, item, refusal in refused)
        answers = await asyncio.gather(*before, return_exceptions=True)
        for (index, _, _), answer in zip(refused, answers, strict=True):
            found[index] = answer
        return found

    def _asked(self, item: Item, owner: str) -> _Asked | Refused:
        try:
            key = _key_of(item)
            answer_id, jobs = self.prepare(item.body)
            self.admit({job.stream for job in jobs})
        except Refused as refusal:
            return item.spelled(refusal)
        said = _answer(answer_id, jobs, self._now_ms())
        answer = orjson.dumps(said)
        idempotency = Idempotency(owner, key, _fingerprint(item.body, self.secret_key), answer) if key else None
        return _Asked(EnqueueRequest(jobs, idempotency), Acceptance(said, answer))

    async def _accepted_before(self, item: Item, owner: str, refusal: Refused) -> Acceptance:
        """What was accepted once stays accepted, whatever has become of its template since. Else raises the refusal."""
        key = _key_of(item)
        if key is None:
            raise refusal
        try:
            answer = await self.store.earlier_answer(owner, key, _fingerprint(item.body, self.secret_key))
        except QueueUnavailable:
            if isinstance(refusal, TemplateUnavailable | UnknownTemplate | UnknownEvent):
                raise  # it may have been accepted: send it again
            raise refusal from None
        if answer is None:
            raise refusal
        return Acceptance.again(answer)

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


def _key_of(item: Item) -> str | None:
    """What the store knows the request by; None where nothing says which one it is."""
    given = item.idempotency_key
    return _hashed(f"key {checked_key(given)}") if given is not None else _event_key(item.body)


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
