"""How soon a mail is sent where nobody waits: one POST after another at a steady, low rate."""

import asyncio
import time
from datetime import datetime

import httpx

from benchmarks.figures import quantiles_ms
from benchmarks.mail import job
from benchmarks.plan import Plan
from benchmarks.relay import Relay, counting_relay
from benchmarks.section import Figures, Run, Runs, Section, Stopped
from benchmarks.stage import emptied, listening, stage, workers
from tests.support.processes import api_process

RATE = 10
WARM = 20


async def paced(api: httpx.AsyncClient, relay: Relay, mails: int) -> tuple[dict[str, float], Figures]:
    """The moment of each POST by job id; and figures of the time to the relay's count of the mail, which it makes when
    it writes its 250. The n-th mail that comes is taken for the n-th that was posted."""
    posted: dict[str, float] = {}
    async with relay.exactly():
        before = relay.look()
        for number in range(1, mails + 1):
            began = time.perf_counter()
            posted[await _post(api, number)] = began
            await asyncio.sleep(max(0.0, 1 / RATE - (time.perf_counter() - began)))
        await relay.until(before + mails)
        await relay.settle(before + mails)
    arrivals = relay.arrivals[before:]
    return posted, quantiles_ms([came - began for came, began in zip(arrivals, posted.values(), strict=True)])


async def _post(api: httpx.AsyncClient, number: int) -> str:
    answer = await api.post("/jobs", json=job(number))
    if answer.status_code != httpx.codes.ACCEPTED:
        raise Stopped(f"A job was not accepted: {answer.status_code} {answer.text[:500]}")
    return str(answer.json()["id"])


async def starts_s(api: httpx.AsyncClient, job_ids: list[str]) -> list[float]:
    """From the enqueue to the start of the run, by the queue server's clock: whole milliseconds."""
    records = [(await api.get(f"/jobs/{job_id}")).json() for job_id in job_ids]
    return [_s(record["attempts"][0]["at"]) - _s(record["created_at"]) for record in records]


def _s(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


async def _one(appendfsync: str, mails: int) -> Figures:
    async with stage(appendfsync) as place, counting_relay() as relay:
        env = place.environment(relay.url)
        async with api_process(env) as api, workers(env, 1):
            await listening(place.redis, 1)
            for number in range(WARM):
                await _post(api, number)
            await relay.until(WARM)
            posted, sent = await paced(api, relay, mails)
            await emptied(place.redis)
            started = quantiles_ms(await starts_s(api, list(posted)))
    return sent | {f"start_{name}": value for name, value in started.items()}


async def _runs(plan: Plan) -> Runs:
    for _ in range(plan.rounds):
        for appendfsync in ("everysec", "always"):
            yield Run(appendfsync, await _one(appendfsync, plan.paced))


LATENCY = Section("latency", f"From the POST to the relay's 250 at {RATE} mails a second, one worker", _runs)
