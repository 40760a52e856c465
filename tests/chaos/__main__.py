"""`python -m tests.chaos`: a run, its report, and exit code 1 where a promise is broken."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.chaos.judge import Report, judge
from tests.chaos.plan import Settings
from tests.chaos.run import Observed, run


def report_of(settings: Settings, observed: Observed) -> Report:
    report = Report()
    report.count("seed", settings.seed)
    faults = ", ".join(f"{count} {fault}" for fault, count in sorted(observed.faults.items()))
    report.count("faults", faults or "none")
    moods = ", ".join(f"{count} {mood}" for mood, count in sorted(observed.moods.items()))
    report.count("the relay's moods", moods or "none")
    report.count("posts", f"{observed.posts}, with those that had to be repeated")
    report.lines += judge(observed.evidence).lines
    outcomes = sum(job.unknown_outcomes for job in observed.evidence.jobs.values() if job is not None)
    report.count("unknown outcomes", f"{outcomes}; final dots without an answer: {observed.unanswered}")
    report.count("left out of recovery", f"{observed.out} whose wait met an outage of the queue server")
    report.count("killed past the journal", f"{observed.past_journal} jobs")
    report.count("kills not looked at", f"{observed.kills_unseen}: the queue server was away as well")
    report.count("slowest stop of a worker", f"{observed.longest_stop_s:.1f} s")
    report.count("took", f"{observed.took_s:.0f} s")
    return report


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
