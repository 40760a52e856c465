"""The only place where a job is born: a submission is checked, mapped to jobs, recorded and enqueued in one script."""

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from mailer.addresses import Address
from mailer.catalogue import TemplateLibrary
from mailer.errors import IdempotencyKeyReused, InvalidRequest
from mailer.jobs import Event, NewJob
from mailer.store.jobs import EnqueueRequest, Idempotency, JobStore, Verdict
from service import bodies, mapping
from service.schemas import EventSubmission, JobSubmission

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The answer to a submission, as JSON. `location` names the job where there is just one."""

    answer: bytes
    replayed: bool

    @property
    def location(self) -> str | None:
        jobs = orjson.loads(self.answer)["jobs"]
        link: str | None = jobs[0]["links"]["self"] if len(jobs) == 1 else None
        return link


@dataclass(frozen=True, slots=True)
class Intake:
    store: JobStore
    templates: TemplateLibrary
    default_from: Address | None
    monotonic: Callable[[], float] = time.monotonic

    async def accept(self, body: dict[str, Any], owner: str, idempotency_key: str | None = None) -> Acceptance:
        """Accept a job or an event. A Refused leaves nothing behind; QueueUnavailable means: send it again."""
        answer_id, jobs, own_key = self.prepare(body)
        key = f"key {_checked_key(idempotency_key)}" if idempotency_key is not None else own_key
        answer = orjson.dumps(_answer(answer_id, jobs))
        idempotency = None
        if key is not None:
            fingerprint = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
            idempotency = Idempotency(owner, hashlib.sha256(key.encode()).hexdigest(), fingerprint, answer)
        (result,) = await self.store.enqueue([EnqueueRequest(jobs, idempotency)])
        if result.verdict is Verdict.REUSED:
            raise IdempotencyKeyReused("This idempotency key came with another body within the last 24 hours.")
        if result.verdict is Verdict.REPLAYED and result.answer is not None:
            # The same ids come back when only the reply to our own call was lost: that is no replay.
            return Acceptance(result.answer, replayed=result.answer != answer)
        return Acceptance(answer, replayed=False)

    def prepare(self, body: dict[str, Any]) -> tuple[str, tuple[NewJob, ...], str | None]:
        """Check and map a body without writing anything: the answer's id, the jobs, the event's own idempotency key."""
        catalogue = self.templates.catalogue(self.monotonic())
        if "event" in body:
            submission = bodies.validate(EventSubmission, body)
            event, jobs = mapping.jobs_from(submission, catalogue, self.default_from)
            return event.id, jobs, _event_key(submission, event)
        job = mapping.job_from(bodies.validate(JobSubmission, body), catalogue, self.default_from)
        return job.id, (job,), None


def _event_key(submission: EventSubmission, event: Event) -> str | None:
    return f"event {event.source}\n{event.id}" if submission.id and submission.source else None


def _checked_key(key: str) -> str:
    if not IDEMPOTENCY_KEY.match(key):
        raise InvalidRequest(
            "idempotency_key_invalid",
            "The Idempotency-Key is not valid",
            "Idempotency-Key must have 1 to 255 visible ASCII characters; a UUID is a good one.",
        )
    return key


def _answer(answer_id: str, jobs: tuple[NewJob, ...]) -> dict[str, Any]:
    items = [
        {
            "id": job.id,
            "template": job.template,
            "status": "scheduled" if job.delay_ms else "queued",
            "recipients": None
            if job.recipients is None
            else [{"email": item.address.email, "name": item.address.name} for item in job.recipients],
            "links": {"self": f"/jobs/{job.id}"},
        }
        for job in jobs
    ]
    status = "scheduled" if all(job.delay_ms for job in jobs) else "queued"
    return {"id": answer_id, "status": status, "jobs": items}
