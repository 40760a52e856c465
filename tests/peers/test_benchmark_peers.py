"""The peers of the benchmarks: each sends the same mail, all of what it was filled with, and leaves nothing behind.

Those that `python -m benchmarks.peers NAME` has not installed yet are skipped.
"""

import json
import subprocess
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest

from benchmarks.mail import recipient
from benchmarks.peers import PEERS
from benchmarks.peers.__main__ import measure
from benchmarks.peers.environments import BULLMQ, Node, environment
from benchmarks.peers.peer import Arena, Peer
from benchmarks.peers.processes import PeerFailed, at_work
from benchmarks.peers.programs.own_bytes import finished
from benchmarks.peers.programs.plain_mail import message, rendered
from benchmarks.peers.queued import Queued
from benchmarks.stage import stage
from tests.peers.smtp_sink import lacking_sink, smtp_sink
from tests.support.processes import is_gone
from tests.support.waiting import until

MAILS = 40
ITEMS = 8


def lacking(peer: Peer) -> str | None:
    if (reason := peer.lacks() or lacking_sink()) is not None:
        return reason
    if isinstance(peer, Queued) and not peer.home.is_installed():
        return f"not installed here: run `python -m benchmarks.peers {peer.name!r}`"
    return None


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
async def test_a_peer_waits_until_it_drains_sends_every_mail_once_and_has_ended_then(peer: Peer):
    if (reason := lacking(peer)) is not None:
        pytest.skip(reason)
    async with stage() as place, smtp_sink() as sink:
        arena = Arena(place.redis_url, sink.port, place.folder, MAILS, processes=2)
        await peer.fill(arena)
        assert sink.counts().mails == 0
        async with peer.drain(arena) as pids:

            async def all_arrived() -> bool:
                return sink.counts().mails >= MAILS

            await until(all_arrived, what=f"all mails of {peer.name}")
            at_the_end = pids()
            assert at_the_end
        assert all(map(is_gone, at_the_end))
        kept = sink.kept()
    assert sorted(mail.recipients[0] for mail in kept) == sorted(map(recipient, range(1, MAILS + 1)))
    for mail in kept:
        said = message_from_bytes(mail.content, policy=default)
        number = int(mail.recipients[0].removeprefix("customer").partition("@")[0])
        subject, text, html = rendered(number)
        assert said["Subject"] == subject
        assert _lines(said.get_body(("plain",)).get_content()) == _lines(text)
        assert said.get_body(("html",)).get_content().count("SKU-") == html.count("SKU-") == ITEMS


@pytest.mark.parametrize("number", [1, 2, 4711])
def test_our_bytes_and_a_message_of_the_standard_library_say_the_same(number: int):
    ours, plain = (
        message_from_bytes(content, policy=default) for content in (finished(number), message(number).as_bytes())
    )
    assert [ours[name] for name in ("From", "To", "Subject")] == [plain[name] for name in ("From", "To", "Subject")]
    said, expected = (mail.get_body(("plain",)).get_content() for mail in (ours, plain))
    assert _lines(said) == _lines(expected)


@pytest.mark.parametrize("number", [1, 2, 4711])
def test_the_mail_made_in_javascript_is_the_same_to_the_letter(number: int, tmp_path: Path):
    node = Node()
    if (reason := node.lacks()) is not None or not node.is_installed():
        pytest.skip(reason or "BullMQ is not installed here")
    env = environment(Arena("redis://127.0.0.1:1/0", 1, tmp_path, 1, 1))
    printed = subprocess.run(
        [node.executable, str(BULLMQ / "mail.cjs"), str(number)], env=env, capture_output=True, check=True, timeout=30
    )
    said = json.loads(printed.stdout)
    assert (said["subject"], said["text"], said["html"]) == rendered(number)


async def test_a_worker_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path):
    dying = ("sh", "-c", "echo the disk is full; exit 3")
    async with at_work([dying], {}, tmp_path / "log") as pids:

        async def told() -> bool:
            try:
                pids()
            except PeerFailed as failure:
                return "ended with 3" in str(failure) and "the disk is full" in str(failure)
            return False

        await until(told, what="the end of a worker")


async def test_one_run_prints_rate_and_cpu(capsys: pytest.CaptureFixture[str]):
    peer = PEERS[0]
    if (reason := lacking(peer)) is not None:
        pytest.skip(reason)
    await measure(peer, 100, 1)
    assert "s of CPU per 1,000 mails" in capsys.readouterr().out


def _lines(text: str) -> list[str]:
    return text.rstrip("\n").splitlines()
