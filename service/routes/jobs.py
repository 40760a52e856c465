"""GET /jobs/{id} and its attempts."""

from fastapi import APIRouter

from service.dependencies import JobId, JobsDep, view_of
from service.openapi import problems
from service.schemas import Attempts, JobOut
from service.views import show_attempts, show_job

router = APIRouter(tags=["jobs"])


@router.get(
    "/jobs/{job_id}",
    operation_id="getJob",
    responses=problems(401, 404, 503),
)
async def get_job(jobs: JobsDep, job_id: JobId) -> JobOut:
    """A job as it stands: its status, each recipient's outcome, and the attempts made."""
    return show_job(await view_of(jobs, job_id))


@router.get(
    "/jobs/{job_id}/attempts",
    operation_id="listAttempts",
    responses=problems(401, 404, 503),
)
async def list_attempts(jobs: JobsDep, job_id: JobId) -> Attempts:
    """Each attempt with the SMTP conversation, how long each part took, and what the relay calls the mail."""
    return show_attempts((await view_of(jobs, job_id)).attempts)
