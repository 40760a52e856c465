"""The harness of `make bench`: it measures with real processes, and says so where its figures cannot be trusted."""

import asyncio
import smtplib
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from benchmarks.__main__ import main, measure
from benchmarks.load import post_all
from benchmarks.plan import QUICK, Plan
from benchmarks.relay import Relay, counting_relay, slow_relay
from benchmarks.results import Results, read
from benchmarks.section import Run, Runs, Section, Stopped
from tests.peers.smtp_sink import lacking_sink
from tests.support.processes import ROOT, environment

needs_sink = pytest.mark.skipif(lacking_sink() is not None, reason=str(lacking_sink()))
CHEAP = ("rendering", "accepts", "end_to_end", "latency", "memory", "slow_relay")


def nothing() -> Results:
    return Results("now", 1, True, 0.0, {"cores": "2"}, {"core 0": 50.0})


async def hand_over(relay: Relay, mails: int) -> None:
    def converse() -> None:
        with smtplib.SMTP("127.0.0.1", relay.port, timeout=10) as client:
            for _ in range(mails):
                client.sendmail("a@example.com", ["b@example.com"], b"Subject: Hello\r\n\r\nHello\r\n")

    await asyncio.to_thread(converse)


@needs_sink
@pytest.mark.timeout(180)
async def test_a_quick_look_measures_with_real_processes_and_writes_down_what_it_found(tmp_path: Path):
    command = (sys.executable, "-m", "benchmarks", "--quick", "--even-if-busy", "--only", ",".join(CHEAP))
    child = await asyncio.create_subprocess_exec(
        *(*command, "--out", str(tmp_path / "found")),
        cwd=ROOT,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await child.communicate())[0].decode()
    assert child.returncode == 0, said
    found = read(tmp_path / "found")
    assert set(found.sections) == set(CHEAP)
    each = [run for subjects in found.sections.values() for runs in subjects.values() for run in runs]
    assert all(value >= 0 for figures in each for value in figures.values())
    rates = [value for figures in each for name, value in figures.items() if name.endswith("_per_s")]
    assert len(rates) == len(("one by one", "singles", "batches")) * 2 + len(("everysec", "always")) + 2
    assert min(rates) > 0
    assert found.median("end_to_end", "everysec", "round_trips")
    assert found.work_after_ms.keys() == found.work_before_ms.keys()
    table = (tmp_path / "found" / "table.md").read_text()
    for section, subjects in found.sections.items():
        assert all(f"{section} · {subject} · " in said and f"| {subject} |" in table for subject in subjects)
    assert "no plot: the section `drain` was not measured" in said
    assert "A quick look" in table


@needs_sink
@pytest.mark.parametrize("make_relay", [counting_relay, partial(slow_relay, 1)], ids=["smtp-sink", "slow"])
async def test_a_sink_that_counted_other_than_was_sent_stops_the_measurement(
    make_relay: Callable[[], AbstractAsyncContextManager[Relay]],
):
    async with make_relay() as relay:
        await hand_over(relay, 3)
        await relay.until(3)
        await relay.settle(3)
        assert len(relay.arrivals) == 3
        for sent in (2, 4):
            with pytest.raises(Stopped, match=f"counted 3 mails, and {sent} were sent"):
                await relay.settle(sent)


@pytest.mark.parametrize(
    ("path", "answer", "told"),
    [
        ("/jobs", "202 Accepted\r\nContent-Length: 2\r\n\r\n{}", None),
        ("/jobs", "503 Service Unavailable\r\nContent-Length: 4\r\n\r\nlate", "not accepted: HTTP/1.1 503 Service"),
        ("/jobs/batch", 'REST"rejected":0}', None),
        ("/jobs/batch", 'REST"rejected":1}', '"rejected":1'),
    ],
    ids=["accepted", "not a 202", "all of a batch", "one of a batch rejected"],
)
async def test_a_job_that_was_not_accepted_stops_the_measurement(path: str, answer: str, told: str | None):
    said = answer.replace("REST", '202 Accepted\r\nContent-Length: 28\r\n\r\n{"accepted":99,')

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            await reader.readuntil(b"Content-Length: 2\r\n\r\n{}")
            writer.write(f"HTTP/1.1 {said}".encode())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        posting = post_all(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", path, [b"{}"] * 3, 2)
        if told is None:
            assert (await posting).requests == 3
            return
        with pytest.raises(Stopped, match=told):
            await posting


async def test_what_was_measured_before_a_stop_is_written_down(tmp_path: Path):
    async def stopping(_: Plan) -> Runs:
        yield Run("first", {"cpu_ms": 1.0})
        raise Stopped("the sink counted another number")

    async def at_once(_: Plan) -> Runs:
        raise Stopped("nothing was found")
        yield

    with pytest.raises(Stopped):
        await measure([Section("some", "Some", stopping)], QUICK, nothing(), tmp_path)
    with pytest.raises(Stopped):
        await measure([Section("none", "None", at_once)], QUICK, nothing(), tmp_path)
    assert read(tmp_path).sections == {"some": {"first": [{"cpu_ms": 1.0}]}}


@needs_sink
async def test_a_sink_is_not_held_up_by_a_harness_that_waits_for_something_else():
    """Each count goes through a pipe, and a pipe that nobody reads is full at some time."""
    async with counting_relay() as relay:
        await hand_over(relay, 5000)
        await relay.settle(5000)


async def test_others_are_looked_for_between_sections_while_nothing_of_ours_runs(tmp_path: Path):
    at_work: list[str] = []

    def section(name: str) -> Section:
        async def runs(_: Plan) -> Runs:
            at_work.append(name)
            yield Run("one", {"cpu_ms": 1.0})
            at_work.remove(name)

        return Section(name, name, runs)

    class Looking(Results):
        def note_busy(self, share: float, section: str) -> None:
            looked.append((section, 0 <= share <= 1, tuple(at_work)))

    looked: list[tuple[str, bool, tuple[str, ...]]] = []
    found = Looking("now", 1, True, 0.0, {}, {})
    await measure([section("first"), section("second")], QUICK, found, tmp_path)
    assert looked == [("second", True, ())]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--only", "drain,sending"],
            "argument --only: there is no 'sending'; there are transaction, rendering, drain",
        ),
        (["--rounds", "0"], "argument --rounds: write a number from 1 to 20"),
    ],
)
def test_what_cannot_be_asked_for_is_told(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(arguments)
    assert told in capsys.readouterr().err
