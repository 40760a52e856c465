"""What a run of the harness found, and its file. Nothing but the standard library: the plot is drawn elsewhere."""

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.section import Figures, LeftOut, Run

RESULTS, TABLE, PLOT = "results.json", "table.md", "plot.svg"


@dataclass(slots=True)
class Results:
    """`busy`: the share of all cores that others took before it began. `work_before_ms`, `work_after_ms`: what a fixed
    piece of work took on each core. `sections`: the figures of each run, by section and subject. `busiest`: the largest
    share that others took between two sections, and `busiest_before` is the second of these."""

    began_at: str
    rounds: int
    quick: bool
    busy: float
    machine: dict[str, str]
    work_before_ms: dict[str, float]
    work_after_ms: dict[str, float] = field(default_factory=dict)
    sections: dict[str, dict[str, list[Figures]]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    busiest: float = 0.0
    busiest_before: str = ""

    def add(self, section: str, found: Run | LeftOut) -> None:
        if isinstance(found, LeftOut):
            self.left_out[f"{section}: {found.subject}"] = found.reason
        else:
            self.sections.setdefault(section, {}).setdefault(found.subject, []).append(found.figures)

    def note_busy(self, share: float, section: str) -> None:
        """What others took just before this section."""
        if share > self.busiest:
            self.busiest, self.busiest_before = round(share, 3), section

    def lacks_some_of(self, section: str) -> bool:
        """Whether a subject of it was left out."""
        return any(name.startswith(f"{section}: ") for name in self.left_out)

    def values(self, section: str, subject: str, figure: str) -> list[float]:
        """One for each round, in their order; none where it was not measured."""
        runs = self.sections.get(section, {}).get(subject, [])
        return [run[figure] for run in runs if figure in run]

    def median(self, section: str, subject: str, figure: str) -> float | None:
        values = self.values(section, subject, figure)
        return statistics.median(values) if values else None

    def write(self, folder: Path) -> None:
        (folder / RESULTS).write_text(json.dumps(asdict(self), indent=2) + "\n")


def read(folder: Path) -> Results:
    """Raises FileNotFoundError."""
    return Results(**json.loads((folder / RESULTS).read_text()))
