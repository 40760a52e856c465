"""Postfix's smtp-sink as a relay, at fault in each way that it can be: nothing is lost, nothing is sent twice."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from mailer.jobs import Phase, Reason, Status
from mailer.store.jobs import JobView
from tests.integration.conftest import Run
from tests.peers import contents
from tests.peers.handing_over import hands
from tests.peers.smtp_sink import Sink, lacking_sink, smtp_sink
from tests.support.processes import free_port
from worker.relays.timeouts import Timeouts

pytestmark = pytest.mark.skipif(lacking_sink() is not None, reason=str(lacking_sink()))

MailRun = Callable[..., Run]
MAIL = {"to": ["ada@example.com", "bob@example.com"], "subject": "Grüße", "text": ".\n..\nHallo\n"}
IMPATIENT = Timeouts(banner_s=0.5, ehlo_s=0.5, command_s=0.5, verdict_s=0.5, unasked_s=0.5, reset_s=0.5)
SILENCE = ":30"
"""At the end of an option -W: seconds, and nobody waits for them."""
NO_ANSWER = None

DISCONNECTS = [
    ("CONNECT", Phase.BANNER),
    ("EHLO", Phase.EHLO),
    ("MAIL", Phase.MAIL),
    ("RCPT", Phase.RCPT),
    ("DATA", Phase.DATA),
]
AT_EACH = pytest.mark.parametrize(("command", "phase"), DISCONNECTS)


class Scene:
    """Some jobs, and a relay on one port that is at fault as the sinks of a test are, one after another."""

    def __init__(self, make_run: MailRun, options: str = "", **settings: str) -> None:
        self.port = free_port()
        url = f"smtp://127.0.0.1:{self.port}?tls=none{options}"
        self.patient = make_run(smtp_url=url, **settings)
        self.impatient = make_run(smtp_url=url, timeouts=IMPATIENT, **settings)
        self.ids: list[str] = []

    async def submit(self, count: int = 3, body: dict[str, Any] = MAIL) -> None:
        self.ids += [await self.patient.submit(body) for _ in range(count)]

    async def once(self, *options: str) -> tuple[list[JobView], Counter[str]]:
        """Each job's next run, with a sink that has these options; and how many times it came to each job's dot."""
        run = self.impatient if any(option.endswith(SILENCE) for option in options) else self.patient
        async with smtp_sink(*options, port=self.port) as sink:
            views = await asyncio.gather(*(run.once(job_id) for job_id in self.ids))
            return views, self.count(sink)

    def count(self, sink: Sink) -> Counter[str]:
        kept = b"".join(mail.content for mail in sink.kept())
        return Counter(found.decode() for found in re.findall(rb"^Message-ID: <([^@>]+)@", kept, re.MULTILINE))

    @property
    def each_once(self) -> Counter[str]:
        return Counter(self.ids)


@pytest.fixture
async def scene(make_run: MailRun) -> Scene:
    scene = Scene(make_run)
    await scene.submit()
    return scene


def ends(views: list[JobView]) -> set[tuple[str, Phase, int | None]]:
    return {(view.job.status, view.attempts[-1].phase, view.attempts[-1].reply.code) for view in views}


SENT = {(Status.SENT, Phase.DOT, 250)}


async def sent_after_all(scene: Scene) -> bool:
    views, kept = await scene.once()
    return ends(views) == SENT and kept == scene.each_once


@AT_EACH
async def test_a_line_that_is_cut_before_the_dot_only_delays(scene: Scene, command: str, phase: Phase) -> None:
    views, kept = await scene.once("-q", command)
    assert ends(views) == {(Status.DEFERRED, phase, NO_ANSWER)}
    assert not kept
    assert await sent_after_all(scene)


@AT_EACH
async def test_a_relay_that_shuts_down_before_the_dot_only_delays(scene: Scene, command: str, phase: Phase) -> None:
    views, kept = await scene.once("-Q", command)
    assert ends(views) == {(Status.DEFERRED, phase, 421)}
    assert not kept
    assert await sent_after_all(scene)


@AT_EACH
async def test_a_soft_refusal_before_the_dot_only_delays(scene: Scene, command: str, phase: Phase) -> None:
    views, kept = await scene.once("-r", command, "-b", "451 4.3.0 Not now")
    assert ends(views) == {(Status.DEFERRED, phase, 451)}
    assert not kept
    assert await sent_after_all(scene)


@AT_EACH
async def test_a_relay_that_falls_silent_before_the_dot_only_delays(scene: Scene, command: str, phase: Phase) -> None:
    views, kept = await scene.once("-p", "-W", command + SILENCE)
    assert ends(views) == {(Status.DEFERRED, phase, NO_ANSWER)}
    assert not kept
    assert await sent_after_all(scene)


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
async def test_a_relay_that_falls_out_of_step_before_the_dot_only_delays(scene: Scene, command: str) -> None:
    """smtp-sink answers pipelined commands before the one that it delays."""
    views, kept = await scene.once("-W", command + SILENCE)
    assert {view.job.status for view in views} == {Status.DEFERRED}
    assert not kept
    assert await sent_after_all(scene)


@pytest.mark.parametrize(("command", "phase"), DISCONNECTS[:2])
async def test_a_relay_that_turns_us_away_for_good_at_the_door_only_delays(
    scene: Scene, command: str, phase: Phase
) -> None:
    views, kept = await scene.once("-f", command)
    assert ends(views) == {(Status.DEFERRED, phase, 500)}
    assert not kept
    assert await sent_after_all(scene)


@pytest.mark.parametrize(("command", "phase"), [*DISCONNECTS[2:], (".", Phase.DOT)])
async def test_a_hard_refusal_is_final(scene: Scene, command: str, phase: Phase) -> None:
    views, kept = await scene.once("-f", command, "-B", "554 5.7.0 No")
    assert ends(views) == {(Status.FAILED, phase, 554)}
    assert {view.job.reason for view in views} == {Reason.REFUSED}
    assert kept == (scene.each_once if command == "." else Counter()), "what came to its dot, and was refused there"
    views, kept = await scene.once()
    assert {view.job.status for view in views} == {Status.FAILED}
    assert not kept


@pytest.mark.parametrize(("option", "code"), [("-r", 450), ("-Q", 421)])
async def test_a_soft_refusal_of_the_dot_is_an_answer_and_the_mail_goes_again(
    scene: Scene, option: str, code: int
) -> None:
    views, _ = await scene.once(option, ".")
    assert ends(views) == {(Status.DEFERRED, Phase.DOT, code)}
    assert {view.job.unknown_outcomes for view in views} == {0}
    assert await sent_after_all(scene)


DOUBTS = pytest.mark.parametrize("fault", [("-q", "."), ("-W", "." + SILENCE)], ids=["cut", "silent"])


@DOUBTS
async def test_an_answer_that_is_lost_makes_one_copy_more_at_the_most_and_it_is_declared(
    scene: Scene, fault: tuple[str, str]
) -> None:
    views, kept = await scene.once(*fault)
    assert ends(views) == {(Status.DEFERRED, Phase.DOT, NO_ANSWER)}
    assert kept == scene.each_once
    views, kept = await scene.once(*fault)
    assert {(view.job.status, view.job.unknown_outcomes) for view in views} == {(Status.UNKNOWN, 2)}
    assert kept == scene.each_once
    views, kept = await scene.once()
    assert {view.job.status for view in views} == {Status.UNKNOWN}
    assert not kept


@DOUBTS
@pytest.mark.parametrize(("policy", "status"), [("hold", Status.UNKNOWN), ("accept", Status.SENT)])
async def test_a_lost_answer_makes_no_second_copy_where_the_policy_says_so(
    make_run: MailRun, fault: tuple[str, str], policy: str, status: Status
) -> None:
    scene = Scene(make_run, unknown_policy=f'{{"normal": "{policy}"}}')
    await scene.submit()
    views, kept = await scene.once(*fault)
    assert {(view.job.status, view.job.assumed) for view in views} == {(status, policy == "accept")}
    assert kept == scene.each_once
    assert not (await scene.once())[1]


async def test_a_relay_that_dies_at_a_final_dot_leaves_one_mail_in_doubt_and_the_others_to_be_sent(
    make_run: MailRun,
) -> None:
    scene = Scene(make_run, "&connections=1")
    await scene.submit(5)
    views, kept = await scene.once("-M", "3")
    assert sorted(view.job.status for view in views) == [Status.DEFERRED] * 3 + [Status.SENT] * 2
    in_doubt = {view.job.id for view in views if view.job.unknown_outcomes}
    assert len(in_doubt) == 1
    views, kept_then = await scene.once()
    assert {view.job.status for view in views} == {Status.SENT}
    assert kept + kept_then == scene.each_once + Counter(in_doubt)


@pytest.mark.parametrize("delay_s", [0, 1])
@pytest.mark.parametrize("text", ["Hi\n", "a line that is long enough to be one\n" * 50_000], ids=["small", "large"])
async def test_an_early_refusal_in_the_content_is_heard_and_nothing_arrives(
    make_run: MailRun, delay_s: int, text: str
) -> None:
    scene = Scene(make_run)
    await scene.submit(1, {**MAIL, "text": text})
    views, kept = await scene.once("-A", str(delay_s))
    ((status, phase, code),) = ends(views)
    assert (status, code) == (Status.FAILED, 550)
    assert phase in {Phase.DATA, Phase.DOT}
    assert not kept


@pytest.mark.parametrize(
    "fault",
    [("-q", "QUIT"), ("-r", "QUIT"), ("-f", "QUIT"), ("-Q", "QUIT"), ("-W", "QUIT" + SILENCE), ("-q", "RSET")],
    ids=" ".join,
)
async def test_what_happens_after_the_answer_changes_nothing(scene: Scene, fault: tuple[str, str]) -> None:
    views, kept = await scene.once(*fault)
    assert (ends(views), kept) == (SENT, scene.each_once)


@pytest.mark.parametrize("after", [("-q", "RSET"), ("-f", "RSET"), ("-W", "RSET" + SILENCE)], ids=" ".join)
async def test_a_refusal_stands_though_the_relay_is_at_fault_after_it(scene: Scene, after: tuple[str, str]) -> None:
    views, kept = await scene.once("-r", "RCPT", *after)
    assert (ends(views), kept) == ({(Status.DEFERRED, Phase.RCPT, 450)}, Counter())
    assert await sent_after_all(scene)


@pytest.mark.parametrize(
    "options",
    [
        ("-8",), ("-p",), ("-a",), ("-C",), ("-E",), ("-F",), ("-N",), ("-8", "-p", "-a", "-C", "-E", "-F", "-N"),
        ("-w", "1"), ("-W", ".:1"), ("-T", "2000", "-H", "1"),
    ],
    ids=" ".join,
)  # fmt: skip
async def test_a_relay_that_offers_little_or_is_slow_gets_each_mail_once(
    make_run: MailRun, options: tuple[str, ...]
) -> None:
    scene = Scene(make_run)
    await scene.submit(3)
    await scene.submit(1, {**MAIL, "text": "a line that is long enough to be one\n" * 50_000})
    views, kept = await scene.once(*options)
    assert (ends(views), kept) == (SENT, scene.each_once)


@pytest.mark.parametrize("options", [("-e",), ("-P",)], ids=" ".join)
async def test_a_relay_that_knows_no_ehlo_gets_nothing_and_no_mail_fails(
    scene: Scene, options: tuple[str, ...]
) -> None:
    views, kept = await scene.once(*options)
    assert ends(views) == {(Status.DEFERRED, Phase.EHLO, 500)}
    assert not kept
    assert await sent_after_all(scene)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("554 5.7.1 Service unavailable; client host blocked using a DNSBL", Status.FAILED),
        ("552 5.3.4 Message too big", Status.FAILED),
        ("550 5.7.1 Relaying denied", Status.DEFERRED),
        ("530 5.7.0 Authentication required", Status.DEFERRED),
    ],
)
async def test_the_words_of_a_refusal_tell_the_mails_fault_from_the_relays(
    scene: Scene, reply: str, status: Status
) -> None:
    views, kept = await scene.once("-f", "MAIL", "-B", reply)
    assert ends(views) == {(status, Phase.MAIL, int(reply[:3]))}
    assert not kept


async def test_a_connection_that_the_relay_closed_meanwhile_costs_no_attempt() -> None:
    async with smtp_sink("-t", "1") as sink, hands(sink.url) as ours:
        for pause_s in (0, 1.5, 0):
            await asyncio.sleep(pause_s)
            handed = await ours.over(contents.composed(text="Hi\n"), "ada@example.com")
            assert handed.decisive.accepted
        assert len(sink.kept()) == 3


@pytest.mark.parametrize("options", [(), ("-p",), ("-m", "10")], ids=["pipelining", "one by one", "few connections"])
async def test_many_mails_at_once_arrive_once_each_and_whole(options: tuple[str, ...]) -> None:
    mails = {f"user{number}@example.com": contents.composed(text=f".\nmail {number}\n") for number in range(300)}
    async with smtp_sink(*options) as sink, hands(f"{sink.url}&connections=10") as ours:
        handed = await asyncio.gather(*(ours.over(content, email) for email, content in mails.items()))
        assert all(one.decisive.accepted for one in handed)
        assert sorted((mail.recipients, mail.content) for mail in sink.kept()) == sorted(
            ((email,), content) for email, content in mails.items()
        )
        assert sink.counts().mails == 300
