"""The machine of a run: what it is, whether it is idle enough to measure on, and how fast it was at that hour."""

import hashlib
import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from benchmarks.figures import KB
from cli.embedded import Engine, find_engine
from mailer.errors import SettingsError
from tests.peers.smtp_sink import lacking_sink, sink_environment, sink_program

ROOT = Path(__file__).parents[1]
FILE_SYSTEM = "files of the queue server on"
IN_MEMORY = ("tmpfs", "ramfs")
SAMPLE_S = 2.0
BETWEEN_S = 1.0
MOST_BUSY = 0.1
MOST_DRIFT = 0.15
WORK_TURNS = 3
LIBRARIES = (
    *("postroom", "aiosmtplib", "arq", "fastapi", "hiredis", "httptools", "jinja2", "orjson", "pydantic"),
    *("redis", "uvicorn", "uvloop"),
)


def lacking() -> str | None:
    """What nothing can be measured without, and the fix."""
    if not Path("/proc/stat").exists():
        return "CPU and memory are read from /proc, which this system has not: run it on Linux"
    try:
        find_engine()
    except SettingsError:
        return "There is no queue server here: run `make install`, which brings one"
    return lacking_sink()


def described() -> dict[str, str]:
    """What a reader has to know to compare: hardware, system, and the versions of all that takes part."""
    engine = find_engine()
    memory = re.search(r"MemTotal: *(\d+)", Path("/proc/meminfo").read_text())
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": f"{model[1] if model else 'unknown'} ({platform.machine()})",
        "memory": f"{int(memory[1]) / KB / KB:.0f} GB" if memory else "unknown",
        FILE_SYSTEM: file_system(Path(tempfile.gettempdir()), Path("/proc/mounts").read_text()),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "queue server": f"{engine.name} {engine.version}, {_allocator(engine)}",
        "smtp-sink": f"Postfix {_said('postconf', '-d', '-h', 'mail_version')}",
        "Node.js": _said("node", "--version"),
        "commit": _said("git", "describe", "--always", "--dirty"),
    } | {name: metadata.version(name) for name in LIBRARIES}


def file_system(folder: Path, mounts: str) -> str:
    """The type of the one that a folder lies in, by the text of /proc/mounts (proc(5)); the last of two counts."""
    found = {Path(point.replace("\\040", " ")): kind for _, point, kind, *_ in map(str.split, mounts.splitlines())}
    resolved = folder.resolve()
    return next((found[path] for path in (resolved, *resolved.parents) if path in found), "unknown")


def _allocator(engine: Engine) -> str:
    said = subprocess.run([engine.binary, "--version"], capture_output=True, text=True, check=True, timeout=10).stdout
    found = re.search(r"malloc=(\S+)", said)
    return found[1] if found else "unknown allocator"


def _said(program: str, *arguments: str) -> str:
    """What a program prints; Postfix's own lie beside its sink."""
    sink = sink_program()
    beside = sink.parent / program if sink else Path(program)
    command = (str(beside) if beside.exists() else program, *arguments)
    environment = sink_environment() if beside.exists() else os.environ
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10, cwd=ROOT, env=dict(environment)
        )
    except (OSError, subprocess.SubprocessError):
        return "not here"
    return done.stdout.strip()


def busy(within_s: float = SAMPLE_S) -> float:
    """The share of all cores that others took in that time, while we did nothing."""
    before = Path("/proc/stat").read_text()
    time.sleep(within_s)
    return busy_between(before, Path("/proc/stat").read_text())


def busy_between(before: str, after: str) -> float:
    """Of two texts of /proc/stat (proc(5)). What the host of a virtual machine took away counts as busy."""
    then, now = (_times(text) for text in (before, after))
    spent = [late - early for late, early in zip(now, then, strict=True)]
    idle = spent[3] + spent[4]  # iowait is idle time too
    return 1 - idle / max(1, sum(spent))


def too_busy(share: float) -> str | None:
    """Why nothing is measured now, and what to do."""
    if share <= MOST_BUSY:
        return None
    return (
        f"The machine is {share:.0%} busy with other work, {MOST_BUSY:.0%} is the most: "
        "stop that work, or add --even-if-busy and trust the figures less"
    )


def _times(text: str) -> list[int]:
    """Of all cores together: user, nice, system, idle, iowait, irq, softirq, steal; guests are within user and nice."""
    return list(map(int, text.partition("\n")[0].split()[1:9]))


def work_ms() -> dict[str, float]:
    """CPU milliseconds of a fixed piece of work on each core, the best of WORK_TURNS: by it, runs of different days
    and machines can be put side by side."""
    cores = os.sched_getaffinity(0)
    found = {}
    try:
        for core in sorted(cores):
            os.sched_setaffinity(0, {core})
            found[f"core {core}"] = round(min(_work() for _ in range(WORK_TURNS)), 1)
    finally:
        os.sched_setaffinity(0, cores)
    return found


def _work() -> float:
    """What mail is made of: text put together, looked through, hashed, and kept in a table."""
    began = time.thread_time()
    table: dict[str, int] = {}
    text = b""
    for number in range(40_000):
        line = f"{number:07} a line of text of a mail, with {number % 97} of something & <more>".replace("&", "&amp;")
        table[line[:7]] = len(line.split())
        text = text[-4096:] + line.encode()
        if number % 16 == 0:
            hashlib.sha256(text).hexdigest()
    return (time.thread_time() - began) * 1000


def drift(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """By how much the slower of the two took longer, on the core where they differ most: 0.15 is 15 %."""
    pairs = [(before[core], after[core]) for core in before.keys() & after.keys()]
    return max((max(pair) / min(pair) - 1 for pair in pairs), default=0.0)
