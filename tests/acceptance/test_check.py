"""`postroom check` as an operator runs it: every line with its state, a fix where one is needed, and an exit code."""

import asyncio
import json
import os
import pty
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import BIN, ROOT, environment
from tests.support.smtp import HANG, ScriptedRelay, scripted_relay

PASSWORD = "hunter2-hunter2"
KEY = "k" * 24


async def checked(env: dict[str, str], *options: str) -> tuple[int | None, str, str]:
    child = await asyncio.create_subprocess_exec(
        *(BIN / "postroom", "check", *options),
        env=env,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await child.communicate()
    return child.returncode, output.decode(), errors.decode()


async def told(env: dict[str, str]) -> tuple[int | None, dict[str, Any]]:
    code, output, errors = await checked(env, "--json")
    assert errors == ""
    return code, json.loads(output)


@pytest.fixture
def well(settings: dict[str, str]) -> dict[str, str]:
    """Settings with which nothing is wrong."""
    return settings | {"POSTROOM_API_KEYS": f"shop:{KEY}"}


async def test_all_is_well(well: dict[str, str], relay: ScriptedRelay) -> None:
    code, output, errors = await checked(well)
    assert (code, errors) == (0, "")
    assert output.splitlines()[-1] == "All is well."
    assert {line[:11].strip() for line in output.splitlines() if line.startswith("  ")} == {"ok"}
    assert KEY not in output
    assert not any(command.startswith("MAIL") for command in relay.commands)
    assert relay.connections == 1


async def test_the_same_is_told_to_programs(well: dict[str, str], relay: ScriptedRelay) -> None:
    code, found = await told(well)
    assert (code, found["state"]) == (0, "ok")
    assert [found[name]["state"] for name in ("settings", "queue", "templates")] == ["ok"] * 3
    (only,) = found["relays"]
    assert (only["host"], only["port"], only["state"]) == ("127.0.0.1", relay.port, "ok")
    assert any("EHLO" in line for line in only["conversation"])
    assert KEY not in json.dumps(found)


async def test_every_trouble_is_told_in_one_go_without_a_secret(well: dict[str, str], tmp_path: Path) -> None:
    file, templates = tmp_path / "postroom.toml", tmp_path / "templates"
    (templates / "empty").mkdir(parents=True)
    relays = [ScriptedRelay(script={"BANNER": ["554 5.7.1 Go away"]}), ScriptedRelay(extensions=["SIZE 1000000"])]
    async with scripted_relay(relays[0]), scripted_relay(relays[1]):
        file.write_text(
            f'[[relays]]\nname = "first"\nurl = "smtp://ada:{PASSWORD}@127.0.0.1:{relays[0].port}"\n'
            f'[[relays]]\nname = "second"\nurl = "{relays[1].url}"\n'
        )
        wrong = environment(
            config=str(file),
            templates_dir=str(templates),
            redis_url=f"redis://:{PASSWORD}@127.0.0.1:1",
            port="x",
            frm="y",
        )
        code, output, errors = await checked(wrong)
    assert (code, errors) == (1, "")
    assert PASSWORD not in output
    lines = output.splitlines()
    order = [index for index, line in enumerate(lines) if line and not line.startswith(" ")]
    assert [lines[index].split("   ")[0] for index in order] == [
        "Settings",
        "Queue server",
        "Templates",
        "Relay first",
        "Relay second",
        "4 broken, 1 warning.",
    ]
    ill = [line.split()[1] for line in lines if line.startswith("  broken")]
    assert ill == ["POSTROOM_PORT", "connection", "empty", "banner"]
    assert "POSTROOM_FRM" in next(line for line in lines if line.startswith("  warning"))
    assert sum(line.strip().startswith("Fix: ") for line in lines) >= 3


async def test_settings_that_cannot_be_understood_stop_only_what_needs_them(well: dict[str, str]) -> None:
    code, found = await told(well | {"POSTROOM_SMTP_URL": f"smtp://ada:{PASSWORD}@mail.example?colour=red"})
    assert (code, found["queue"]["state"], found["relays"][0]["state"]) == (1, "ok", "broken")
    assert "there is no option 'colour'" in found["relays"][0]["findings"][0]["detail"]
    code, found = await told(well | {"POSTROOM_KEEP_RECORD_S": "long"})
    assert (code, found["queue"]["state"], found["relays"][0]["state"]) == (1, "broken", "ok")
    assert PASSWORD not in json.dumps(found)


async def test_a_from_address_that_no_relay_may_send_for_is_told(well: dict[str, str], tmp_path: Path) -> None:
    """Its mail would wait until it is given up, while every relay is well."""
    folder = tmp_path / "templates" / "notice"
    folder.mkdir(parents=True)
    (folder / "template.toml").write_text('from = "news@other.example"\n')
    (folder / "subject.txt").write_text("Hello")
    (folder / "body.txt").write_text("Hello")
    env = well | {"POSTROOM_FROM": "Acme <hello@acme.example>", "POSTROOM_TEMPLATES_DIR": str(tmp_path / "templates")}
    code, found = await told(env | {"POSTROOM_SMTP_URL": well["POSTROOM_SMTP_URL"] + "&senders=shop.example"})
    assert (code, found["relays"][0]["state"]) == (1, "ok")
    ill = [
        finding["detail"]
        for part in ("settings", "templates")
        for finding in found[part]["findings"]
        if finding["state"] == "broken"
    ]
    assert ill == [
        "No relay may send for hello@acme.example, which is POSTROOM_FROM.",
        "No relay may send for news@other.example, its `from`.",
    ]
    every = "&senders=acme.example,news%40other.example"
    code, found = await told(env | {"POSTROOM_SMTP_URL": well["POSTROOM_SMTP_URL"] + every})
    assert (code, found["state"]) == (0, "ok")


async def test_without_a_relay_the_default_is_tried_and_said_to_be_one(well: dict[str, str]) -> None:
    unset = {name: value for name, value in well.items() if name != "POSTROOM_SMTP_URL"}
    _, found = await told(unset)
    assert found["relays"][0]["findings"][0]["detail"] == "No relay is set: the default is tried."


async def test_a_warning_is_no_failure(well: dict[str, str]) -> None:
    code, found = await told(well | {"POSTROOM_SMTP_ULR": "x"})
    assert (code, found["state"]) == (0, "warning")


@pytest.mark.parametrize("options", ["", "--json"])
async def test_who_reads_only_the_beginning_is_told_no_more(well: dict[str, str], options: str) -> None:
    """`postroom check | head -1`, and what was found is the exit code all the same."""
    child = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"{BIN / 'postroom'} check {options} | head -c 1; exit ${{PIPESTATUS[0]}}"),
        env=well | {"POSTROOM_PORT": "x"},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await child.communicate()
    assert (child.returncode, len(output), errors) == (1, 1, b"")


async def test_all_shows_what_is_not_set(well: dict[str, str]) -> None:
    code, output, _ = await checked(well, "--all")
    assert code == 0
    assert ["ok", "POSTROOM_WORKER_SLOTS", "default", "100"] in [line.split() for line in output.splitlines()]


async def test_a_terminal_sees_each_part_as_soon_as_it_is_known_in_lines_that_fit(well: dict[str, str]) -> None:
    """While a relay has not answered yet, all that came before it is there."""
    ours, theirs = pty.openpty()
    async with scripted_relay(ScriptedRelay(script={"BANNER": [HANG]})) as silent:
        child = await asyncio.create_subprocess_exec(
            *(BIN / "postroom", "check"),
            env=well | {"POSTROOM_SMTP_URL": silent.url + "&name=slow", "COLUMNS": "60", "POSTROOM_SMTP_ULR": "x"},
            cwd=ROOT,
            stdout=theirs,
            stderr=theirs,
            stdin=asyncio.subprocess.DEVNULL,
        )
        try:
            seen = await asyncio.to_thread(_until, ours, b"Relay slow")
            assert child.returncode is None
        finally:
            child.kill()
            await child.wait()
            os.close(theirs)
            os.close(ours)
    text = seen.decode()
    assert "Queue server" in text
    assert "Fix: Did you mean POSTROOM_SMTP_URL?" in text
    assert "\x1b" not in text


def _until(descriptor: int, words: bytes) -> bytes:
    seen = b""
    while words not in seen:
        seen += os.read(descriptor, 4096)
    return seen
