"""Every key on the queue server, and the one place that spells them.

| key | type | TTL | written by | read by |
|---|---|---|---|---|
| postroom:job:{id} | hash | none until final, then retention | enqueue.lua, finish.lua | API, worker |
| postroom:payload:{id} | string (JSON) | as the record, but shorter | enqueue.lua, finish.lua | worker |
| postroom:attempts:{id} | list (JSON), newest last, bounded | as the record | finish.lua | API |
| postroom:idempotency:{owner}:{key} | hash | 24 h | enqueue.lua | enqueue.lua |
| postroom:wake | channel | | enqueue.lua | whoever waits for a queue entry |
| postroom:mailbox | sorted set of ids by arrival number | newest 500 | capture.lua | API |
| postroom:mailbox:counter | string (integer) | none: one key | capture.lua | capture.lua, API |
| postroom:mailbox:message:{id} | hash | removed with its id | capture.lua | API |
| postroom:mailbox:arrivals | channel | | capture.lua | API |
| arq:queue | sorted set of job ids by due time, ms | members leave when final | enqueue.lua, arq | arq, API |
| arq:job:{id} | string: arq's job blob | none: arq's 24 h would lose mail; removed when final | enqueue.lua | arq |
| arq:in-progress:{id} | string | longest job time | arq | arq, API |
| arq:retry:{id} | string | 25 h | arq | arq |
| arq:queue:health-check | string | a few seconds | arq | arq --check |
"""

WAKE = "postroom:wake"
MAILBOX = "postroom:mailbox"
MAILBOX_COUNTER = "postroom:mailbox:counter"
MAILBOX_ARRIVALS = "postroom:mailbox:arrivals"


def job(job_id: str) -> str:
    return f"postroom:job:{job_id}"


def payload(job_id: str) -> str:
    return f"postroom:payload:{job_id}"


def attempts(job_id: str) -> str:
    return f"postroom:attempts:{job_id}"


def idempotency(owner: str, key: str) -> str:
    return f"postroom:idempotency:{owner}:{key}"


def mailbox_message(message_id: str) -> str:
    return f"postroom:mailbox:message:{message_id}"


def arq_job(job_id: str) -> str:
    return f"arq:job:{job_id}"


def arq_in_progress(job_id: str) -> str:
    return f"arq:in-progress:{job_id}"
