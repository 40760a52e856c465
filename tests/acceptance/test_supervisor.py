"""`postroom worker`: a process for each core; one that dies is replaced, and all end together."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from cli.supervisor import Pauses, Supervisor, usable_cores
from tests.support.processes import BIN, ROOT, api_process, children, free_port, is_gone, logged, supervised_workers
from tests.support.smtp import ScriptedRelay
from tests.support.waiting import until

EVENT = {"event": "user.signed_up", "data": {"id": 42}}
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to find the children")


async def workers_started(log: Path, count: int) -> None:
    async def look() -> bool:
        return len(logged(log, "worker.started")) >= count

    await until(look, what=f"the start of {count} workers")


async def sent(api: httpx.AsyncClient) -> None:
    location = (await api.post("/jobs", json=EVENT)).headers["location"]

    async def look() -> bool:
        return bool((await api.get(location)).json()["status"] == "sent")

    await until(look, what=f"{location} sent")


@on_linux
async def test_a_worker_that_is_killed_is_replaced_and_mail_goes_on(
    settings: dict[str, str], relay: ScriptedRelay, log: Path
) -> None:
    async with api_process(settings, log) as api, supervised_workers(settings, log, processes=2) as supervisor:
        await workers_started(log, 2)
        first, second = children(supervisor.pid)
        for pid in (first, second):
            os.kill(pid, signal.SIGKILL)
        await workers_started(log, 4)
        await sent(api)
        assert len(children(supervisor.pid)) == 2
        assert {first, second}.isdisjoint(children(supervisor.pid))
    died = {line["pid"]: line["exit_code"] for line in logged(log, "worker.died")}
    assert died == {first: -signal.SIGKILL, second: -signal.SIGKILL}
    assert len(logged(log, "worker.restarted")) == 2
    assert len(relay.received) == 1


@on_linux
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_all_of_it(settings: dict[str, str], log: Path, signum: int) -> None:
    async with supervised_workers(settings, log, processes=2) as supervisor:
        await workers_started(log, 2)
        pids = children(supervisor.pid)
        supervisor.send_signal(signum)
        assert await asyncio.wait_for(supervisor.wait(), 20) == 0
    assert [pid for pid in pids if not is_gone(pid)] == []
    assert logged(log, "worker.died") == []


@on_linux
async def test_workers_end_with_a_supervisor_that_is_killed(settings: dict[str, str], log: Path) -> None:
    async with supervised_workers(settings, log) as supervisor:
        await workers_started(log, 1)
        (pid,) = children(supervisor.pid)
        supervisor.kill()

        async def has_ended() -> bool:
            return is_gone(pid)

        await until(has_ended, what="the end of its worker")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("POSTROOM_SMTP_URL", "http://relay"), ("POSTROOM_LEASE_S", "0"), ("POSTROOM_WORKER_PORT", "65535")],
)
async def test_a_wrong_setting_ends_it_with_one_line(settings: dict[str, str], variable: str, value: str) -> None:
    child = await asyncio.create_subprocess_exec(
        *(str(BIN / "postroom"), "worker", "--processes", "2"),
        env=settings | {variable: value},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await child.communicate()
    assert (child.returncode, len(output.splitlines())) == (2, 1)
    assert variable in output.decode()


async def test_each_worker_has_a_health_port_of_its_own(settings: dict[str, str], log: Path) -> None:
    port = free_port(together=2)
    async with (
        supervised_workers(settings | {"POSTROOM_WORKER_PORT": str(port)}, log, processes=2),
        httpx.AsyncClient(trust_env=False, timeout=5) as client,
    ):
        await workers_started(log, 2)
        for base in (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"):
            assert (await client.get(f"{base}/healthz")).json() == {"status": "ok"}
            ready = await client.get(f"{base}/readyz")
            assert (ready.status_code, ready.json()["status"]) == (200, "ready")


async def test_a_worker_that_cannot_begin_ends_all_with_its_code() -> None:
    script = "import os, sys, time; sys.exit(2) if os.environ['FIRST'] else time.sleep(60)"
    supervisor = Supervisor(
        (sys.executable, "-c", script), [{"FIRST": ""}, {"FIRST": "1"}, {"FIRST": ""}], patience_s=20
    )
    assert await asyncio.wait_for(supervisor.run(), 15) == 2


async def test_a_worker_that_does_not_end_is_killed(tmp_path: Path) -> None:
    deaf = (
        "import os, pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "pathlib.Path(os.environ['MARK']).touch(); time.sleep(60)"
    )
    mark = tmp_path / "deaf"
    supervisor = Supervisor((sys.executable, "-c", deaf), [{"MARK": str(mark)}], patience_s=0.2)
    running = asyncio.create_task(supervisor.run())

    async def is_deaf() -> bool:
        return mark.exists()

    await until(is_deaf, what="a worker that hears no signal")
    supervisor.stop(signal.SIGTERM)
    assert await asyncio.wait_for(running, 15) == 1


def not_begun(logs: Sequence[MutableMapping[str, Any]]) -> list[float]:
    """The pauses that were told after a worker could not be started."""
    return [line["again_in_s"] for line in logs if line["event"] == "worker.not_begun"]


async def test_a_worker_that_cannot_be_started_is_tried_again_with_growing_pauses_and_ends_no_other(
    tmp_path: Path,
) -> None:
    """As when the machine has no memory, or no process, to spare."""
    script = "import os, pathlib, time; pathlib.Path(os.environ['MARK']).touch(); time.sleep(60)"
    mark, too_large = tmp_path / "mark", {"MARK": "x" * 1_000_000}  # more than the system lets a process begin with
    pauses = Pauses(first_s=0.01, longest_s=0.04)
    supervisor = Supervisor(
        (sys.executable, "-c", script), [too_large, {"MARK": str(mark)}], patience_s=20, pauses=pauses
    )
    with capture_logs() as logs:
        running = asyncio.create_task(supervisor.run())

        async def goes_on() -> bool:
            assert not running.done()
            return mark.exists() and len(not_begun(logs)) >= 5

        await until(goes_on, what="the one that can be started, and five tries of the other")
        supervisor.stop(signal.SIGTERM)
        assert await asyncio.wait_for(running, 15) == 0
    assert not_begun(logs)[:5] == [0.01, 0.02, 0.04, 0.04, 0.04]
    assert [line["exit_code"] for line in logs if line["event"] == "worker.ended"] == [-signal.SIGTERM]
    assert [line["event"] for line in logs if line["event"] in {"worker.died", "worker.killed"}] == []


async def test_a_worker_that_could_not_be_started_comes_once_it_can_be(tmp_path: Path) -> None:
    command, mark = tmp_path / "worker", tmp_path / "mark"
    supervisor = Supervisor((str(command),), [{"MARK": str(mark)}], patience_s=20, pauses=Pauses(0.01, 0.02))
    with capture_logs() as logs:
        running = asyncio.create_task(supervisor.run())

        async def was_tried() -> bool:
            return len(not_begun(logs)) >= 2

        async def is_there() -> bool:
            return mark.exists()

        await until(was_tried, what="a second try")
        ready = tmp_path / "ready"
        ready.write_text('#!/bin/sh\n: > "$MARK"\nexec sleep 60\n')
        ready.chmod(0o700)
        command.symlink_to(ready)
        await until(is_there, what="the worker")
        supervisor.stop(signal.SIGTERM)
        assert await asyncio.wait_for(running, 15) == 0


async def test_a_stop_does_not_wait_for_the_next_try(tmp_path: Path) -> None:
    supervisor = Supervisor((str(tmp_path / "missing"),), [{}], patience_s=20, pauses=Pauses(first_s=3600))
    with capture_logs() as logs:
        running = asyncio.create_task(supervisor.run())

        async def was_tried() -> bool:
            return bool(not_begun(logs))

        await until(was_tried, what="the first try")
        supervisor.stop(signal.SIGTERM)
        assert await asyncio.wait_for(running, 15) == 0


def test_pauses_grow_and_begin_anew_after_a_long_life() -> None:
    pauses = Pauses(first_s=0.5, longest_s=3.0, long_life_s=60)
    assert pauses.after(None, 0) == 0.5
    assert pauses.after(0.5, 1) == 1.0
    assert pauses.after(2.0, 1) == 3.0
    assert pauses.after(3.0, 61) == 0.5


@on_linux
def test_without_a_number_there_is_one_for_each_core_that_may_be_used() -> None:
    assert usable_cores() == len(os.sched_getaffinity(0))


def test_what_runs_in_a_worker_is_not_shown_as_a_command() -> None:
    run = subprocess.run([BIN / "postroom", "--help"], capture_output=True, text=True, check=True, timeout=30)
    assert "worker-process" not in run.stdout
