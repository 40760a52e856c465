"""`python -m tests.chaos`: a run, its report, and exit code 1 where a promise is broken."""

import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import uvloop

from tests.chaos.judge import Report, judge
from tests.chaos.plan import Settings
from tests.chaos.run import Observed, run


def report_of(settings: Settings, observed: Observed) -> Report:
    report = Report()
    report.count("seed", settings.seed)
    report.count("faults", _counted(observed.faults))
    report.count("the relays' moods", _counted(observed.moods))
    report.count("posts", f"{observed.posts}, with those that had to be repeated")
    report.count("controls", _counted(observed.controls))
    report.lines += judge(observed.evidence).lines
    report.count("mails by relay", _counted(observed.mails))
    report.count("fail-overs", f"{observed.fail_overs.total()}: {_counted(observed.fail_overs)}")
    report.count("breakers opened", _counted(observed.openings))
    report.count("slowest pace", ", ".join(f"{name} {pace:.3g}" for name, pace in observed.slowest.items()))
    outcomes = sum(job.unknown_outcomes for job in observed.evidence.jobs.values() if job is not None)
    report.count("unknown outcomes", f"{outcomes}; final dots without an answer: {observed.unanswered}")
    left_out = f"{observed.out} whose wait met an outage of the queue server, {observed.barred} of all relays"
    report.count("left out of recovery", left_out)
    report.count("killed past the journal", f"{observed.past_journal} jobs")
    report.count("kills not looked at", f"{observed.kills_unseen}: the queue server was away as well")
    report.count("slowest stop of a worker", f"{observed.longest_stop_s:.1f} s")
    report.count("took", f"{observed.took_s:.0f} s")
    return report


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(found.items())) or "none"


def main() -> int:
    settings = Settings.load(os.environ)
    folder = Path(tempfile.mkdtemp(prefix="postroom-chaos-"))
    sys.stderr.write(f"seed {settings.seed}: {settings.jobs} jobs, {settings.kills} faults, logs in {folder}\n")
    report = report_of(settings, uvloop.run(run(settings, folder)))
    sys.stdout.write(report.text() + "\n")
    if report.is_kept:
        shutil.rmtree(folder)
        return 0
    sys.stdout.write(f"A promise is broken. Logs and data: {folder}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
