"""A worker whose loop is blocked, or that was frozen, ends for sure, says where, and does not go on first."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, re, signal, sys, time
from worker.watchdog import watchdog

async def main():
    async with watchdog(0.5):
        await asyncio.sleep(0.1)
        print("begun", flush=True)
        {block}
        print("went on", flush=True)

asyncio.run(main())
"""


def command(block: str) -> tuple[str, ...]:
    return (sys.executable, "-c", PROGRAM.format(block=block))


def run(block: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(block), cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize(
    "block",
    ["time.sleep(30)", "while True: pass", "re.match('(a+)+$', 'a' * 60 + 'b')"],
    ids=["a call that blocks", "a loop", "a regular expression, which never lets go of the interpreter"],
)
def test_a_process_whose_loop_is_blocked_ends_and_says_where(block: str):
    ended = run(block)
    assert (ended.returncode, ended.stdout) == (-signal.SIGALRM, "begun\n")
    assert "in main" in ended.stderr


def test_a_process_whose_loop_runs_is_left_alone():
    ended = run("for _ in range(15): await asyncio.sleep(0.1)")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "begun\nwent on\n", "")


def test_where_the_signal_does_not_end_it_a_thread_does():
    """As in a container, whose process 1 has no default actions."""
    ended = run("signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM}); time.sleep(30)")
    assert (ended.returncode, ended.stdout) == (1, "begun\n")
    assert "in main" in ended.stderr


async def test_a_process_that_was_frozen_does_not_go_on():
    block = "await asyncio.to_thread(sys.stdin.readline)"
    child = await asyncio.create_subprocess_exec(
        *command(block), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdin is not None
    assert await child.stdout.readline() == b"begun\n"
    child.send_signal(signal.SIGSTOP)
    child.stdin.write(b"go on\n")
    await asyncio.sleep(0.8)  # the fault itself: longer than the watchdog's time
    child.send_signal(signal.SIGCONT)
    rest, _ = await child.communicate()
    assert (child.returncode, rest) == (-signal.SIGALRM, b"")
