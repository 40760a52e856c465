"""How figures are made: CPU and memory of processes from /proc, quantiles, medians. Linux only."""

import os
import statistics
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
KB = 1024


def cpu_s(pids: Iterable[int]) -> float:
    """Seconds of CPU that these processes have used, those of ended children with them. 0 for one that is gone."""
    return sum(map(_cpu_of, pids))


def _cpu_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS


def memory_mb(pid: int) -> float:
    """Of one process: what is resident of its own, and its part of what it shares (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / KB
    raise RuntimeError(f"/proc/{pid}/smaps_rollup has no Pss")


def family(pids: Iterable[int]) -> list[int]:
    """These processes and all that descend from them."""
    found = list(pids)
    for pid in found:  # grows as it goes
        with suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def quantiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {name: round(cuts[at] * 1000, 2) for name, at in (("p50_ms", 49), ("p90_ms", 89), ("p99_ms", 98))}
