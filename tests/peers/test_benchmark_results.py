"""What a run of `make bench` found: how it is judged, shown and published, and when it says to trust it less."""

import json
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.__main__ import SECTIONS
from benchmarks.peers.environments import PeersPython
from benchmarks.publishing import BEGIN, END, draw, publish, write
from benchmarks.results import Results, read
from benchmarks.section import Figures, LeftOut, Run, Stopped
from benchmarks.table import reached, warnings
from benchmarks.targets import TARGETS, Target, is_reached, measured

IDLE = "cpu 100 0 100 800 0 0 0 0 0 0\ncpu0 1 1 1 1\n"


def results(*, quick: bool = False, **sections: dict[str, list[Figures]]) -> Results:
    same = {"core 0": 50.0}
    return Results("now", 3, quick, 0.0, {"cores": "2"}, same, work_after_ms=same, sections=sections)


@pytest.mark.parametrize(
    ("after", "share"),
    [
        ("cpu 100 0 100 1000 0 0 0 0 0 0", 0.0),
        ("cpu 150 50 150 850 0 0 0 0 0 0", 0.75),
        ("cpu 100 0 100 900 0 50 50 0 0 0", 0.5),
        ("cpu 100 0 100 900 0 0 0 100 0 0", 0.5),
        ("cpu 100 0 100 800 200 0 0 0 0 0", 0.0),
        ("cpu 200 0 100 900 0 0 0 0 100 0", 0.5),
        (IDLE, 1.0),
    ],
    ids=["idle", "others", "interrupts", "stolen by the host", "waits for a disk", "a guest, once", "no time passed"],
)
def test_how_busy_the_machine_is_is_read_from_two_looks(after: str, share: float):
    assert machine.busy_between(IDLE, f"{after}\nctxt 1\n") == pytest.approx(share)


def test_a_busy_machine_is_told_in_one_line_with_what_to_do():
    assert machine.too_busy(0.1) is None
    told = machine.too_busy(0.34)
    assert told is not None
    assert "34% busy" in told
    assert "--even-if-busy" in told
    assert "\n" not in told


def test_a_machine_that_changed_its_speed_is_told():
    found = results()
    assert list(warnings(found)) == []
    found.work_after_ms = {"core 0": 60.0}
    assert machine.drift(found.work_before_ms, found.work_after_ms) == pytest.approx(0.2)
    (warning,) = warnings(found)
    assert "changed its speed by 20%" in warning


def test_a_machine_that_others_used_between_two_sections_is_told():
    found = results()
    found.note_busy(0.05, "accepts")
    assert list(warnings(found)) == []
    found.note_busy(0.34, "memory")
    found.note_busy(0.2, "growth")
    (warning,) = warnings(found)
    assert "34% busy with other work before memory: its figures may be low" in warning


MOUNTS = """\
/dev/vda / ext4 rw 0 0
none /tmp tmpfs rw 0 0
none /tmp tmpfs ro 0 0
/dev/vdb /tmp/a\\040disk xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/var/tmp", "ext4"), ("/tmp/x/y", "tmpfs"), ("/tmp/a disk/x", "xfs"), ("/tmpfiles", "ext4")],
)
def test_the_file_system_of_a_folder_is_read_from_the_mounts(folder: str, kind: str):
    assert machine.file_system(Path(folder), MOUNTS) == kind


def test_a_queue_server_that_wrote_to_memory_is_told():
    found = results()
    assert machine.described()[machine.FILE_SYSTEM] != "unknown"
    found.machine[machine.FILE_SYSTEM] = "ext4"
    assert list(warnings(found)) == []
    found.machine[machine.FILE_SYSTEM] = "tmpfs"
    (warning,) = warnings(found)
    assert "to memory (tmpfs)" in warning


def test_results_of_an_older_run_can_still_be_read(tmp_path: Path):
    write(results(drain={"Postroom, 1 process": [{"mails_per_s": 1.0}]}), SECTIONS, tmp_path)
    told = json.loads((tmp_path / "results.json").read_text())
    del told["busiest"], told["busiest_before"]
    (tmp_path / "results.json").write_text(json.dumps(told))
    assert read(tmp_path).values("drain", "Postroom, 1 process", "mails_per_s") == [1.0]


def test_the_fixed_work_takes_time_on_each_core():
    assert all(milliseconds > 0 for milliseconds in machine.work_ms().values())


TO_ARQ = Target("", "drain", "Postroom, 1 process", "mails_per_s", 12, "times", against="naive arq, 1 process")
TO_ALL = Target("", "drain", "Postroom, 2 processes", "mails_per_s", 1, "times", against="every peer")


def test_ratios_are_taken_round_by_round_before_their_median():
    found = results(
        drain={
            "Postroom, 1 process": [{"mails_per_s": rate} for rate in (1000.0, 3000.0, 2400.0)],
            "naive arq, 1 process": [{"mails_per_s": rate} for rate in (100.0, 200.0, 200.0)],
        }
    )
    assert measured(TO_ARQ, found) == 12
    assert is_reached(TO_ARQ, 12)
    assert not is_reached(TO_ARQ, 11.9)


def test_the_fastest_peer_is_the_fastest_of_each_round_however_many_processes_it_has():
    found = results(
        drain={
            "Postroom, 1 process": [{"mails_per_s": 9000.0}] * 2,
            "Postroom, 2 processes": [{"mails_per_s": 3000.0}] * 2,
            "A, 1 process": [{"mails_per_s": 1500.0}, {"mails_per_s": 100.0}],
            "B": [{"mails_per_s": 1000.0}],
        }
    )
    assert measured(TO_ALL, found) == (2 + 30) / 2


def test_the_fastest_peer_is_not_known_where_one_was_left_out():
    found = results(drain={name: [{"mails_per_s": 1.0}] for name in ("Postroom, 2 processes", "A, 1 process")})
    found.add("slow_relay", LeftOut("naive arq", "a worker ended with 3"))
    assert measured(TO_ALL, found) == 1
    found.add("drain", LeftOut("BullMQ + nodemailer", "node not found: install Node.js"))
    assert measured(TO_ALL, found) is None
    (row,) = (row for row in reached(found).splitlines() if "to the fastest peer" in row)
    assert row.endswith("|  | not measured |")


def test_what_must_be_reached_is_shown_with_what_was_not_measured():
    found = results(rendering={"Postroom": [{"cpu_ms": 0.3}]}, latency={"everysec": [{"p50_ms": 16.0}]})
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in reached(found).splitlines()}
    assert rows["render and compose, CPU"].endswith("| at most 0.4 ms a mail | 0.300 | yes |")
    assert rows["POST to 250 at 10/s, p50"].endswith("| at most 15 ms | 16 | **no** |")
    assert rows["drain, 1 worker process"].endswith("|  | not measured |")
    assert set(rows) > {target.what for target in TARGETS}


def test_a_subject_that_is_left_out_is_told_with_the_reason(tmp_path: Path):
    found = results()
    found.add("drain", LeftOut("BullMQ + nodemailer", "node not found: install Node.js"))
    found.add("drain", Run("Postroom, 1 process", {"mails_per_s": 1.0}))
    write(found, SECTIONS, tmp_path)
    assert "Left out: drain: BullMQ + nodemailer: node not found" in (tmp_path / "table.md").read_text()


def test_results_are_published_between_the_marks_again_and_again(tmp_path: Path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n\n{BEGIN}\n{END}\n\nafter\n")
    for rate in (1111.0, 2222.0):
        write(results(drain={"Postroom, 1 process": [{"mails_per_s": rate}]}), SECTIONS, tmp_path / "out")
        (tmp_path / "out" / "plot.svg").write_text("<svg/>")
        publish(tmp_path / "out", readme, tmp_path / "results")
    text = readme.read_text()
    assert text.startswith(f"before\n\n{BEGIN}\n\n![")
    assert text.endswith(f"{END}\n\nafter\n")
    assert "2,222" in text
    assert "1,111" not in text
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["plot.svg", "results.json"]
    (tmp_path / "out" / "plot.svg").unlink()
    publish(tmp_path / "out", readme, tmp_path / "results")
    assert "![" not in readme.read_text()
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["results.json"]


def test_a_quick_look_or_nothing_is_not_published(tmp_path: Path):
    with pytest.raises(Stopped, match="run `make bench` first"):
        publish(tmp_path)
    write(results(quick=True), SECTIONS, tmp_path)
    with pytest.raises(Stopped, match="without --quick"):
        publish(tmp_path)


def test_a_run_that_did_not_come_to_its_end_is_not_published(tmp_path: Path):
    found = results(drain={"Postroom, 1 process": [{"mails_per_s": 1.0}]})
    found.work_after_ms = {}
    write(found, SECTIONS, tmp_path / "out")
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n")
    with pytest.raises(Stopped, match="did not come to its end: run `make bench` again"):
        publish(tmp_path / "out", readme, tmp_path / "results")
    assert readme.read_text() == f"{BEGIN}\n{END}\n"
    assert not (tmp_path / "results").exists()


def test_the_plot_is_drawn_from_what_was_written(tmp_path: Path):
    if not PeersPython().is_installed():
        pytest.skip("the environment of the peers, which has matplotlib, is not installed")
    found = results(
        drain={name: [{"mails_per_s": 1.0}] for name in ("Postroom, 1 process", "Postroom, 2 processes", "Postfix")}
    )
    write(found, SECTIONS, tmp_path)
    assert draw(found, tmp_path) is None
    assert "<svg" in (tmp_path / "plot.svg").read_text()
