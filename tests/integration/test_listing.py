"""GET /jobs: jobs found by what they are, page by page, while others come and go."""

import asyncio
import itertools
from typing import Any

import httpx
import pytest

from mailer.addresses import make_address
from mailer.jobs import Attempt, Job, NewJob, Payload, Phase, Reason, Recipient, RecipientStatus, Reply, Status
from mailer.store import keys
from mailer.store.connection import RedisClient
from mailer.store.jobs import EnqueueRequest, JobStore
from mailer.store.leases import LeaseStore
from mailer.store.listing import Filter, JobList, Place
from mailer.store.reconciling import Reconciler
from mailer.store.runs import Ending, Held
from tests.support.jobs import post

ADA = Recipient(make_address("ada@example.com", None))
CLAIMS = itertools.count(1)
SAID = Attempt(1, 0, 0, Phase.RCPT, "refused", Reply(550, "no"))


def new_job(number: int, email: str = "ada@example.com") -> NewJob:
    return NewJob(
        id=f"{number:032x}",
        payload=Payload(subject="Hi", text="Hi"),
        recipients=(Recipient(make_address(email, None)),),
    )


async def fill(store: JobStore, numbers: range) -> None:
    slots = asyncio.Semaphore(4)

    async def some(part: range) -> None:
        async with slots:
            await store.enqueue(EnqueueRequest(tuple(new_job(number) for number in part)))

    await asyncio.gather(*(some(numbers[at : at + 100]) for at in range(0, len(numbers), 100)))


async def end(leases: LeaseStore, limit: int, status: Status = Status.FAILED) -> list[str]:
    """So many due jobs are claimed, and come to rest with this status."""
    ended: list[str] = []
    while len(ended) < limit:
        claim = await leases.claim("w", next(CLAIMS), wanted=min(100, limit - len(ended)), running=0)
        assert claim.jobs
        ended += [claimed.job_id for claimed in claim.jobs]
        reason = Reason.REFUSED if status is Status.FAILED else None
        ending = Ending(status, claim.server_time, attempts=(SAID,), reason=reason)
        await asyncio.gather(
            *(
                leases.finish(
                    Held(claimed.job_id, claimed.queue, claimed.run),
                    Job(claimed.job_id, Status.PENDING, new_job(0).stream, 0, 0),
                    ending,
                )
                for claimed in claim.jobs
            )
        )
    return ended


async def walk(api: httpx.AsyncClient, **asked: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        answer = await api.get("/jobs", params={**asked, **after})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["data"]
        if page["next"] is None:
            return found
        after = {"after": page["next"]}


async def test_the_newest_come_first_and_each_page_says_where_the_next_begins(api: httpx.AsyncClient) -> None:
    ids = [await post(api, subject=f"{number}") for number in range(5)]
    first = (await api.get("/jobs", params={"limit": "2"})).json()
    second = (await api.get("/jobs", params={"limit": "2", "after": first["next"]})).json()
    third = (await api.get("/jobs", params={"limit": "2", "after": second["next"]})).json()
    assert [job["id"] for page in (first, second, third) for job in page["data"]] == ids[::-1]
    assert third["next"] is None
    assert "attempts" not in first["data"][0]
    assert first["data"][0]["recipients"][0]["email"] == "ada@example.com"


async def test_jobs_are_found_by_the_status_they_are_shown_with(api: httpx.AsyncClient, leases: LeaseStore) -> None:
    failed, running = await post(api), await post(api)
    assert sorted(await end(leases, 1)) in ([failed], [running])
    failed, running = (
        (failed, running) if (await api.get(f"/jobs/{failed}")).json()["status"] == "failed" else (running, failed)
    )
    assert len((await leases.claim("other", 1, wanted=1, running=0)).jobs) == 1
    scheduled = await post(api, send_at="2035-01-01T00:00:00Z")
    queued = await post(api)
    for status, ids in {
        "failed": [failed],
        "sending": [running],
        "scheduled": [scheduled],
        "queued": [queued],
        "pending": [queued, scheduled, running],
        "failed,queued": [queued, failed],
        "sent": [],
    }.items():
        assert [job["id"] for job in await walk(api, status=status)] == ids, status
    twice = await api.get("/jobs", params=[("status", "failed"), ("status", "queued")])
    assert [job["id"] for job in twice.json()["data"]] == [queued, failed]


async def test_jobs_are_found_by_recipient_template_stream_reason_and_time(
    api: httpx.AsyncClient, leases: LeaseStore
) -> None:
    grace = await post(api, to=["Grace Hopper <Grace@Example.com>"], bcc=["bob@example.com"])
    await post(api, stream="bulk")
    reset = {"reset_url": "https://app.example.com/r", "id": 42}
    await post(api, template="reset-password", to=["eve@example.com"], data=reset, send_at="2035-01-01T00:00:00Z")
    for asked, count in (
        ({"to": "grace@example.com"}, 1),
        ({"to": "BOB@example.com"}, 1),
        ({"to": "nobody@example.com"}, 0),
        ({"template": "reset-password"}, 1),
        ({"stream": "bulk"}, 1),
        ({"stream": "bulk", "to": "bob@example.com"}, 0),
        ({"created_after": "2034-01-01T00:00:00Z"}, 0),
        ({"created_before": "2034-01-01T00:00:00Z"}, 3),
        ({"reason": "refused"}, 0),
    ):
        assert len(await walk(api, **asked)) == count, asked
    assert await end(leases, 1) == [grace]
    assert [job["id"] for job in await walk(api, reason="refused", to="bob@example.com")] == [grace]


async def test_a_recipient_that_only_a_source_knew_is_found_after_the_first_attempt(
    api: httpx.AsyncClient, leases: LeaseStore, store: JobStore
) -> None:
    await store.enqueue(EnqueueRequest((NewJob(id="a" * 32, payload=Payload(), template="welcome", recipients=None),)))
    assert await walk(api, to="ada@example.com") == []
    claimed = (await leases.claim("w", 1, wanted=1, running=0)).jobs[0]
    assert claimed.record[b"recipients_from"] == b"source"
    late = Job(claimed.job_id, Status.PENDING, new_job(0).stream, 0, 0, recipients_come_late=True)
    sent = Recipient(ADA.address, status=RecipientStatus.SENT)
    await leases.finish(Held(claimed.job_id, claimed.queue, claimed.run), late, Ending(Status.SENT, 1, (), (sent,)))
    assert [job["id"] for job in await walk(api, to="ada@example.com")] == ["a" * 32]


@pytest.mark.parametrize(
    ("asked", "code", "named"),
    [
        ({"status": "faild"}, "bad_filter", "status"),
        ({"state": "failed"}, "bad_filter", "state"),
        ({"to": "nobody"}, "bad_filter", "to"),
        ({"to": "a@x.example, b@x.example"}, "bad_filter", "to"),
        ({"stream": "fast"}, "bad_filter", "stream"),
        ({"reason": "because"}, "bad_filter", "reason"),
        ({"limit": "0"}, "bad_filter", "limit"),
        ({"limit": "501"}, "bad_filter", "limit"),
        ({"limit": "many"}, "bad_filter", "limit"),
        ({"created_after": "yesterday"}, "bad_filter", "created_after"),
        ({"created_after": "2026-11-25T12:00:00"}, "naive_datetime", "created_after"),
        ({"after": "x"}, "bad_cursor", "after"),
        ({"after": "MTIzNA"}, "bad_cursor", "after"),
        ({"after": "\u20ac"}, "bad_cursor", "after"),
        ({"after": ""}, "bad_cursor", "after"),
    ],
)
async def test_a_bad_filter_or_cursor_is_400_and_named(
    api: httpx.AsyncClient, asked: dict[str, str], code: str, named: str
) -> None:
    answer = await api.get("/jobs", params=asked)
    assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text
    assert named in answer.json()["detail"]


async def test_a_filter_that_is_given_twice_is_refused(api: httpx.AsyncClient) -> None:
    answer = await api.get("/jobs", params=[("to", "a@x.example"), ("to", "b@x.example")])
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_filter")


async def test_a_walk_over_many_jobs_sees_none_twice_and_misses_none_that_stayed(
    api: httpx.AsyncClient, store: JobStore, leases: LeaseStore, redis: RedisClient
) -> None:
    """Meanwhile new ones are accepted, others end and change their index, and records of ended ones go."""
    await fill(store, range(100_000))
    before = {job_id.decode() for job_id in await redis.zrange(keys.jobs(Status.PENDING), 0, -1)}
    over = asyncio.Event()
    gone: set[str] = set()

    async def come_and_go() -> None:
        number = 1_000_000
        while not over.is_set():
            await fill(store, range(number, number + 100))
            number += 100
            ended = await end(leases, 100)
            for job_id in ended[:50]:
                await redis.delete(keys.job(job_id))
                gone.add(job_id)

    others = asyncio.create_task(come_and_go())
    seen = [job["id"] for job in await walk(api, limit="500")]
    over.set()
    await others
    assert gone
    assert len(seen) == len(set(seen))
    assert before - gone <= set(seen)


async def test_a_page_of_what_is_rare_comes_with_few_jobs_and_goes_on(store: JobStore, redis: RedisClient) -> None:
    await fill(store, range(15_000))
    page = await JobList(redis).page(Filter(template="welcome"), 50)
    assert page.jobs == ()
    assert page.next is not None
    rest = await JobList(redis).page(Filter(template="welcome"), 50, page.next)
    assert rest.next is None


async def test_jobs_accepted_in_one_millisecond_are_all_found(store: JobStore, redis: RedisClient) -> None:
    await store.enqueue(EnqueueRequest(tuple(new_job(number) for number in range(300))))
    seen: list[str] = []
    place: Place | None = None
    while True:
        page = await JobList(redis).page(Filter(), 7, place)
        seen += [view.job.id for view in page.jobs]
        place = page.next
        if place is None:
            break
    assert sorted(seen) == [f"{number:032x}" for number in range(300)]


async def test_what_is_gone_leaves_the_indexes_and_what_is_missing_there_comes_back(
    store: JobStore, redis: RedisClient, leases: LeaseStore
) -> None:
    """A worker of an earlier version leaves a job in the wrong index; records end by themselves."""
    await fill(store, range(1000))
    kept = f"{999:032x}"
    await redis.delete(*(keys.job(f"{number:032x}") for number in range(999)))
    await redis.hset(keys.job(kept), "status", "sent")
    await redis.zremrangebyrank(keys.jobs(Status.SENT), 0, -1)
    reconciler = Reconciler(redis)
    for _ in range(100):
        await reconciler.step("w")
        if await redis.zcard(keys.jobs(Status.SENT)) == 1 and await redis.zcard(keys.recipient("ada@example.com")) == 1:
            break
    assert await redis.zrange(keys.jobs(Status.SENT), 0, -1) == [kept.encode()]
    assert await redis.zcard(keys.jobs(Status.PENDING)) == 0
    assert await redis.zrange(keys.recipient("ada@example.com"), 0, -1) == [kept.encode()]


async def test_old_jobs_that_stay_shield_none_that_have_gone(store: JobStore, redis: RedisClient) -> None:
    """Such as a campaign that was accepted long ago, for this week."""
    await fill(store, range(1000))
    gone = [f"{number:032x}" for number in range(400, 1000)]
    await redis.delete(*map(keys.job, gone))
    reconciler = Reconciler(redis)
    for _ in range(10):
        await reconciler.step("w")
    assert await redis.zcard(keys.jobs(Status.PENDING)) == 400
    assert await redis.zcard(keys.recipient("ada@example.com")) == 400


async def test_a_job_that_stands_in_two_indexes_stands_in_its_own_alone_in_the_end(
    store: JobStore, redis: RedisClient
) -> None:
    """As a worker of an earlier version leaves it, and then one of this."""
    await fill(store, range(1))
    await redis.zadd(keys.jobs(Status.DEFERRED), {f"{0:032x}": 1})
    reconciler = Reconciler(redis)
    while await redis.zcard(keys.jobs(Status.DEFERRED)):
        await reconciler.step("w")
    assert await redis.zcard(keys.jobs(Status.PENDING)) == 1


async def test_a_cursor_of_another_question_does_not_widen_this_one(api: httpx.AsyncClient) -> None:
    for _ in range(3):
        await post(api)
    cursor = (await api.get("/jobs", params={"limit": "1"})).json()["next"]
    found = await api.get("/jobs", params={"created_before": "2020-01-01T00:00:00Z", "after": cursor})
    assert found.json() == {"data": [], "next": None}


async def test_a_job_that_a_newer_version_wrote_hides_none_of_the_others(
    api: httpx.AsyncClient, redis: RedisClient
) -> None:
    old, newer = await post(api), await post(api)
    await redis.hset(keys.job(newer), "v", "99")
    assert [job["id"] for job in await walk(api)] == [old]


async def test_the_index_of_a_recipient_lives_as_long_as_any_job_to_it(
    api: httpx.AsyncClient, redis: RedisClient
) -> None:
    day = 24 * 3600 * 1000
    await post(api, send_at="2035-01-01T00:00:00Z")
    far = await redis.pttl(keys.recipient("ada@example.com"))
    await post(api)
    assert far - day < await redis.pttl(keys.recipient("ada@example.com")) <= far
    await post(api, to=["bob@example.com"])
    assert 59 * day < await redis.pttl(keys.recipient("bob@example.com")) <= 60 * day
