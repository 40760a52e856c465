"""How fast a full queue is drained, as a picture: `python -m benchmarks.plot FOLDER`, in the environment of the peers,
which has matplotlib. Readable without colours."""

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

from benchmarks.results import PLOT, Results, read

ONE, TWO = ", 1 process", ", 2 processes"
BAR = 0.38


def draw(results: Results, path: Path) -> None:
    rates = {
        subject: results.median("drain", subject, "mails_per_s") or 0.0 for subject in results.sections.get("drain", {})
    }
    tools = dict.fromkeys(subject.removesuffix(ONE).removesuffix(TWO) for subject in rates)
    slowest_first = sorted(tools, key=lambda tool: max(rates.get(f"{tool}{many}", 0.0) for many in (ONE, TWO, "")))
    mpl.rcParams.update({"svg.hashsalt": "postroom", "font.size": 10})
    figure, axes = pyplot.subplots(figsize=(8, 0.7 * len(tools) + 1.2))
    for many, label, shift, fill, hatch in (
        (ONE, "1 worker process", BAR / 2, "white", "///"),
        (TWO, "2 worker processes", -BAR / 2, "0.35", ""),
        ("", "as many as it likes", 0.0, "0.8", "..."),
    ):
        shown = [
            (place, rates[f"{tool}{many}"]) for place, tool in enumerate(slowest_first) if f"{tool}{many}" in rates
        ]
        if not shown:
            continue
        bars = axes.barh(
            [place + shift for place, _ in shown],
            [rate for _, rate in shown],
            height=BAR,
            color=fill,
            edgecolor="black",
            hatch=hatch,
            label=label,
        )
        axes.bar_label(bars, fmt="{:,.0f}", padding=4)
    axes.set_yticks(range(len(slowest_first)), slowest_first)
    axes.set_xlabel("mails/s, a full queue drained into smtp-sink")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    draw(read(folder), folder / PLOT)
