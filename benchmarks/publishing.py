"""What was measured, as files: results.json, table.md and plot.svg in a folder; and from there into the README."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.environments import ROOT, PeersPython
from benchmarks.results import PLOT, RESULTS, TABLE, Results, read
from benchmarks.section import Section, Stopped
from benchmarks.table import report

README = Path(__file__).with_name("README.md")
PUBLISHED = Path(__file__).with_name("results")
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
PLOT_TIMEOUT_S = 60


def write(results: Results, sections: Sequence[Section], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results.write(folder)
    (folder / TABLE).write_text(report(results, sections))


def draw(results: Results, folder: Path) -> str | None:
    """The plot, from the written results; or why there is none."""
    (folder / PLOT).unlink(missing_ok=True)
    if "drain" not in results.sections:
        return "no plot: the section `drain` was not measured"
    python = PeersPython()
    if not python.is_installed():
        return "no plot: matplotlib comes with the peers in Python, run `python -m benchmarks.peers Dramatiq` once"
    command = (python.executable, "-m", "benchmarks.plot", str(folder.resolve()))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PLOT_TIMEOUT_S)
    if done.returncode == 0:
        return None
    last_words = done.stderr.strip().rpartition("\n")[2]
    return f"no plot: {last_words or f'it ended with {done.returncode}'}"


def publish(folder: Path, readme: Path = README, published: Path = PUBLISHED) -> None:
    """Raises Stopped where there is nothing that is fit to be shown."""
    try:
        results, table = read(folder), (folder / TABLE).read_text()
    except FileNotFoundError as error:
        raise Stopped(f"Nothing to publish: {error.filename} is not there; run `make bench` first") from None
    if results.quick:
        raise Stopped(f"The results in {folder} are of a quick look: run `make bench` without --quick first")
    if not results.work_after_ms:
        raise Stopped(f"The run whose results are in {folder} did not come to its end: run `make bench` again")
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise Stopped(f"{readme} has no place for results: write a line {BEGIN} and a line {END}")
    published.mkdir(exist_ok=True)
    picture = ""
    for name in (RESULTS, PLOT):
        (published / name).unlink(missing_ok=True)
        if (folder / name).exists():
            shutil.copy(folder / name, published)
    if (folder / PLOT).exists():
        picture = f"![Mails a second by tool, 1 and 2 worker processes]({published.name}/{PLOT})\n\n"
    readme.write_text(f"{before}{BEGIN}\n\n{picture}{table}\n{END}{after}")
