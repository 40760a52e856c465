"""When a mail is tried again, and how it ends: what its job says, else its template, else its stream."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from mailer.catalogue import TemplateLibrary
from mailer.jobs import RECORD_VERSION, Reason, RecipientStatus, Status
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.jobs import JobView
from mailer.store.packing import unpack
from tests.integration.conftest import Run
from tests.support.smtp import DROP, ScriptedRelay

MakeRun = Callable[..., Run]
TO_ONE = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hi\n"}
NOTICE = {"template": "notice"}
STREAM_OF_THREE = '{"normal": {"base_s": 30, "cap_s": 900, "give_up_s": 3600, "max_attempts": 3}}'


@pytest.fixture
def busy(relay: ScriptedRelay) -> ScriptedRelay:
    """A relay that never takes a mail."""
    relay.script["MAIL"] = ["451 4.3.0 Later"]
    return relay


@pytest.fixture
def writing(make_run: MakeRun, tmp_path: Path) -> Callable[..., Run]:
    """A worker, and an API, whose template `notice` has these lines in its manifest."""

    def make(*lines: str, **settings: str) -> Run:
        folder = tmp_path / "notice"
        folder.mkdir()
        manifest = ['to = { email = "ada@example.com" }', 'events = ["order.shipped"]', *lines]
        (folder / "template.toml").write_text("\n".join(manifest))
        (folder / "subject.txt").write_text("Notice")
        (folder / "body.txt").write_text("Here it is")
        run = make_run(**settings)
        run.deps = replace(run.deps, templates=TemplateLibrary(tmp_path))
        return run

    return make


async def lived(run: Run, body: dict[str, Any], at_most: int = 60) -> JobView:
    """The job at its end, each attempt as soon as the one before it was over."""
    job_id = await run.submit(body)
    for _ in range(at_most):
        view = await run.once(job_id)
        if view.job.status is not Status.DEFERRED:
            return view
    raise AssertionError(f"still deferred after {at_most} attempts")


def waits(view: JobView) -> list[int]:
    """Milliseconds from the end of each attempt to the next one, as it was planned."""
    return [
        attempt.next_attempt_at - attempt.at - attempt.duration_ms
        for attempt in view.attempts
        if attempt.next_attempt_at is not None
    ]


def end(view: JobView) -> tuple[Status, Reason | None, int]:
    return view.job.status, view.job.reason, view.job.attempts


async def test_a_list_of_waits_is_kept_exactly_and_then_the_job_gives_up(run: Run, busy: ScriptedRelay) -> None:
    view = await lived(run, {**TO_ONE, "backoff": [30, "2m", 600]})
    assert waits(view) == [30_000, 120_000, 600_000]
    assert end(view) == (Status.FAILED, Reason.GAVE_UP, 4)
    assert view.job.detail == "The attempts that its backoff allows (4) are made: Later"
    assert view.job.recipients is not None
    assert [item.status for item in view.job.recipients] == [RecipientStatus.FAILED]
    assert busy.received == []


async def test_the_last_attempt_of_a_list_may_be_the_one_that_is_taken(run: Run, relay: ScriptedRelay) -> None:
    relay.script["DATA"] = ["451 4.3.0 Later", "451 4.3.0 Later", "354 go on"]
    assert end(await lived(run, {**TO_ONE, "backoff": [1, 1]})) == (Status.SENT, None, 3)


async def test_a_job_is_tried_as_often_as_it_says(run: Run, busy: ScriptedRelay) -> None:
    view = await lived(run, {**TO_ONE, "backoff": {"max_attempts": 2}})
    assert end(view) == (Status.FAILED, Reason.GAVE_UP, 2)
    assert 15_000 <= waits(view)[0] <= 30_000, "what it leaves out is as its stream has it"


async def test_a_mail_may_be_tried_just_once(run: Run, busy: ScriptedRelay) -> None:
    view = await lived(run, {**TO_ONE, "backoff": {"max_attempts": 1}})
    assert (end(view), waits(view)) == ((Status.FAILED, Reason.GAVE_UP, 1), [])


async def test_a_job_is_tried_for_as_long_as_it_says(run: Run, busy: ScriptedRelay) -> None:
    job_id = await run.submit({**TO_ONE, "backoff": {"base": 10, "cap": 10, "give_up_after": "1h"}})
    view = await run.once(job_id)
    assert 5_000 <= waits(view)[0] <= 10_000
    await run.age(job_id, 3600)
    view = await run.once(job_id)
    assert end(view) == (Status.FAILED, Reason.GAVE_UP, 2)
    assert view.job.detail == "The time that its backoff allows (3600 s) is over: Later"


async def test_a_lost_answer_is_no_reason_for_an_attempt_too_many(run: Run, relay: ScriptedRelay) -> None:
    relay.script["DOT"] = ["250 taken, but the answer is", DROP]
    view = await run.once(await run.submit({**TO_ONE, "backoff": {"max_attempts": 1}}))
    assert (view.job.status, len(relay.received)) == (Status.UNKNOWN, 1)


@pytest.mark.parametrize(
    ("manifest", "own", "planned", "attempts"),
    [
        ((), {}, None, 3),
        (("backoff = [60, 60, 60]",), {}, [60_000] * 3, 4),
        (("backoff = [60, 60, 60]",), {"backoff": [5]}, [5_000], 2),
        (("backoff = [60]",), {"backoff": {"max_attempts": 5}}, None, 5),
        (("backoff = { max_attempts = 5 }",), {}, None, 5),
        (("backoff = { max_attempts = 5 }",), {"backoff": {}}, None, 3),
    ],
    ids=["stream", "template over stream", "job over template", "as a whole", "by number", "back to the stream"],
)
async def test_the_job_goes_before_its_template_and_that_before_its_stream(
    writing: Callable[..., Run],
    busy: ScriptedRelay,
    manifest: tuple[str, ...],
    own: dict[str, Any],
    planned: list[int] | None,
    attempts: int,
) -> None:
    view = await lived(writing(*manifest, backoff=STREAM_OF_THREE), {**NOTICE, **own})
    assert end(view) == (Status.FAILED, Reason.GAVE_UP, attempts)
    if planned is None:
        assert all(15_000 <= wait <= 900_000 for wait in waits(view))
    else:
        assert waits(view) == planned


async def test_an_events_jobs_keep_their_templates_backoff(writing: Callable[..., Run], busy: ScriptedRelay) -> None:
    view = await lived(writing("backoff = [60]"), {"event": "order.shipped"})
    assert (end(view), waits(view)) == ((Status.FAILED, Reason.GAVE_UP, 2), [60_000])


async def test_a_backoff_is_what_its_template_said_at_acceptance(
    writing: Callable[..., Run], busy: ScriptedRelay, tmp_path: Path
) -> None:
    run = writing("backoff = [60]")
    job_id = await run.submit(NOTICE)
    (tmp_path / "notice" / "template.toml").write_text("backoff = [5, 5, 5]")
    run.deps = replace(run.deps, templates=TemplateLibrary(tmp_path))
    assert waits(await run.once(job_id)) == [60_000]


async def test_giving_up_and_expiring_are_two_different_ends(writing: Callable[..., Run], busy: ScriptedRelay) -> None:
    """The author's time is why a mail would come too late; the backoff is how much is done for it."""
    run = writing('expires_after = "5m"', "backoff = [10, 10, 400]")
    gave_up = await lived(run, {**NOTICE, "backoff": [10, 10]})
    assert end(gave_up) == (Status.FAILED, Reason.GAVE_UP, 3)
    expired = await lived(run, NOTICE)
    assert end(expired) == (Status.EXPIRED, None, 3)
    assert waits(gave_up) == waits(expired) == [10_000, 10_000]
    assert expired.job.detail == "The next attempt would come after the time set by its author."


async def test_a_job_whose_author_has_no_more_time_is_not_tried_though_its_backoff_would(
    writing: Callable[..., Run], busy: ScriptedRelay
) -> None:
    run = writing('expires_after = "5m"', "backoff = [10, 10, 10]")
    job_id = await run.submit(NOTICE)
    assert (await run.once(job_id)).job.status is Status.DEFERRED
    await run.age(job_id, 300)
    said = len(busy.commands)
    assert end(await run.once(job_id)) == (Status.EXPIRED, None, 1)
    assert len(busy.commands) == said


async def test_waiting_for_a_relay_is_no_attempt_and_ends_with_the_jobs_own_time(
    make_run: MakeRun, relay: ScriptedRelay
) -> None:
    run = make_run(smtp_url=f"{relay.url}&senders=other.example", backoff=STREAM_OF_THREE)
    job_id = await run.submit({**TO_ONE, "backoff": {"give_up_after": 600, "max_attempts": 1}})
    for _ in range(4):
        assert end(await run.once(job_id)) == (Status.PENDING, None, 0)
    await run.age(job_id, 600)
    assert end(await run.once(job_id)) == (Status.FAILED, Reason.NO_USABLE_RELAY, 0)


async def test_an_older_or_newer_process_beside_it_does_no_harm(
    run: Run, redis: RedisClient, busy: ScriptedRelay
) -> None:
    job_id = await run.submit({**TO_ONE, "backoff": [30, 60]})
    record = await redis.hgetall(keys.job(job_id))
    assert record[b"v"] == b"%d" % RECORD_VERSION, "a worker that knows this version, and not every key, takes it"
    newer = orjson.loads(unpack(record[b"backoff"])) | {"jitter": "full"}
    await redis.hset(keys.job(job_id), "backoff", orjson.dumps(newer))
    assert waits(await run.once(job_id)) == [30_000]
