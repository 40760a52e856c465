"""arq's coroutines: unwrap the context, call, and turn "again" into arq's Retry."""

from typing import Any

import structlog
from arq.worker import Retry

from mailer.errors import QueueUnavailable, RecordTooNew
from worker import delivery

log = structlog.get_logger()

QUEUE_AWAY_S = 5
NEWER_RECORD_S = 60
DEFECT_S = 60


async def deliver(ctx: dict[str, Any], job_id: str) -> None:
    with structlog.contextvars.bound_contextvars(job_id=job_id):
        try:
            wait_s = await delivery.deliver(job_id, ctx["store"], ctx["deps"])
        except QueueUnavailable as error:
            log.error("queue.unavailable", detail=str(error))
            raise Retry(QUEUE_AWAY_S) from error
        except RecordTooNew as error:
            log.error("job.record_too_new", fix="upgrade this worker")
            raise Retry(NEWER_RECORD_S) from error
        except Exception as error:  # arq would drop the job without a word
            log.exception("job.not_run")
            raise Retry(DEFECT_S) from error
    if wait_s is not None:
        raise Retry(wait_s)
