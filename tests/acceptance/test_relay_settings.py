"""A worker that is told of its relays in a wrong way does not start: one line says where, and no password."""

import asyncio
from pathlib import Path

import pytest

from tests.support.processes import BIN, ROOT, environment

PASSWORD = "hunter2"
COMMANDS = [("arq", "worker.WorkerSettings"), ("postroom", "worker"), ("postroom", "worker-process")]


async def end_of(env: dict[str, str], *command: str) -> tuple[int | None, list[str]]:
    child = await asyncio.create_subprocess_exec(
        *(str(BIN / command[0]), *command[1:]),
        env=env,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await child.communicate()
    return child.returncode, output.decode().splitlines()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_a_wrong_url_ends_a_worker_with_one_line(command: tuple[str, ...]) -> None:
    code, lines = await end_of(environment(smtp_url=f"smtp://ada:{PASSWORD}/x@mail.example"), *command)
    assert (code, len(lines)) == (2, 1), lines
    assert "POSTROOM_SMTP_URL is not a URL with a port" in lines[0]
    assert PASSWORD not in lines[0]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_a_wrong_file_ends_a_worker_with_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    file = tmp_path / "postroom.toml"
    relay = f'[[relays]]\nurl = "smtp://ada:{PASSWORD}@mail.example"\n'
    file.write_text(f'{relay}name = "first"\n{relay}rate = 20\n')
    code, lines = await end_of(environment(config=str(file)), *command)
    assert (code, len(lines)) == (2, 1), lines
    assert f"{file}: relays[1].rate must be mails per second" in lines[0]
    assert PASSWORD not in lines[0]
