"""What workers share about relays, on the real queue server: two boards and the API see one truth."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import httpx
import pytest
import structlog
from pydantic import SecretStr

from mailer.errors import QueueUnavailable
from mailer.jobs import Phase, Reply
from mailer.relays import OpenedBy, RelayDescription, RelayState, Trouble, spacing_us
from mailer.server import parse_queue_url
from mailer.settings import MailerSettings
from mailer.store import keys
from mailer.store import relays as relay_store
from mailer.store.connection import RedisClient, connect
from mailer.store.relays import RelayStore
from tests.conftest import served
from tests.integration.test_api import assert_problem
from tests.support.keyspace import leaks
from tests.support.waiting import until
from worker.relays import board as boards
from worker.relays.board import Board, TooBusy
from worker.relays.breaker import MINUTE, Barred, Probe, Usable
from worker.relays.effects import Effect, Pace
from worker.relays.relay import Relay, describe

ACME = Relay("acme", "smtp.acme.example", 587, "none", None, None, connections=4, rate=20.0)
OTHER = Relay("other:25", "other.example", 25, "none", None, None, senders=("acme.example",))
REFUSED = Trouble(0, "turned_away_at_the_door", Phase.BANNER, Reply(554, "Go away"))
NOBODY = "redis://127.0.0.1:1/0"
NO_LINE = Trouble(0, "no_connection", Phase.CONNECT, Reply(None, "Connection refused"))


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "LOOK_EVERY_S", 0.02)  # 1 s, shortened


@pytest.fixture
def relays(redis: RedisClient) -> RelayStore:
    return RelayStore(redis)


NewBoard = Callable[..., Awaitable[Board]]


@pytest.fixture
async def new_board(queue_url: str, redis: RedisClient) -> AsyncIterator[NewBoard]:
    """Each as in a worker process of its own: with a connection of its own, at work."""
    others = asyncio.all_tasks()
    at_work: list[asyncio.Task[None]] = []
    async with contextlib.AsyncExitStack() as stack:

        async def make(owner: str, *relays: Relay, url: str = queue_url) -> Board:
            client = await stack.enter_async_context(connect(parse_queue_url(url)))
            board = Board(RelayStore(client), relays or (ACME, OTHER), owner)
            at_work.append(asyncio.create_task(board.run()))
            return board

        yield make
        for task in at_work:
            assert not task.done()
            task.cancel()
        while calls := asyncio.all_tasks() - others - {asyncio.current_task()}:
            await asyncio.wait(calls)  # a client that is closed in the middle of one leaves its socket open


async def seen(look: Callable[[], bool], what: str) -> None:
    async def looked() -> bool:
        return look()

    await until(looked, what=what)


async def opens(board: Board, name: str = "acme") -> None:
    await board.faulted(name, Effect.OPEN, Pace.KEEP, REFUSED)


async def half_opens(relays: RelayStore, name: str = "acme") -> None:
    """As if its time were over."""
    await relays.change(name, lambda state, now: replace(state, open_until=now - 1))


async def scripts_run(redis: RedisClient) -> int:
    stats = await redis.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))


class TestBoards:
    async def test_before_anything_is_known_every_relay_is_usable(self, new_board: NewBoard) -> None:
        board = await new_board("a")
        assert (board.standing("acme"), board.pace("acme")) == (Usable(), 1.0)

    async def test_what_one_worker_met_with_all_know_within_a_second(self, new_board: NewBoard) -> None:
        a, b = await new_board("a"), await new_board("b")
        await opens(a)
        assert isinstance(a.standing("acme"), Barred), "at once"
        await seen(lambda: isinstance(b.standing("acme"), Barred), "the breaker of the other worker")
        assert (a.standing("other:25"), b.standing("other:25")) == (Usable(), Usable())

    async def test_failures_of_all_workers_count_together(self, new_board: NewBoard) -> None:
        a, b = await new_board("a"), await new_board("b")
        for board in (a, b, a):
            assert a.standing("acme") == Usable()
            await board.faulted("acme", Effect.COUNT, Pace.KEEP, NO_LINE)
        assert isinstance(a.standing("acme"), Barred)

    async def test_mails_between_failures_keep_it_closed(self, new_board: NewBoard) -> None:
        board = await new_board("a")
        for _ in range(10):
            await board.faulted("acme", Effect.COUNT, Pace.KEEP, NO_LINE)
            board.succeeded("acme")
        assert board.standing("acme") == Usable()

    async def test_one_mail_of_one_worker_finds_out(self, new_board: NewBoard, relays: RelayStore) -> None:
        a, b = await new_board("a"), await new_board("b")
        await opens(a)
        assert not await a.may_probe("acme"), "its time is not over"
        await half_opens(relays)
        await seen(lambda: a.standing("acme") == b.standing("acme") == Probe(), "half open")
        answers = await asyncio.gather(*(board.may_probe("acme") for board in (a, b, a, b, a, b)))
        assert sum(answers) == 1
        assert isinstance(a.standing("acme"), Barred)
        assert isinstance(b.standing("acme"), Barred)

    async def test_its_success_opens_the_way_for_all(self, new_board: NewBoard, relays: RelayStore) -> None:
        a, b = await new_board("a"), await new_board("b")
        await opens(a)
        await half_opens(relays)
        await seen(lambda: b.standing("acme") == Probe(), "half open")
        assert await b.may_probe("acme")
        b.succeeded("acme")
        await seen(lambda: a.standing("acme") == b.standing("acme") == Usable(), "closed")
        assert await a.may_probe("acme"), "no probe is needed any more"

    async def test_its_failure_keeps_them_all_out_for_longer(self, new_board: NewBoard, relays: RelayStore) -> None:
        a, b = await new_board("a"), await new_board("b")
        await opens(a)
        await half_opens(relays)
        await seen(lambda: b.standing("acme") == Probe(), "half open")
        assert await b.may_probe("acme")
        await opens(a)
        states, _ = await relays.states(["acme"])
        assert states["acme"].openings == 1, "a mail that was under way says nothing new"
        await opens(b)
        states, now = await relays.states(["acme"])
        assert states["acme"].openings == 2
        assert 59_000 < (states["acme"].open_until or 0) - now <= 60_000

    async def test_a_relay_that_says_slower_is_used_more_slowly_by_all(self, new_board: NewBoard) -> None:
        a, b = await new_board("a"), await new_board("b")
        throttled = Trouble(0, "throttled", Phase.MAIL, Reply(451, "Too fast"))
        await asyncio.gather(*(a.faulted("acme", Effect.NONE, Pace.HALVE, throttled) for _ in range(20)))
        await seen(lambda: b.pace("acme") == 0.5, "half the pace")
        assert a.standing("acme") == Usable()

    async def test_the_pace_grows_back_with_mails(self, new_board: NewBoard, relays: RelayStore) -> None:
        board = await new_board("a")
        await relays.change("acme", lambda state, now: replace(state, pace=0.25, paced_at=now - MINUTE))
        await seen(lambda: board.pace("acme") == 0.25, "a quarter")
        board.succeeded("acme")
        await seen(lambda: board.pace("acme") == 0.5, "half the pace")

    async def test_a_new_password_is_tried_at_once(self, new_board: NewBoard) -> None:
        old = replace(ACME, tls="starttls", username="acme", password="old")
        a, b = await new_board("a", old), await new_board("b", replace(old, password="new"))
        refused = Trouble(0, "credentials_refused", Phase.AUTH, Reply(535, "No"))
        await a.faulted("acme", Effect.CREDENTIALS, Pace.KEEP, refused)
        assert isinstance(a.standing("acme"), Barred)
        await seen(lambda: b.standing("acme") == Probe(), "a probe for the one with another password")

    async def test_a_mail_to_a_relay_that_is_well_costs_no_call(
        self, new_board: NewBoard, redis: RedisClient, relays: RelayStore
    ) -> None:
        board = await new_board("a")
        await seen(lambda: bool(board._states), "the first look")
        await until(lambda: redis.exists(keys.RELAYS), what="its descriptions")
        before = await scripts_run(redis)
        for _ in range(1000):
            board.succeeded("acme")
        await seen(lambda: not board._mails, "a turn")
        assert await scripts_run(redis) == before
        assert await redis.exists(keys.relay("acme")) == 0

    async def test_opening_and_closing_are_in_the_log(self, new_board: NewBoard, relays: RelayStore) -> None:
        with structlog.testing.capture_logs() as logs:
            board = await new_board("a")
            await opens(board)
            board.succeeded("acme")
            await seen(lambda: board.standing("acme") == Usable(), "closed")
        assert [(line["event"], line["relay"]) for line in logs] == [("relay.opened", "acme"), ("relay.closed", "acme")]

    async def test_while_the_queue_server_is_away_mail_meets_no_exception(self, new_board: NewBoard) -> None:
        with structlog.testing.capture_logs() as logs:
            board = await new_board("a", url=NOBODY)
            await opens(board)
            board.succeeded("acme")
            assert (board.standing("acme"), board.pace("acme")) == (Usable(), 1.0)
            assert not await board.may_probe("acme")
            with pytest.raises(QueueUnavailable):
                await board.slot(ACME, 1.0)
            assert await board.slot(OTHER, 1.0) == 0.0, "without a rate nobody is asked"
        assert [line["event"] for line in logs] == ["relay.fault_not_told"]


class TestChanges:
    async def test_of_fifty_at_once_none_is_lost(self, queue_url: str, redis: RedisClient) -> None:
        def one_more(state: RelayState, _: int) -> RelayState:
            return replace(state, failures=state.failures + 1)

        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(parse_queue_url(queue_url))) for _ in range(25)]
            stores = [RelayStore(client) for client in clients]
            await asyncio.gather(*(store.change("acme", one_more) for store in stores * 2))
        states, _ = await RelayStore(redis).states(["acme", "other:25"])
        assert (states["acme"].failures, states["other:25"]) == (50, RelayState())

    async def test_one_that_changes_nothing_writes_nothing(self, relays: RelayStore, redis: RedisClient) -> None:
        assert await relays.change("acme", lambda state, _: state) == RelayState()
        assert await redis.exists(keys.relay("acme")) == 0

    async def test_a_repeated_call_counts_once(self, relays: RelayStore, redis: RedisClient) -> None:
        """Its reply was lost on the way."""
        await relays.change("acme", lambda state, _: replace(state, failures=1))
        written = await redis.get(keys.relay("acme"))
        is_changed, state, _ = await relays._swap([keys.relay("acme")], [b"", written, 1000])
        assert (is_changed, state) == (1, written)
        other = written.replace(b'"failures":1', b'"failures":2')
        assert (await relays._swap([keys.relay("acme")], [b"", other, 1000]))[0] == 0

    async def test_nothing_stays_for_ever_but_a_pause(
        self, new_board: NewBoard, relays: RelayStore, redis: RedisClient
    ) -> None:
        board = await new_board("a")
        await opens(board)
        await board.slot(ACME, 1.0)
        await until(lambda: redis.exists(keys.RELAYS), what="its descriptions")
        assert set(await redis.keys("postroom:*")) == {
            key.encode() for key in (keys.RELAYS, keys.relay("acme"), keys.slot("acme"))
        }
        assert await leaks(redis) == []
        await relays.change("acme", lambda state, now: replace(state, paused_at=now))
        assert await redis.pttl(keys.relay("acme")) == -1
        await relays.change("acme", lambda state, _: replace(state, paused_at=None))
        assert await redis.pttl(keys.relay("acme")) > 0

    async def test_a_relay_that_no_worker_has_told_of_for_long_is_forgotten(
        self, relays: RelayStore, redis: RedisClient
    ) -> None:
        gone, here = describe(OTHER, 1), describe(ACME, 0)
        await relays.tell([gone])
        ((member, at),) = await redis.zrange(keys.RELAYS, 0, -1, withscores=True)
        await redis.zadd(keys.RELAYS, {member: at - relay_store.KEPT_MS - 1})
        await relays.tell([here])
        known, _ = await relays.overview()
        assert [relay.description for relay in known] == [here]

    async def test_of_two_descriptions_the_newer_one_counts(self, relays: RelayStore, redis: RedisClient) -> None:
        await relays.tell([describe(replace(ACME, connections=7), 0)])
        ((member, at),) = await redis.zrange(keys.RELAYS, 0, -1, withscores=True)
        await redis.zadd(keys.RELAYS, {member: at - 1000})
        await relays.tell([describe(OTHER, 0), describe(ACME, 1)])
        known, now = await relays.overview()
        assert [relay.description for relay in known] == [describe(OTHER, 0), describe(ACME, 1)]
        assert all(0 <= now - relay.told_at < 60_000 for relay in known)


class TestSlots:
    async def test_four_workers_together_never_send_more_than_the_rate_in_any_two_seconds(
        self, queue_url: str, redis: RedisClient
    ) -> None:
        """As far as each mail is less than 100 ms late."""
        interval_us = spacing_us(20)
        chance = random.Random(20)
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(parse_queue_url(queue_url))) for _ in range(4)]
            wishes = [store.slot("acme", interval_us, 60_000) for store in map(RelayStore, clients) for _ in range(75)]
            verdicts = await asyncio.gather(*wishes)
        assert all(verdict.is_reserved for verdict in verdicts)
        slots = sorted(verdict.at for verdict in verdicts)
        assert all(later - at >= interval_us for at, later in itertools.pairwise(slots))
        arrivals = sorted(at + chance.randrange(99_000) for at in slots)
        windows = [sum(start <= at < start + 2_000_000 for at in arrivals) for start in arrivals]
        assert 35 < max(windows) <= 40

    async def test_mails_that_ask_at_once_share_a_call(self, relays: RelayStore, redis: RedisClient) -> None:
        await relays.slot("acme", 1000, 1000)
        before = await scripts_run(redis)
        await asyncio.gather(*(relays.slot("acme", 1000, 1000) for _ in range(50)))
        assert await scripts_run(redis) - before == 1

    async def test_beyond_its_patience_nothing_is_reserved_and_more_patience_gets_the_slot(
        self, relays: RelayStore
    ) -> None:
        minute_us = 60_000_000
        first = await relays.slot("acme", minute_us // 4, 0)
        impatient = await relays.slot("acme", minute_us // 4, 5000)
        patient = await relays.slot("acme", minute_us // 4, 20_000)
        assert (first.is_reserved, first.wait_us) == (True, 0)
        assert (impatient.is_reserved, patient.is_reserved) == (False, True)
        assert impatient.at == patient.at == first.at + minute_us // 4
        assert 5_000_000 < impatient.wait_us <= minute_us // 4

    async def test_relays_do_not_wait_for_each_other(self, relays: RelayStore) -> None:
        await relays.slot("acme", 10**7, 0)
        assert (await relays.slot("other:25", 10**7, 0)).is_reserved

    async def test_a_clock_that_was_set_back_stops_no_mail(self, relays: RelayStore, redis: RedisClient) -> None:
        seconds, _ = await redis.time()
        await redis.set(keys.slot("acme"), (seconds + 3600) * 1_000_000, ex=60)
        assert (await relays.slot("acme", spacing_us(20), 0)).wait_us == 0

    async def test_a_server_that_came_back_with_older_data_gives_no_slot_twice(
        self, queue_url: str, redis: RedisClient
    ) -> None:
        """What any worker has reserved is kept clear of, though only that one knows."""
        interval_us = spacing_us(20)
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(parse_queue_url(queue_url))) for _ in range(4)]
            stores = [RelayStore(client) for client in clients]
            verdicts = [await store.slot("acme", interval_us, 5000) for store in stores * 20]
            await redis.delete(keys.slot("acme"))
            verdicts += [await store.slot("acme", interval_us, 10_000) for store in stores * 10]
        assert all(verdict.is_reserved for verdict in verdicts)
        assert all(
            later - at >= interval_us for at, later in itertools.pairwise(sorted(verdict.at for verdict in verdicts))
        )

    async def test_a_board_says_how_long_to_wait(self, new_board: NewBoard, relays: RelayStore) -> None:
        board = await new_board("a")
        slow = replace(ACME, rate=0.1)
        assert await board.slot(slow, 1.0) == 0.0
        busy = await board.slot(slow, 1.0)
        assert isinstance(busy, TooBusy)
        assert 1 < busy.wait_s <= 10.5
        waits = await board.slot(slow, 20.0)
        assert isinstance(waits, float)
        assert 1 < waits <= 10.5

    async def test_at_half_the_pace_slots_are_twice_as_far_apart(self, new_board: NewBoard, relays: RelayStore) -> None:
        board = await new_board("a")
        await relays.change("acme", lambda state, now: replace(state, pace=0.5, paced_at=now))
        await seen(lambda: board.pace("acme") == 0.5, "half the pace")
        slow = replace(ACME, rate=0.1)
        await board.slot(slow, 0.0)
        wait_s = await board.slot(slow, 60.0)
        assert isinstance(wait_s, float)
        assert 15 < wait_s <= 21


@pytest.fixture
async def told(relays: RelayStore) -> list[RelayDescription]:
    descriptions = [describe(ACME, 0), describe(OTHER, 1)]
    await relays.tell(descriptions)
    return descriptions


class TestApi:
    async def test_relays_are_listed_in_order_as_workers_are_set_up_with_them(
        self, api: httpx.AsyncClient, told: list[RelayDescription]
    ) -> None:
        acme, other = (await api.get("/relays")).json()["data"]
        assert (other["name"], other["order"], other["senders"], other["rate"]) == (
            "other:25",
            1,
            ["acme.example"],
            None,
        )
        assert acme.pop("seen_at").endswith("Z")
        assert acme == {
            "name": "acme",
            "order": 0,
            "host": "smtp.acme.example",
            "port": 587,
            "tls": "none",
            "connections": 4,
            "rate": 20.0,
            "senders": [],
            "breaker": {"state": "closed", "opened_by": None, "opened_at": None, "open_until": None, "failures": 0},
            "paused_at": None,
            "pace": 1.0,
            "trouble": None,
        }

    async def test_without_a_worker_there_are_none(self, api: httpx.AsyncClient) -> None:
        assert (await api.get("/relays")).json() == {"data": []}

    async def test_the_breakers_life_can_be_read(
        self,
        api: httpx.AsyncClient,
        told: list[RelayDescription],
        new_board: NewBoard,
        relays: RelayStore,
    ) -> None:
        async def acme() -> dict[str, dict[str, object]]:
            found: dict[str, dict[str, object]] = (await api.get("/relays")).json()["data"][0]
            return found

        board = await new_board("a")
        await opens(board)
        shown = await acme()
        assert (shown["breaker"]["state"], shown["breaker"]["opened_by"]) == ("open", OpenedBy.REFUSED)
        assert shown["trouble"].pop("at") == shown["breaker"]["opened_at"]
        assert shown["trouble"] == {
            "row": "turned_away_at_the_door",
            "phase": "banner",
            "code": 554,
            "enhanced": None,
            "text": "Go away",
        }
        await half_opens(relays)
        assert (await acme())["breaker"]["state"] == "half_open"
        await seen(lambda: board.standing("acme") == Probe(), "half open")
        assert await board.may_probe("acme")
        board.succeeded("acme")
        await seen(lambda: board.standing("acme") == Usable(), "closed")
        shown = await acme()
        assert shown["breaker"]["state"] == "closed"
        assert shown["trouble"] is not None, "what went wrong last stays to be read"

    async def test_a_relay_is_paused_and_resumed_for_every_worker(
        self, api: httpx.AsyncClient, told: list[RelayDescription], new_board: NewBoard
    ) -> None:
        board = await new_board("a")
        paused = (await api.post("/relays/acme/pause")).json()
        assert paused["paused_at"].endswith("Z")
        await seen(lambda: board.standing("acme") == Barred("paused", None), "the pause")
        assert board.standing("other:25") == Usable()
        assert (await api.post("/relays/acme/pause")).json()["paused_at"] == paused["paused_at"], "again is the same"
        resumed = await api.post("/relays/acme/resume")
        assert (resumed.status_code, resumed.json()["paused_at"]) == (200, None)
        await seen(lambda: board.standing("acme") == Usable(), "the end of the pause")
        assert (await api.post("/relays/acme/resume")).json()["paused_at"] is None

    async def test_a_breaker_outlasts_a_pause(
        self, api: httpx.AsyncClient, told: list[RelayDescription], new_board: NewBoard
    ) -> None:
        board = await new_board("a")
        await opens(board)
        assert (await api.post("/relays/acme/pause")).json()["breaker"]["state"] == "open"
        await seen(lambda: board.standing("acme") == Barred("paused", None), "the pause")
        assert (await api.post("/relays/acme/resume")).json()["breaker"]["state"] == "open"
        await seen(lambda: board.standing("acme") != Barred("paused", None), "the end of the pause")
        assert isinstance(board.standing("acme"), Barred)

    @pytest.mark.parametrize("verb", ["pause", "resume"])
    async def test_an_unknown_relay_is_told_with_those_that_are_known(
        self, api: httpx.AsyncClient, told: list[RelayDescription], verb: str
    ) -> None:
        answer = await api.post(f"/relays/acne/{verb}")
        assert "acme, other:25" in assert_problem(answer, 404, "not_found")["detail"]
        assert "worker" in assert_problem(await api.post(f"/relays/{'x' * 200}/{verb}"), 404, "not_found")["detail"]

    async def test_relays_are_shown_to_those_with_a_key(
        self, redis: RedisClient, mailer_settings: MailerSettings
    ) -> None:
        async with served(mailer_settings, api_keys="acme:0123456789abcdef") as api:
            assert_problem(await api.get("/relays"), 401, "missing_key")
            assert_problem(await api.post("/relays/acme/pause"), 401, "missing_key")
            headers = {"Authorization": "Bearer 0123456789abcdef"}
            assert (await api.get("/relays", headers=headers)).status_code == 200

    async def test_while_the_queue_server_is_away_it_says_so(self, mailer_settings: MailerSettings) -> None:
        away = mailer_settings.model_copy(update={"redis_url": SecretStr(NOBODY)})
        async with served(away, auth="off") as api:
            assert_problem(await api.get("/relays"), 503, "queue_unavailable")
            assert_problem(await api.post("/relays/acme/pause"), 503, "queue_unavailable")


async def test_a_fault_at_one_relay_while_the_mails_of_another_are_told_harms_nobody(relays: RelayStore) -> None:
    board = Board(relays, (ACME, OTHER), "anna")
    for name in (ACME.name, OTHER.name):
        await board.faulted(name, Effect.COUNT, Pace.KEEP, NO_LINE)
        board.succeeded(name)
    telling = asyncio.create_task(board._turn())
    await asyncio.sleep(0)  # the first relay's are on their way
    await board.faulted(OTHER.name, Effect.COUNT, Pace.KEEP, NO_LINE)
    await telling
    states, _ = await relays.states([ACME.name, OTHER.name])
    assert (states[ACME.name].failures, states[OTHER.name].failures) == (0, 1)
