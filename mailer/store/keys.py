"""Every key on the queue server, and the one place that spells them.

| key | type | TTL | written by | read by |
|---|---|---|---|---|
| postroom:job:{id} | hash | none until it rests, then retention | enqueue, claim, journal, unjournal, finish, release, control | API, worker |
| postroom:payload:{id} | string (JSON) | as the record, but shorter | enqueue, finish, control | claim |
| postroom:frozen:{id} | string (JSON): what was fetched for a mail past its journal | as the payload; gone once a run has sent it | journal, finish, control | claim |
| postroom:attempts:{id} | list (JSON), newest last, bounded | as the record | finish, control | API |
| postroom:jobs:{status} | sorted set of the ids of all jobs of a status by the time of their acceptance, ms | none: members leave with the status, and once the record is gone | enqueue, finish, control, reconcile, sweep | list |
| postroom:recipient:{hash} | sorted set of the ids of jobs to an address, as above | from the due time of its latest job: as long as any backoff tries, and then as a record | enqueue, finish, control, sweep | list |
| postroom:moved | channel: ids of jobs that something has happened to | | finish, control | API |
| postroom:idempotency:{owner}:{key} | hash | 24 h | enqueue | enqueue, API |
| postroom:workers | sorted set of the workers that live by the end of their leases, ms | none: members leave once a worker that claims finds them dead | claim, beat | claim |
| postroom:claimed:{worker} | hash: job ids that a worker holds, with their queues, and the number of its last claim | ten leases | claim, beat, finish, release | claim, whose reply was lost, or that finds the worker dead |
| postroom:streams:paused | hash: stream to the time since which it is paused, ms | none: one key | pause | claim, streams, API |
| postroom:quarantine | string: the worker that takes care of quarantined jobs | the lease | claim, beat | claim, beat |
| postroom:epoch | string: names the data set | none: one key | probe | every process |
| postroom:probe | string | a minute | probe | nobody: written to see that the server takes writes |
| postroom:synced | string | a minute | sync | nobody: written so that WAITAOF has something to wait for |
| postroom:reconciler | string: the worker whose turn it is | seconds | reconciler | reconciler |
| postroom:reconciler:cursor | string: where the next turn begins | a day | reconciler | reconciler |
| postroom:wake | channel | | enqueue, release, reconcile, control, pause | workers |
| postroom:relays | sorted set of descriptions (JSON) by the time they were told, ms | a day | tell | API |
| postroom:relay:{name} | string (JSON): pause, breaker and pace of a relay | a day after its last change; none while paused | swap | worker, API |
| postroom:slot:{name} | string: next free slot of a relay with a rate, us | until then | slot | slot |
| postroom:mailbox | sorted set of ids by arrival number | newest 500 | capture | API |
| postroom:mailbox:counter | string (integer) | none: one key | capture | capture, API |
| postroom:mailbox:message:{id} | hash | removed with its id | capture | API |
| postroom:mailbox:arrivals | channel | | capture | API |
| arq:queue, arq:queue:critical, arq:queue:bulk | sorted set of job ids by due time, ms; while a job runs, by the end of its lease | members leave when the job rests | enqueue, claim, beat, journal, unjournal, finish, release, reconcile, control | claim, reconcile |
| arq:queue:quarantine | as above: jobs whose worker died twice | as above | claim, beat, journal, unjournal, finish, release, control | claim, reconcile |
| arq:job:{id} | string: arq's job blob | none: arq's 24 h would lose mail; removed when the job rests | enqueue, finish, release, reconcile, control | claim |
| arq:in-progress:{id} | string: the run that holds the lease | the lease | claim, beat, journal, unjournal, finish, release, control | claim, beat, release, API |
| arq:queue:health-check | string | seconds | beat | arq --check, dev mode |
"""
# ruff: noqa: E501 - rows of a table cannot be folded

from hashlib import sha256

WAKE = "postroom:wake"
MOVED = "postroom:moved"
EPOCH = "postroom:epoch"
PROBE = "postroom:probe"
SYNCED = "postroom:synced"
PAUSED_STREAMS = "postroom:streams:paused"
WORKERS = "postroom:workers"
QUARANTINE_HOLDER = "postroom:quarantine"
RECONCILER = "postroom:reconciler"
RECONCILER_CURSOR = "postroom:reconciler:cursor"
RELAYS = "postroom:relays"
MAILBOX = "postroom:mailbox"
MAILBOX_COUNTER = "postroom:mailbox:counter"
MAILBOX_ARRIVALS = "postroom:mailbox:arrivals"


JOB = "postroom:job:"
PAYLOAD = "postroom:payload:"
FROZEN = "postroom:frozen:"
JOBS = "postroom:jobs:"
RECIPIENT = "postroom:recipient:"
CLAIMED = "postroom:claimed:"
ARQ_JOB = "arq:job:"
ARQ_IN_PROGRESS = "arq:in-progress:"


def job(job_id: str) -> str:
    return JOB + job_id


def payload(job_id: str) -> str:
    return PAYLOAD + job_id


def frozen(job_id: str) -> str:
    return FROZEN + job_id


def attempts(job_id: str) -> str:
    return f"postroom:attempts:{job_id}"


def jobs(status: str) -> str:
    return JOBS + status


def recipient(email: str) -> str:
    return RECIPIENT + hash_of(email)


def hash_of(email: str) -> str:
    """Of an address as jobs are looked for by it: upper and lower case are the same."""
    return sha256(email.lower().encode()).hexdigest()[:32]


def idempotency(owner: str, key: str) -> str:
    return f"postroom:idempotency:{owner}:{key}"


def claimed(worker: str) -> str:
    return CLAIMED + worker


def relay(name: str) -> str:
    return f"postroom:relay:{name}"


def slot(relay_name: str) -> str:
    return f"postroom:slot:{relay_name}"


def mailbox_message(message_id: str) -> str:
    return f"postroom:mailbox:message:{message_id}"


def arq_job(job_id: str) -> str:
    return ARQ_JOB + job_id


def arq_in_progress(job_id: str) -> str:
    return ARQ_IN_PROGRESS + job_id
