"""Whatever a relay says: each mail ends with the truth about it, or in doubt, and the pool goes on."""

import asyncio
import json
import random
import sys

import pytest

from tests.support.processes import ROOT

FIXED = 4
ANY = random.SystemRandom().randrange(1_000_000)
MINUTES = 4 / 60
"""At least: a round is played to its end."""


@pytest.mark.parametrize("seed", [FIXED, pytest.param(ANY, id="a fresh seed")])
async def test_no_reply_makes_a_mail_lost_twice_or_wrongly_told(seed: int) -> None:
    """An hour of it: python -m tests.faults.random_replies --minutes 60"""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.random_replies", "--minutes", str(MINUTES), "--seed", str(seed)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(50):
            output, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 0, f"seed {seed}\n{output.decode()}"
    counts = json.loads(output)
    assert counts["accepted"] > 0
    assert counts["unknown: answer_lost"] > 0
