"""A log line tells what happened, never what was in the mail."""

import json
import subprocess
import sys

from tests.support.processes import ROOT

CRASH = """
import sys, structlog
from mailer.observability.logging import configure
configure("info", sys.argv[1], "test")
def fetch():
    password = "-".join(["hunter2", "hunter2"])
    raise KeyError("oops")
try:
    fetch()
except KeyError:
    structlog.get_logger().exception("job.crashed", template="welcome")
"""


def logged(form: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", CRASH, form], capture_output=True, text=True, check=True, cwd=ROOT
    ).stderr


def test_a_traceback_on_a_console_shows_no_values():
    said = logged("console")
    assert "job.crashed" in said
    assert "KeyError: 'oops'" in said
    assert "hunter2-hunter2" not in said


def test_a_line_of_json_has_a_name_and_fields():
    line = json.loads(logged("json").splitlines()[-1])
    wanted = {"event": "job.crashed", "template": "welcome", "level": "error", "process": "test"}
    assert wanted.items() <= line.items()
    assert "hunter2-hunter2" not in json.dumps(line)


def test_nobody_gets_a_line_for_each_request_and_none_is_prepared():
    asked = "import logging; print(logging.getLogger('uvicorn.access').hasHandlers())"
    code = f"from mailer.observability.logging import configure; configure('debug', 'json', 'api'); {asked}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
