"""POST /jobs/{id}/cancel, /retry and /resolve, PATCH /jobs/{id}: a job moved by a person. Each answers with the job."""

from collections.abc import Callable

from fastapi import APIRouter, Request

from mailer.store.controls import Change, ControlStore, Standing
from mailer.store.jobs import JobStore
from service import controls
from service.bodies import no_fields, read_json, validate
from service.dependencies import ControlsDep, JobId, JobsDep, OwnerDep, PressureDep, not_found, view_of
from service.moments import check_moment
from service.openapi import body_of, problems
from service.schemas import JobOut
from service.submissions import Rescheduling, Resolution, ResolveAs
from service.views import show_job

router = APIRouter(tags=["jobs"])


@router.post(
    "/jobs/{job_id}/cancel", operation_id="cancelJob", responses=problems(400, 401, 404, 409, 413, 415, 422, 503)
)
async def cancel_job(request: Request, store: ControlsDep, jobs: JobsDep, owner: OwnerDep, job_id: JobId) -> JobOut:
    """Stop what is not sent yet: exactly one of sent or cancelled comes of it, whatever a worker does meanwhile. A job
    that reached some of its recipients is `sent`, in part. Said again, it changes nothing."""
    await no_fields(request)
    return await _moved(store, jobs, job_id, owner, controls.cancelled)


@router.post(
    "/jobs/{job_id}/retry", operation_id="retryJob", responses=problems(400, 401, 404, 409, 410, 413, 415, 422, 503)
)
async def retry_job(
    request: Request, store: ControlsDep, jobs: JobsDep, pressure: PressureDep, owner: OwnerDep, job_id: JobId
) -> JobOut:
    """Put a job that has failed, expired or was cancelled back into its queue, for those who have not got it. Its time
    and its attempts are counted anew."""
    await no_fields(request)
    pressure.admit_again()
    return await _moved(store, jobs, job_id, owner, controls.retried)


@router.post(
    "/jobs/{job_id}/resolve",
    operation_id="resolveJob",
    openapi_extra={"requestBody": body_of(Resolution)},
    responses=problems(400, 401, 404, 409, 410, 413, 415, 422, 503),
)
async def resolve_job(
    request: Request, store: ControlsDep, jobs: JobsDep, pressure: PressureDep, owner: OwnerDep, job_id: JobId
) -> JobOut:
    """Say what became of a job that is `unknown`, or have one more copy sent."""
    verdict = validate(Resolution, await read_json(request)).verdict
    if verdict is ResolveAs.RETRY:
        pressure.admit_again()
    return await _moved(store, jobs, job_id, owner, lambda standing: controls.resolved(standing, verdict))


@router.patch(
    "/jobs/{job_id}",
    operation_id="rescheduleJob",
    openapi_extra={"requestBody": body_of(Rescheduling)},
    responses=problems(400, 401, 404, 409, 410, 413, 415, 422, 503),
)
async def reschedule_job(request: Request, store: ControlsDep, jobs: JobsDep, owner: OwnerDep, job_id: JobId) -> JobOut:
    """Another time or another stream for a job that is not being sent."""
    wanted = validate(Rescheduling, await read_json(request))

    def decide(standing: Standing) -> Change:
        check_moment("send_at", wanted.send_at, standing.now)
        return controls.rescheduled(standing, wanted.send_at, wanted.stream)

    return await _moved(store, jobs, job_id, owner, decide)


async def _moved(
    store: ControlStore, jobs: JobStore, job_id: str, by: str, decide: Callable[[Standing], Change | None]
) -> JobOut:
    if not await store.change(job_id, by, decide):
        raise not_found(job_id)
    return show_job(await view_of(jobs, job_id))
