"""Results as a reader sees them, in Markdown: what must be reached, then each section, medians of its rounds."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.machine import FILE_SYSTEM, IN_MEMORY, MOST_BUSY, MOST_DRIFT, drift
from benchmarks.plan import POSTROOM
from benchmarks.results import Results
from benchmarks.section import Figures, Section
from benchmarks.targets import TARGETS, is_reached, measured
from benchmarks.transaction import REFERENCE

_CPU = "CPU, ms each"
_HEADINGS = {
    "mails_per_s": "mails/s",
    "jobs_per_s": "jobs/s",
    "cpu_ms": _CPU,
    "mail_octets": "octets of a mail",
    "longest_block_ms": "the loop held up at most, ms",
    "worker_cpu_ms": f"workers: {_CPU}",
    "api_cpu_ms": f"API: {_CPU}",
    "queue_server_cpu_ms": f"queue server: {_CPU}",
    "relay_cpu_ms": f"sink: {_CPU}",
    "client_cpu_ms": f"client: {_CPU}",
    "post_p50_ms": "answer p50, ms",
    "post_p99_ms": "answer p99, ms",
    "round_trips": "round trips to the queue server, a mail",
    "p50_ms": "POST to 250: p50, ms",
    "p90_ms": "p90",
    "p99_ms": "p99",
    "start_p50_ms": "enqueue to start: p50, ms",
    "start_p90_ms": "p90",
    "start_p99_ms": "p99",
    "queued_octets": "a queued job, octets",
    "data_octets": "of these its data",
    "beyond_data_octets": "beyond its data",
    "finished_octets": "a finished record, octets",
    "rest_mb": "at rest, MB",
    "load_mb": "under load, MB",
    "queued": "jobs queued",
    "rewrites": "rewrites of its file by the server",
    "claim_ms": "a claim, ms of the server",
}


@dataclass(frozen=True, slots=True)
class _Relation:
    """A column that sets the figure of each subject against that of another, round by round. `base_of`: whose.
    `of_base`: the subject's share of it; else how many times as much it is."""

    heading: str
    figure: str
    base_of: Callable[[str], str]
    of_base: bool = False


def _as_many_processes(subject: str) -> str:
    """A tool that decides by itself how many it starts uses all cores."""
    return f"{POSTROOM}, {'1 process' if subject.endswith('1 process') else '2 processes'}"


_RELATIONS = {
    "transaction": _Relation(
        "share", "cpu_ms", lambda subject: f"{REFERENCE}, {subject.rpartition(', ')[2]}", of_base=True
    ),
    "drain": _Relation("Postroom, as many processes, is faster by", "mails_per_s", _as_many_processes),
    "slow_relay": _Relation("Postroom is faster by", "mails_per_s", lambda _: f"{POSTROOM}, default settings"),
}


def number(value: float) -> str:
    digits = 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f}"


def line(section: str, subject: str, figures: Figures) -> str:
    """One run, for who watches."""
    said = ", ".join(f"{_HEADINGS.get(name, name)} {number(value)}" for name, value in figures.items())
    return f"{section} · {subject} · {said}"


def report(results: Results, sections: Sequence[Section]) -> str:
    """All of table.md."""
    parts = [_about(results), reached(results)]
    parts += [
        f"### {section.title}\n\n{_section(section.name, results)}"
        for section in sections
        if section.name in results.sections
    ]
    parts += ["\n".join(f"Left out: {name}: {why}" for name, why in results.left_out.items())]
    return "\n\n".join(part for part in parts if part) + "\n"


def reached(results: Results) -> str:
    """The table of what must be."""
    rows = []
    for target in TARGETS:
        value = measured(target, results)
        bound = f"{'at least' if target.at_least else 'at most'} {format(target.bound, ',g')} {target.unit}"
        verdict = "not measured" if value is None else "yes" if is_reached(target, value) else "**no**"
        rows.append((target.what, bound, "" if value is None else number(value), verdict))
    return f"### Must be reached\n\n{_markdown(('what', 'must be', 'measured', 'reached'), rows)}"


def warnings(results: Results) -> Iterator[str]:
    """Why these figures are to be trusted less."""
    if results.quick:
        yield "A quick look: counts are too small for figures that mean something."
    if results.busy > MOST_BUSY:
        yield f"The machine was {results.busy:.0%} busy with other work when it began."
    if results.busiest > MOST_BUSY:
        yield (
            f"The machine was {results.busiest:.0%} busy with other work before {results.busiest_before}: its figures "
            "may be low."
        )
    if (kind := results.machine.get(FILE_SYSTEM)) in IN_MEMORY:
        yield f"The queue server wrote its file to memory ({kind}): `appendfsync` costs nothing there. Set TMPDIR."
    change = drift(results.work_before_ms, results.work_after_ms)
    if change > MOST_DRIFT:
        yield f"The machine changed its speed by {change:.0%} from beginning to end: only ratios mean something."


def _about(results: Results) -> str:
    machine = "; ".join(f"{name} {value}" for name, value in results.machine.items())
    work = ", ".join(f"{core} {value:.1f} ms" for core, value in results.work_before_ms.items())
    after = ", ".join(f"{core} {value:.1f} ms" for core, value in results.work_after_ms.items())
    said = [f"{results.began_at}, medians of {results.rounds} round{'s' if results.rounds > 1 else ''}. {machine}."]
    said += [f"A fixed piece of work took {work}" + (f"; at the end {after}." if after else ".")]
    return "\n\n".join([*said, *(f"**{warning}**" for warning in warnings(results))])


def _section(name: str, results: Results) -> str:
    subjects = results.sections[name]
    columns = list(dict.fromkeys(figure for runs in subjects.values() for run in runs for figure in run))
    relation = _RELATIONS.get(name)
    rows = []
    for subject in subjects:
        row = [subject, *(_cell(results.values(name, subject, figure), figure) for figure in columns)]
        if relation is not None:
            row.append(_related(relation, name, subject, results))
        rows.append(row)
    headings = ["", *(_HEADINGS.get(figure, figure) for figure in columns)]
    return _markdown([*headings, *([relation.heading] if relation else [])], rows)


def _cell(values: list[float], figure: str) -> str:
    """The median; of rates the smallest and the largest too."""
    if not values:
        return ""
    median = number(statistics.median(values))
    return f"{median} ({_range(values)})" if figure.endswith("_per_s") and len(values) > 1 else median


def _related(relation: _Relation, section: str, subject: str, results: Results) -> str:
    base_name = relation.base_of(subject)
    own, base = (results.values(section, one, relation.figure) for one in (subject, base_name))
    ratios = [a / b if relation.of_base else b / a for a, b in zip(own, base, strict=False)]
    if not ratios or subject == base_name:
        return ""
    median = number(statistics.median(ratios))
    return f"{median} ({_range(ratios)})" if len(ratios) > 1 else median


def _range(values: list[float]) -> str:
    return f"{number(min(values))} to {number(max(values))}"


def _markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
