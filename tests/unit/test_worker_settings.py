"""What arq is told: every one of its own defaults was looked at, for some of them lose or repeat mail."""

import inspect
import json
import os
import subprocess
import sys
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import pytest
from arq.worker import Worker

from worker.engine import LeasedWorker

ROOT = Path(__file__).parents[2]
READ = "3d5fe0951b1168c6fa5c3f076eba3e70d22708ce22bf992fae7f30ae83f1f90f"
"""Digest of the source of arq's methods that ours replaces or stands on."""
SHOW = """
import arq.worker, json
from worker import WorkerSettings as settings
from worker.delivery import LONGEST_ATTEMPT_S
own = {name: value for name, value in vars(settings).items() if not name.startswith("__")}
plain = {name: value for name, value in own.items() if isinstance(value, bool | int | float | str | None)}
calls = {name: f"{value.__module__}.{value.__name__}" for name, value in own.items() if callable(value)}
functions = [function.name for function in settings.functions]
engine = f"{arq.worker.Worker.__module__}.{arq.worker.Worker.__name__}"
print(json.dumps([sorted(own), plain, calls, functions, LONGEST_ATTEMPT_S, engine]))
"""


def python(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, for worker.main reads the environment when it is imported."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
    environment = clean | {f"POSTROOM_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=50
    )


@pytest.fixture(scope="module")
def shown():
    run = python(SHOW, worker_slots="7")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_every_parameter_of_arqs_worker_is_spelled_out(shown):
    """arq reads the class's own attributes only; what is missing would silently be its default."""
    known = set(inspect.signature(Worker.__init__).parameters) - {"self"}
    assert set(shown[0]) == known


def test_how_a_job_ended_is_told_by_its_record_not_by_arq(shown):
    _, plain, *_ = shown
    assert (plain["keep_result"], plain["keep_result_forever"], plain["log_results"]) == (0, False, False)


def test_both_sides_of_the_queue_speak_json_and_never_pickle(shown):
    calls = shown[2]
    assert calls["job_serializer"] == "mailer.queue.serialize"
    assert calls["job_deserializer"] == "mailer.queue.deserialize"


def test_arq_never_gives_a_mail_up_by_itself(shown):
    _, plain, _, _, attempt_deadline_s, _ = shown
    assert plain["max_tries"] >= 2**31 - 1
    assert plain["retry_jobs"] is True
    assert plain["job_timeout"] >= attempt_deadline_s


def test_a_stop_waits_for_the_answers_of_relays_that_have_a_whole_mail(shown):
    _, plain, *_ = shown
    assert plain["job_completion_wait"] == 60
    assert plain["handle_signals"] is True
    assert plain["allow_abort_jobs"] is False


def test_the_engine_stands_where_arqs_command_line_looks_for_its_worker(shown):
    assert shown[5] == "worker.engine.LeasedWorker"


def test_arq_is_the_version_whose_insides_were_read():
    """The engine overrides these. Another version has to be read before it is taken."""
    assert version("arq") == "0.28.0"
    assert {name for name in vars(LeasedWorker) if name in vars(Worker) and not name.startswith("__")} == {
        "main", "close", "handle_sig", "handle_sig_wait_for_completion",
    }  # fmt: skip
    assert "__init__" not in vars(LeasedWorker), "arq builds the instance"
    source = "".join(inspect.getsource(getattr(Worker, name)) for name in ("__init__", "run", "async_run", "close"))
    assert sha256(source.encode()).hexdigest() == READ


def test_the_slots_are_the_operators(shown):
    _, plain, _, functions, *_ = shown
    assert plain["max_jobs"] == 7
    assert functions == ["deliver"]


def test_importing_the_backoff_reads_no_environment():
    code = "import sys, worker.backoff; sys.exit('worker.main' in sys.modules)"
    assert python(code, smtp_url="nonsense").returncode == 0


def test_a_worker_with_a_wrong_setting_does_not_start_and_says_why_without_the_password():
    run = python("import worker.main", smtp_url="smtp://ada:hunter2/x@mail.example")
    assert run.returncode == 1
    assert "POSTROOM_SMTP_URL" in run.stderr
    assert "hunter2" not in run.stderr
