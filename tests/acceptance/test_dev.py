"""`postroom dev`: one command starts everything, Ctrl-C stops all of it, and the README's lines work as printed."""

import asyncio
import json
import re
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import BIN, ROOT, environment, free_port
from tests.support.waiting import until

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: the printed lines use it")


@dataclass
class Dev:
    process: asyncio.subprocess.Process
    env: dict[str, str]
    log: Path
    api: httpx.AsyncClient

    @property
    def port(self) -> str:
        return self.env["POSTROOM_PORT"]

    async def said(self, words: str) -> str:
        async def look() -> str:
            text = self.log.read_text()
            assert self.process.returncode is None or words in text, text
            return text if words in text else ""

        return await until(look, within_s=30, what=words)

    async def mail(self, **filters: str) -> dict[str, Any]:
        answer = await self.api.get("/mailbox/wait", params={"timeout": 15, **filters})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def stop(self, signum: int = signal.SIGINT) -> int:
        self.process.send_signal(signum)
        async with asyncio.timeout(30):
            return await self.process.wait()

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def dev_environment(folder: Path) -> dict[str, str]:
    return environment(
        data_dir=str(folder / "data"),
        port=str(free_port()),
        mailbox_smtp_port=str(free_port()),
        demo_port=str(free_port()),
    )


@asynccontextmanager
async def running(env: dict[str, str], log: Path) -> AsyncIterator[Dev]:
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            str(BIN / "postroom"), "dev", env=env, cwd=ROOT, stdout=output, stderr=output, start_new_session=True
        )
    base = f"http://127.0.0.1:{env['POSTROOM_PORT']}"
    async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=30) as api:
        dev = Dev(process, env, log, api)
        try:
            yield dev
        finally:
            if process.returncode is None:
                await dev.stop(signal.SIGTERM)


@pytest.fixture
async def dev(tmp_path: Path) -> AsyncIterator[Dev]:
    async with running(dev_environment(tmp_path), tmp_path / "dev.log") as running_dev:
        await running_dev.said("Ctrl-C stops everything")
        yield running_dev


async def shell(command: str, port: str, demo_port: str) -> str:
    words = shlex.split(command.replace("\\\n", " "))
    words = [
        word.replace("localhost:8000", f"127.0.0.1:{port}").replace("localhost:8100", f"127.0.0.1:{demo_port}")
        for word in words
    ]
    child = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    output, _ = await child.communicate()
    assert child.returncode == 0, f"{command}\n{output.decode()}"
    return output.decode()


def readme_commands() -> list[str]:
    blocks = re.findall(r"```sh\n(curl .*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 4
    return [block.strip() for block in blocks]


@needs_curl
async def test_the_printed_curl_line_is_a_mail_in_the_mailbox(dev: Dev) -> None:
    printed = re.search(r"Try:  (curl .*?'\n?)Ctrl-C", dev.log.read_text(), re.DOTALL)
    assert printed is not None
    words = shlex.split(printed[1].replace("\\\n", " "))
    child = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    answer = json.loads((await child.communicate())[0])
    assert answer["jobs"][0]["template"] == "welcome"
    mail = await dev.mail(job=answer["jobs"][0]["id"])
    assert "Ada Lovelace" in json.dumps(mail)


@needs_curl
async def test_the_readmes_examples_do_what_it_says(dev: Dev) -> None:
    event, change, inline, bounce = readme_commands()
    ports = (dev.port, dev.env["POSTROOM_DEMO_PORT"])
    first = json.loads(await shell(event, *ports))
    assert "Ada Lovelace" in json.dumps(await dev.mail(job=first["jobs"][0]["id"]))
    await shell(change, *ports)
    second = json.loads(await shell(event, *ports))
    assert "Ada King" in json.dumps(await dev.mail(job=second["jobs"][0]["id"]))
    third = json.loads(await shell(inline, *ports))
    assert (await dev.mail(job=third["id"]))["subject"] == "Your export is ready"
    fourth = json.loads(await shell(bounce, *ports))

    async def failed() -> bool:
        return bool((await dev.api.get(f"/jobs/{fourth['id']}")).json()["status"] == "failed")

    await until(failed, what="the bounce")


@needs_curl
async def test_the_examples_of_the_api_page_are_answered_as_it_says(dev: Dev) -> None:
    """One after the other, each with the id of the newest job."""
    page = (ROOT / "docs" / "api.md").read_text()
    lines = [
        line
        for block in re.findall(r"```sh\n(curl .*?)```", page, re.DOTALL)
        for line in re.split(r"\n(?=curl )", block)
    ]
    assert len(lines) >= 10
    for line in lines:
        newest = (await dev.api.get("/jobs", params={"limit": "1"})).json()["data"]
        variables = {"$POSTROOM": f"http://127.0.0.1:{dev.port}", "$JOB": newest[0]["id"] if newest else ""}
        for name, value in variables.items():
            line = line.replace(name, value)  # noqa: PLW2901 - the line as a shell would read it
        answer = await shell(
            line.replace("curl -s", "curl -s --fail-with-body"), dev.port, dev.env["POSTROOM_DEMO_PORT"]
        )
        assert answer, line


async def postroom(env: dict[str, str], *words: str) -> tuple[int, str]:
    child = await asyncio.create_subprocess_exec(
        str(BIN / "postroom"),
        *words,
        env=env,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await child.communicate()
    return child.returncode or 0, output.decode()


async def test_the_console_emits_sends_and_sends_now(dev: Dev) -> None:
    client = environment(url=f"http://127.0.0.1:{dev.port}")
    code, output = await postroom(client, "emit", "user.signed_up", "id=42", "--json")
    assert (code, json.loads(output)["jobs"][0]["template"]) == (0, "welcome")
    code, output = await postroom(client, "send", "receipt", "id=1042")
    assert (code, output.split()[0], output.split()[2]) == (0, "queued", "receipt")
    await dev.mail(job=output.split()[1])
    code, output = await postroom(client, "send", "welcom", "id=42")
    assert (code, "did you mean welcome?" in output) == (1, True)
    now = environment(
        smtp_url=f"smtp://127.0.0.1:{dev.env['POSTROOM_MAILBOX_SMTP_PORT']}?tls=none",
        source_app=f"http://127.0.0.1:{dev.env['POSTROOM_DEMO_PORT']}",
        from_="Postroom <hello@postroom.example>",
    )
    code, output = await postroom(now, "send", "welcome", "id=43", "--now")
    assert (code, output.split()[:2]) == (0, ["sent", "grace@example.com"])
    code, output = await postroom(now, "send", "welcome", "id=42", "--to", "bounce+550@example.com", "--now")
    assert (code, output.split()[:3]) == (1, ["failed", "bounce+550@example.com", "550"])
    code, output = await postroom(environment(url="http://127.0.0.1:1"), "emit", "user.signed_up", "id=42")
    assert (code, "POSTROOM_URL" in output) == (3, True)


async def test_render_shows_a_template_and_names_a_broken_one(tmp_path: Path) -> None:
    code, output = await postroom(environment(), "render", "welcome")
    assert code == 0
    assert "Ada Lovelace" in output
    shutil.copytree(ROOT / "templates", tmp_path / "templates")
    (tmp_path / "templates" / "welcome" / "body.txt").write_text("Hello {{ user.name")
    env = environment(templates_dir=str(tmp_path / "templates"))
    code, output = await postroom(env, "render")
    assert code == 1
    assert re.search(r"broken +welcome: .*body\.txt, line 1", output)
    assert re.search(r"ok +receipt", output)
    code, output = await postroom(env, "render", "welcome")
    assert (code, "body.txt" in output) == (1, True)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to find the children")
async def test_ctrl_c_stops_everything_and_the_data_survives(tmp_path: Path) -> None:
    env = dev_environment(tmp_path)
    async with running(env, tmp_path / "first.log") as dev:
        await dev.said("Ctrl-C stops everything")
        job = (await dev.api.post("/jobs", json={"event": "user.signed_up", "data": {"id": 42}})).json()["jobs"][0]
        await dev.mail(job=job["id"])
        children = dev.children()
        assert len(children) == 3  # queue server, worker, API
        assert await dev.stop() == 0
        assert "Stopped." in dev.log.read_text()
        assert [pid for pid in children if not is_gone(pid)] == []
    async with running(env, tmp_path / "second.log") as dev:
        await dev.said("Ctrl-C stops everything")
        assert (await dev.api.get(f"/jobs/{job['id']}")).json()["status"] == "sent"
        assert len((await dev.api.get("/mailbox/messages")).json()["data"]) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
async def test_a_killed_dev_mode_leaves_nothing_running(dev: Dev) -> None:
    children = dev.children()
    await dev.stop(signal.SIGKILL)

    async def all_gone() -> bool:
        return all(is_gone(pid) for pid in children)

    # The worker may look for its queue server, which was told to end as well, for half a minute before it gives up.
    await until(all_gone, within_s=50, what="the end of the children")


def is_gone(pid: int) -> bool:
    """Ended, be it that nobody has asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("variable", ["POSTROOM_PORT", "POSTROOM_MAILBOX_SMTP_PORT", "POSTROOM_DEMO_PORT"])
async def test_a_busy_port_is_named_with_its_setting(tmp_path: Path, variable: str) -> None:
    env = dev_environment(tmp_path)
    with socket.create_server(("127.0.0.1", int(env[variable]))):
        code, output = await postroom(env, "dev")
    assert code == 2
    assert variable in output
    assert env[variable] in output
    assert not (tmp_path / "data").exists()


async def test_a_second_start_on_the_same_data_says_so(dev: Dev, tmp_path: Path) -> None:
    env = dev_environment(tmp_path) | {"POSTROOM_DATA_DIR": dev.env["POSTROOM_DATA_DIR"]}
    code, output = await postroom(env, "dev")
    assert (code, "POSTROOM_DATA_DIR" in output) == (2, True)


async def test_an_edited_template_counts_at_once(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "templates", tmp_path / "templates")
    env = dev_environment(tmp_path) | {"POSTROOM_TEMPLATES_DIR": str(tmp_path / "templates")}
    event = {"event": "user.signed_up", "data": {"id": 42}}
    async with running(env, tmp_path / "dev.log") as dev:
        await dev.said("Ctrl-C stops everything")
        (tmp_path / "templates" / "welcome" / "subject.txt").write_text("Edited for {{ user.name }}\n")

        async def edited() -> bool:
            job = (await dev.api.post("/jobs", json=event)).json()["jobs"][0]
            return (await dev.mail(job=job["id"]))["subject"] == "Edited for Ada Lovelace"

        await until(edited, what="the edited subject")


async def test_a_setting_with_a_typo_is_warned_about(tmp_path: Path) -> None:
    env = dev_environment(tmp_path) | {"POSTROOM_TEMPLATE_DIR": "x"}
    async with running(env, tmp_path / "dev.log") as dev:
        text = await dev.said("Ctrl-C stops everything")
    assert "POSTROOM_TEMPLATE_DIR is not a setting; did you mean POSTROOM_TEMPLATES_DIR?" in text
