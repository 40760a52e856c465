"""How fast one API process accepts: singles by many callers, and batches. The client is a process of its own."""

import asyncio
from collections.abc import Iterator

import orjson

from benchmarks.load import Figures, post_all
from benchmarks.mail import job

IN_A_BATCH = 100


async def singles(api_url: str, posts: int, callers: int, first: int = 1) -> Figures:
    """One job in each request."""
    bodies = [orjson.dumps(job(number)) for number in range(first, first + posts)]
    return await post_all(api_url, "/jobs", bodies, callers)


async def batches(api_url: str, jobs: int, callers: int, first: int = 1) -> Figures:
    """IN_A_BATCH jobs in each request."""
    return await post_all(api_url, "/jobs/batch", await asyncio.to_thread(lambda: list(_batches(jobs, first))), callers)


def _batches(jobs: int, first: int) -> Iterator[bytes]:
    for start in range(first, first + jobs, IN_A_BATCH):
        numbers = range(start, min(start + IN_A_BATCH, first + jobs))
        yield orjson.dumps({"jobs": [job(number) for number in numbers]})
