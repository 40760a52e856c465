"""The fault matrix, row by row: what becomes of the job, and what all workers know of the relay.

Each row is run twice: with one relay, and with another behind it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mailer.jobs import Phase, RecipientStatus, Status
from mailer.relays import OpenedBy
from mailer.store.connection import RedisClient
from tests.integration.conftest import Run
from tests.integration.two_relays import named, relayed, set_up
from tests.support.smtp import DROP, HANG, ScriptedRelay, scripted_relay

JOB = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi\n"}
D, F = Status.DEFERRED, Status.FAILED


@dataclass(frozen=True)
class Row:
    """`script`: of the first relay. `status`: with it alone. `elsewhere`: the second one has the mail in the same
    attempt. `told`: the row that all workers know of, where they are told."""

    name: str
    script: dict[str, list[str]]
    status: Status
    phase: Phase
    elsewhere: bool
    told: str | None = None
    opened_by: OpenedBy | None = None
    pace: float = 1.0
    alert: bool = False
    at_least_s: float = 0
    extensions: list[str] = field(default_factory=lambda: ["PIPELINING"])


ROWS = (
    Row("banner drop", {"BANNER": [DROP]}, D, Phase.BANNER, True, "no_connection"),
    Row("banner hangs", {"BANNER": [HANG]}, D, Phase.BANNER, True, "no_connection"),
    Row("banner garbage", {"BANNER": ["hello"]}, D, Phase.BANNER, True, "no_connection"),
    Row("banner 421", {"BANNER": ["421 4.3.2 Busy"]}, D, Phase.BANNER, True, "busy_at_the_door", pace=0.5),
    Row("banner 451", {"BANNER": ["451 4.3.2 No"]}, D, Phase.BANNER, True, "not_now_at_the_door"),
    Row(
        "banner 554", {"BANNER": ["554 5.7.1 Go away"]}, D, Phase.BANNER, True,
        "turned_away_at_the_door", OpenedBy.REFUSED, alert=True,
    ),
    Row("EHLO drop", {"EHLO": [DROP]}, D, Phase.EHLO, True, "no_connection"),
    Row("EHLO hangs", {"EHLO": [HANG]}, D, Phase.EHLO, True, "no_connection"),
    Row("EHLO 421", {"EHLO": ["421 4.3.2 Busy"]}, D, Phase.EHLO, True, "busy_at_the_door", pace=0.5),
    Row("MAIL 4xx", {"MAIL": ["451 4.3.0 Later"]}, D, Phase.MAIL, True, "sender_not_now", pace=0.5),
    Row("MAIL drop", {"MAIL": [DROP]}, D, Phase.MAIL, True),
    Row("MAIL hangs", {"MAIL": [HANG]}, D, Phase.MAIL, True, "no_answer_to_mail"),
    Row("MAIL 5xx", {"MAIL": ["550 5.7.1 Not your address"]}, F, Phase.MAIL, True, alert=True),
    Row("MAIL 552", {"MAIL": ["552 5.3.4 Too big"]}, F, Phase.MAIL, True),
    Row("MAIL 530", {"MAIL": ["530 5.7.0 Who are you?"]}, D, Phase.MAIL, True, alert=True),
    Row("SIZE too small", {}, F, Phase.MAIL, True, extensions=["PIPELINING", "SIZE 100"]),
    Row("RCPT greylisted", {"RCPT": ["450 4.2.0 Greylisted, come back"]}, D, Phase.RCPT, False, at_least_s=60),
    Row("RCPT greylisted in other words", {"RCPT": ["451 4.7.1 Try later"]}, D, Phase.RCPT, False, at_least_s=60),
    Row("RCPT 451", {"RCPT": ["451 4.1.1 Hm"]}, D, Phase.RCPT, False),
    Row("RCPT full", {"RCPT": ["452 4.2.2 Mailbox full"]}, D, Phase.RCPT, False, at_least_s=1800),
    Row("RCPT too many", {"RCPT": ["452 4.5.3 Too many recipients"]}, D, Phase.RCPT, False),
    Row("RCPT user unknown", {"RCPT": ["550 5.1.1 No such user"]}, F, Phase.RCPT, False),
    Row("RCPT policy", {"RCPT": ["550 5.7.1 Not wanted"]}, F, Phase.RCPT, False),
    Row("RCPT relaying", {"RCPT": ["554 5.7.1 Relay access denied"]}, D, Phase.RCPT, True, alert=True),
    Row("RCPT 530", {"RCPT": ["530 5.7.0 Authentication required"]}, D, Phase.RCPT, True, alert=True),
    Row(
        "RCPT quota", {"RCPT": ["550 5.4.5 Daily SMTP relay limit exceeded for user"]}, D, Phase.RCPT, True,
        "quota_used_up", OpenedBy.QUOTA, alert=True,
    ),
    Row("RCPT rate", {"RCPT": ["451 4.7.1 Rate limit exceeded"]}, D, Phase.RCPT, True, "throttled", pace=0.5),
    Row("RCPT sender", {"RCPT": ["553 5.7.1 Sender address rejected: not yours"]}, F, Phase.RCPT, True, alert=True),
    Row("RCPT needs SMTPUTF8", {"RCPT": ["553 5.6.7 SMTPUTF8 is required"]}, F, Phase.RCPT, True),
    Row("RCPT 421", {"RCPT": ["421 4.7.0 Closing"]}, D, Phase.RCPT, True, "closing", pace=0.5),
    Row("RCPT 454 not known", {"RCPT": ["454 4.7.1 Relay access denied"]}, D, Phase.RCPT, True),
    Row("RCPT 454", {"RCPT": ["454 4.3.0 Not here, not now"]}, D, Phase.RCPT, True),
    Row("RCPT drop", {"RCPT": [DROP]}, D, Phase.RCPT, True),
    Row("DATA drop", {"DATA": [DROP]}, D, Phase.DATA, True),
    Row("DATA hangs", {"DATA": [HANG]}, D, Phase.DATA, True),
    Row("DATA 451", {"DATA": ["451 4.3.0 Later"]}, D, Phase.DATA, True),
    Row("DATA 554", {"DATA": ["554 5.5.1 No"]}, F, Phase.DATA, False),
    Row("out of step", {"RCPT": ["354 go on"]}, D, Phase.RCPT, False),
    Row("garbage before the dot", {"DATA": ["what?"]}, D, Phase.DATA, False),
    Row("503 before the dot", {"DATA": ["503 5.5.1 MAIL first"]}, D, Phase.DATA, False),
    Row("dot 451", {"DOT": ["451 4.3.0 Later"]}, D, Phase.DOT, True),
    Row("dot 421", {"DOT": ["421 4.3.2 Closing"]}, D, Phase.DOT, True, "closing", pace=0.5),
    Row(
        "dot rate", {"DOT": ["454 4.7.0 Throttling failure: Maximum sending rate exceeded."]}, D, Phase.DOT, True,
        "throttled", pace=0.5,
    ),
    Row(
        "dot quota", {"DOT": ["454 Throttling failure: Daily message quota exceeded."]}, D, Phase.DOT, True,
        "quota_used_up", OpenedBy.QUOTA, alert=True,
    ),
    Row("dot greylisted", {"DOT": ["451 4.7.1 Greylisted"]}, D, Phase.DOT, False, at_least_s=60),
    Row(
        "dot suspended", {"DOT": ["554 Message rejected: Sending suspended for this account."]}, D, Phase.DOT, True,
        alert=True,
    ),
    Row("dot 554", {"DOT": ["554 5.6.0 No"]}, F, Phase.DOT, False),
    Row("dot 552", {"DOT": ["552 5.3.4 Too big"]}, F, Phase.DOT, True),
    Row("dot blocklist", {"DOT": ["554 5.7.1 Listed at zen.spamhaus.org"]}, F, Phase.DOT, True, alert=True),
)  # fmt: skip


def alerts(logs: list) -> list[str]:
    return [entry["relay"] for entry in logs if entry["event"] == "relay.alert"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_alone(row: Row, make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path) -> None:
    async with (
        scripted_relay(ScriptedRelay(dict(row.script), row.extensions)) as first,
        relayed(make_run, redis, set_up(tmp_path, named("first", first))) as world,
    ):
        with capture_logs() as logs:
            view = await world.run.once(await world.run.submit(JOB))
        state = await world.state()
    job, (attempt,) = view.job, view.attempts
    assert (job.status, job.attempts, attempt.phase) == (row.status, 1, row.phase)
    assert first.received == []
    assert [item.status for item in job.recipients or ()] != [RecipientStatus.SENT]
    assert row.told in {None, attempt.row}
    if row.status is D:
        assert job.next_attempt_at is not None
        assert job.next_attempt_at - attempt.at >= row.at_least_s * 1000
        assert job.stays_at == ("first" if "greylisted" in row.name else None)
    assert (state.opened_by, state.pace) == (row.opened_by, row.pace)
    assert (state.trouble.row if state.trouble else None) == row.told
    is_counted = row.told is not None and row.told.endswith(("connection", "door", "no_answer_to_mail"))
    assert state.failures == (1 if is_counted and not row.opened_by else 0)
    assert alerts(logs) == (["first"] if row.alert else [])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_with_another_relay(row: Row, make_run: Callable[..., Run], redis: RedisClient, tmp_path: Path) -> None:
    async with scripted_relay(ScriptedRelay(dict(row.script), row.extensions)) as first, scripted_relay() as second:
        relays = set_up(tmp_path, named("first", first), named("second", second))
        async with relayed(make_run, redis, relays) as world:
            view = await world.run.once(await world.run.submit(JOB))
    job = view.job
    assert first.received == []
    if not row.elsewhere:
        assert (job.status, len(view.attempts), second.connections) == (row.status, 1, 0)
        return
    assert (job.status, job.attempts, len(second.received)) == (Status.SENT, 1, 1)
    before, last = view.attempts
    assert (before.relay, before.outcome, before.phase, before.number) == ("first", "failed_over", row.phase, 1)
    assert (last.relay, last.outcome, last.number) == ("second", "sent", 1)
