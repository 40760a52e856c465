"""For how long a large mail keeps a worker from everything else: claimed, rendered, composed, sent and told of.

A mail is held up as long as the worst moment of its whole way; of several the median tells, for what others do on the
machine holds the loop up as well.
"""

import asyncio
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import httpx

from benchmarks.mail import job
from benchmarks.plan import Plan
from benchmarks.relay import Relay, counting_relay
from benchmarks.section import Figures, Run, Runs, Section, Stopped
from benchmarks.stage import Stage, emptied, listening, stage
from benchmarks.ticking import longest_ms
from tests.support.processes import api_process, process

ENGLISH = "A line of text, about as long as lines of mail are: seventy."
GERMAN = "Eine Zeile, so lang wie die meisten: Grüße, Äpfel und Öl zuerst."
RUSSIAN = "Строка текста, примерно такая же длинная, как и большинство строк."
SMILES = "😀" * 600
LARGEST = "a template, four octets a character"
LARGEST_CHARS = 1_900_000
"""Of a part: a little less than Postroom takes."""
MAX_BODY_MB = "20"
LAST_TICK_S = 0.05
_OCTETS = re.compile(r"\[([0-9,]+) octets of content\]")


def _rendered(line: str) -> dict[str, Any]:
    """Nearly as large as a template may make it."""
    return {"template": "many_lines", "data": {"line": line, "times": LARGEST_CHARS // (len(line) + len("<p></p>\n"))}}


def _inline(line: str) -> dict[str, Any]:
    text = f"{line}\n" * (LARGEST_CHARS // (len(line) + 1))
    return {"subject": "Many lines", "text": text, "html": text}


MAILS = {
    "the reference mail": job(1),
    "a template, English": _rendered(ENGLISH),
    "a template, German": _rendered(GERMAN),
    "a template, Russian": _rendered(RUSSIAN),
    LARGEST: _rendered(SMILES),
    "inline, English": _inline(ENGLISH),
    "inline, Russian": _inline(RUSSIAN),
}


async def _sent(api: httpx.AsyncClient, place: Stage, mail: dict[str, Any]) -> int:
    """Octets of the mail, once its job has ended."""
    answer = await api.post("/jobs", json={**mail, "to": "ada@example.com"})
    if answer.status_code != httpx.codes.ACCEPTED:
        raise Stopped(f"A job was not accepted: {answer.status_code} {answer.text[:500]}")
    await emptied(place.redis)
    where = f"/jobs/{answer.json()['id']}"
    if (job := (await api.get(where)).json())["status"] != "sent":
        raise Stopped(f"A job was not sent: {job['status']}, {job['detail']}")
    (attempt,) = (await api.get(f"{where}/attempts")).json()["data"]
    (octets,) = _OCTETS.findall(" ".join(line["text"] for line in attempt["conversation"]))
    return int(octets.replace(",", ""))


def _held_up_ms(log: Path, since: int) -> float:
    """The longest time that the worker has told of since its log was so long."""
    return longest_ms(log.read_bytes()[since:].decode().splitlines())


async def _one(place: Stage, relay: Relay, mail: dict[str, Any], mails: int) -> Figures:
    env, log = place.environment(relay.url, max_body_mb=MAX_BODY_MB), place.folder / "log"
    worker = process(sys.executable, "-m", "benchmarks.ticking_worker", env=env, log=log)
    each, octets = list[float](), 0
    async with api_process(env) as api, worker:
        await listening(place.redis, 1)
        for _ in range(1 + mails):  # the first warms up
            since = log.stat().st_size
            octets = await _sent(api, place, mail)
            await asyncio.sleep(LAST_TICK_S)
            each.append(_held_up_ms(log, since))
        await relay.settle(1 + mails)
    return {"mail_octets": octets, "longest_block_ms": statistics.median(each[1:])}


async def _runs(plan: Plan) -> Runs:
    for _ in range(plan.rounds):
        for name, mail in MAILS.items():
            async with stage() as place, counting_relay() as relay:
                yield Run(name, await _one(place, relay, mail, plan.large_mails))


HOLDING_UP = Section("large_mail", "How long a large mail keeps a worker from everything else", _runs)
