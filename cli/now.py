"""`postroom send --now`: the same steps as a job's, without the queue."""

import time
from contextlib import AsyncExitStack
from typing import Any

from mailer.catalogue import TemplateLibrary
from mailer.jobs import Job, NewJob, Status
from mailer.settings import MailerSettings
from service import bodies, mapping
from service.submissions import JobSubmission
from worker.clock import Clock
from worker.delivery import attempt
from worker.journal import NoJournal
from worker.main import open_deps
from worker.outcomes import Outcome
from worker.preparation import Frozen
from worker.relays.attempt import Waiting
from worker.relays.board import Unshared


async def send_now(settings: MailerSettings, body: dict[str, Any]) -> Outcome | Waiting:
    """Check, fetch, render, compose and hand over, once. Raises a Refused as POST /jobs would answer it."""
    templates = TemplateLibrary(settings.templates_dir)
    submission = bodies.validate(JobSubmission, body)
    new = mapping.job_from(submission, templates.catalogue(time.monotonic()), settings.from_)
    now = time.time_ns() // 1_000_000
    async with AsyncExitStack() as stack:
        deps = await open_deps(stack, Unshared())
        return await attempt(_as_job(new, now), new.payload, deps, Clock(now, deps.monotonic), NoJournal(), Frozen())


def _as_job(new: NewJob, now: int) -> Job:
    return Job(
        id=new.id,
        status=Status.PENDING,
        stream=new.stream,
        created_at=now,
        due_at=now,
        template=new.template,
        template_version=new.template_version,
        recipients=new.recipients,
        recipients_from_source=new.recipients is None,
    )
