"""arq's coroutines: unwrap the context, call, and give the job back where its run came to no end."""

from typing import Any

import structlog

from mailer.errors import QueueUnavailable, RecordTooNew
from worker import delivery
from worker.lease import PUSHED_BACK_S, Lease

log = structlog.get_logger()


async def deliver(ctx: dict[str, Any], job_id: str) -> None:
    lease: Lease = ctx["lease"]
    structlog.contextvars.bind_contextvars(job_id=job_id)  # of this run's task, which has a context of its own
    try:
        await delivery.deliver(lease, ctx["deps"])
    except QueueUnavailable as error:
        log.error("job.not_journaled", detail=str(error))
        await lease.give_back()
    except RecordTooNew:
        log.error("job.record_too_new", fix="upgrade this worker")
        await lease.give_back(PUSHED_BACK_S)
    except Exception:  # a defect before the job could be read: it is kept, and looked at again
        log.exception("job.not_run")
        await lease.give_back(PUSHED_BACK_S)
