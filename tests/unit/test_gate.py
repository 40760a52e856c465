"""Who gets a relay's connections, and when: critical mail first, others in their order, never more than there are."""

import asyncio
import contextlib
import gc
import itertools
import math
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from worker.relays.gate import KEPT_FOR_CRITICAL, OTHERS_PART, Busy, Gate

PATIENT_S = 30.0
AT_ONCE_S = 0.0


@contextlib.asynccontextmanager
async def passed(gate: Gate, *, critical: bool, within_s: float) -> AsyncIterator[None]:
    await gate.enter(critical=critical, within_s=within_s)
    try:
        yield
    finally:
        gate.leave(critical=critical)


@dataclass
class Mail:
    """One that passes, and stays inside until it is told to leave."""

    name: str
    critical: bool
    entered: list[str]
    within_s: float = PATIENT_S
    may_leave: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] = field(init=False)

    def come(self, gate: Gate) -> "Mail":
        self.task = asyncio.create_task(self._pass(gate))
        return self

    async def _pass(self, gate: Gate) -> None:
        async with passed(gate, critical=self.critical, within_s=self.within_s):
            self.entered.append(self.name)
            await self.may_leave.wait()

    async def leave(self) -> None:
        self.may_leave.set()
        await self.task


class Door:
    """A gate with those who came to it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.gate = Gate(lambda: self.limit)
        self.entered: list[str] = []
        self.mails: dict[str, Mail] = {}

    async def come(self, *names: str, critical: bool = False, within_s: float = PATIENT_S) -> None:
        for name in names:
            self.mails[name] = Mail(name, critical, self.entered, within_s).come(self.gate)
        await turns()

    async def leave(self, *names: str) -> None:
        for name in names:
            await self.mails.pop(name).leave()
        await turns()

    async def give_up(self, name: str) -> None:
        task = self.mails.pop(name).task
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await turns()

    async def empty(self) -> None:
        """As many as there are may pass again, whatever happened before."""
        while self.mails:
            inside = [name for name in self.mails if name in self.entered]
            await self.leave(*inside)
        self.limit, self.entered[:] = 10, []
        await self.come(*map(str, range(11)))
        await self.come(*(f"critical {each}" for each in range(11)), critical=True)
        assert len(self.entered) == 10
        for mail in self.mails.values():
            mail.task.cancel()
        await asyncio.gather(*(mail.task for mail in self.mails.values()), return_exceptions=True)
        self.mails.clear()


async def turns() -> None:
    """All that can happen without waiting has happened."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def door() -> AsyncIterator[Callable[[int], Door]]:
    doors: list[Door] = []

    def make(limit: int) -> Door:
        doors.append(Door(limit))
        return doors[-1]

    yield make
    for each in doors:
        await each.empty()


MakeDoor = Callable[[int], Door]


class TestShares:
    @pytest.mark.parametrize(
        ("connections", "others"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (10, 7), (30, 21), (100, 70)]
    )
    async def test_three_of_ten_connections_are_kept_for_critical_mail(
        self, door: MakeDoor, connections: int, others: int
    ):
        """One by itself is everybody's."""
        at = door(connections)
        await at.come(*(f"other {each}" for each in range(connections + 2)))
        assert len(at.entered) == others
        await at.come(*(f"critical {each}" for each in range(connections + 2)), critical=True)
        assert len(at.entered) == connections

    @pytest.mark.parametrize("connections", [1, 2, 3, 10, 30])
    async def test_critical_mail_may_have_all_of_them(self, door: MakeDoor, connections: int):
        at = door(connections)
        await at.come(*map(str, range(connections + 1)), critical=True)
        assert len(at.entered) == connections

    @pytest.mark.parametrize("limit", [0, -1])
    async def test_there_is_always_one(self, door: MakeDoor, limit: int):
        """However slow a relay is to be used."""
        at = door(limit)
        await at.come("first", "second")
        assert at.entered == ["first"]
        await at.leave("first")
        assert at.entered == ["first", "second"]


class TestOrder:
    @pytest.mark.parametrize("critical", [True, False])
    async def test_who_comes_first_enters_first(self, door: MakeDoor, critical: bool):
        at = door(1)
        names = [str(each) for each in range(20)]
        await at.come(*names, critical=critical)
        await at.leave(*names)
        assert at.entered == names

    async def test_critical_mail_goes_before_others_who_wait(self, door: MakeDoor):
        at = door(1)
        await at.come("inside", "other", "another")
        await at.come("urgent", "more urgent", critical=True)
        await at.leave("inside", "urgent", "more urgent", "other", "another")
        assert at.entered == ["inside", "urgent", "more urgent", "other", "another"]

    async def test_beside_critical_mail_without_end_others_have_their_part(self, door: MakeDoor):
        at = door(1)
        await at.come("inside")
        await at.come(*(f"other {each}" for each in range(50)))
        await at.come(*(f"critical {each}" for each in range(100)), critical=True)
        for turn in range(100):
            await at.leave(at.entered[turn])
        others = [name for name in at.entered[1:101] if name.startswith("other")]
        assert len(others) == pytest.approx(100 * OTHERS_PART, abs=1)
        assert at.entered[1:3] == ["critical 0", "critical 1"]

    async def test_who_comes_just_when_one_leaves_does_not_pass_those_who_wait(self, door: MakeDoor):
        at = door(1)
        await at.come("inside", "waits")
        at.mails["inside"].may_leave.set()
        await at.come("late")
        assert at.entered == ["inside", "waits"]

    async def test_critical_mail_is_not_behind_others_who_have_used_up_their_share(self, door: MakeDoor):
        at = door(10)
        await at.come(*(f"other {each}" for each in range(20)))
        await at.come("critical", critical=True)
        assert at.entered[-1] == "critical"


class TestGivingUp:
    @pytest.mark.parametrize("critical", [True, False])
    async def test_who_waited_long_enough_hears_that_it_is_busy(self, door: MakeDoor, critical: bool):
        at = door(1)
        await at.come("inside")
        with pytest.raises(Busy) as told:
            async with passed(at.gate, critical=critical, within_s=0.01):
                pytest.fail("there is no room")
        assert (told.value.wait_s, told.value.elsewhere) == (0.01, False)

    async def test_without_patience_it_still_enters_where_there_is_room(self, door: MakeDoor):
        at = door(1)
        async with passed(at.gate, critical=False, within_s=AT_ONCE_S):
            pass

    @pytest.mark.parametrize("critical", [True, False])
    async def test_who_is_stopped_while_it_waits_takes_no_place(self, door: MakeDoor, critical: bool):
        at = door(1)
        await at.come("inside")
        await at.come("stopped", "next", critical=critical)
        await at.give_up("stopped")
        await at.leave("inside")
        assert at.entered == ["inside", "next"]

    @pytest.mark.parametrize("critical", [True, False])
    async def test_who_is_stopped_in_the_moment_it_is_let_in_gives_its_place_to_the_next(
        self, door: MakeDoor, critical: bool
    ):
        at = door(1)
        await at.come("inside")
        await at.come("stopped", "next", critical=critical)
        at.mails.pop("stopped").task.cancel()
        await at.leave("inside")
        assert at.entered == ["inside", "next"]

    async def test_who_is_let_in_and_then_stopped_before_it_knows_gives_its_place_to_the_next(self, door: MakeDoor):
        at = door(1)
        stopped = Mail("stopped", False, at.entered)
        async with passed(at.gate, critical=False, within_s=AT_ONCE_S):
            stopped.come(at.gate)
            await at.come("next")
        stopped.task.cancel()
        await turns()
        assert stopped.task.cancelled()
        assert at.entered == ["next"]

    async def test_who_runs_out_of_time_in_the_moment_it_is_let_in_gives_its_place_to_the_next(self, door: MakeDoor):
        """Each of many may enter or be busy; none of them keeps a place."""
        at = door(1)
        for _ in range(200):
            await at.come("inside")
            hasty = Mail("hasty", False, at.entered, within_s=0.001).come(at.gate)
            hasty.may_leave.set()
            await asyncio.sleep(0.0009)
            await at.leave("inside")
            with contextlib.suppress(Busy):
                await hasty.task

    async def test_one_that_gives_up_holds_nobody_up(self, door: MakeDoor):
        at = door(10)
        await at.come(*map(str, range(7)))
        await at.come("waits")
        await at.come("gives up", critical=False)
        await at.give_up("gives up")
        await at.come("critical", critical=True)
        await at.leave("0")
        assert at.entered[-2:] == ["critical", "waits"]

    async def test_trouble_inside_frees_the_place(self, door: MakeDoor):
        at = door(1)
        for _ in range(3):
            with pytest.raises(ValueError, match="trouble"):
                async with passed(at.gate, critical=False, within_s=AT_ONCE_S):
                    raise ValueError("trouble")


class TestALimitThatChanges:
    async def test_when_it_shrinks_nobody_enters_until_enough_have_left(self, door: MakeDoor):
        at = door(4)
        await at.come("a", "b", "c", "d", critical=True)
        at.limit = 2
        await at.come("e", critical=True)
        await at.leave("a", "b")
        assert at.entered == ["a", "b", "c", "d"]
        await at.leave("c")
        assert at.entered[-1] == "e"

    async def test_when_it_grows_all_who_fit_enter_with_the_next_who_comes_or_leaves(self, door: MakeDoor):
        at = door(1)
        await at.come("a", "b", "c", "d", critical=True)
        at.limit = 3
        await at.leave("a")
        assert at.entered == ["a", "b", "c", "d"]
        at.limit = 1
        await at.come("e", critical=True)
        assert "e" not in at.entered
        at.limit = 5
        await at.come("f", critical=True)
        assert set(at.entered[-2:]) == {"e", "f"}


class Gates(RuleBasedStateMachine):
    """Any sequence of coming, leaving, giving up and changing limits, beside a model of what the gate promises."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.limit = 1
        self.gate = Gate(lambda: self.limit)
        self.entered: list[str] = []
        self.known = 0
        self.names = itertools.count()
        self.mails: dict[str, Mail] = {}

    def teardown(self) -> None:
        async def stop() -> None:
            for mail in self.mails.values():
                mail.task.cancel()
            await asyncio.gather(*(mail.task for mail in self.mails.values()), return_exceptions=True)

        self.runner.run(stop())
        self.runner.close()

    def then(self, step: Coroutine[None, None, None]) -> None:
        """What has entered by then is checked one by one."""

        async def taken() -> None:
            await step
            await turns()

        before = self.inside()
        waiting = {critical: self.waiting(critical) for critical in (True, False)}
        self.runner.run(taken())
        new, self.known = self.entered[self.known :], len(self.entered)
        came = [name for name in self.mails if name not in before]
        for critical in (True, False):
            order = [*waiting[critical], *(n for n in came if self.mails[n].critical is critical)]
            order = list(dict.fromkeys(name for name in order if name in self.mails))
            let_in = {name for name in new if self.mails[name].critical is critical}
            assert let_in == set(order[: len(let_in)]), "in the order in which they came"

    def inside(self) -> list[str]:
        return [name for name in self.entered if name in self.mails]

    def waiting(self, critical: bool) -> list[str]:
        return [n for n, mail in self.mails.items() if mail.critical is critical and n not in self.entered]

    @rule(critical=st.booleans())
    def come(self, critical: bool) -> None:
        async def come() -> None:
            name = str(next(self.names))
            self.mails[name] = Mail(name, critical, self.entered).come(self.gate)

        self.then(come())

    @precondition(lambda self: self.inside())
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.inside()))
        self.then(self.mails.pop(name).leave())

    @precondition(lambda self: self.mails)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(list(self.mails)))

        async def stop() -> None:
            mail = self.mails.pop(name)
            mail.task.cancel()
            await asyncio.gather(mail.task, return_exceptions=True)

        self.then(stop())

    @rule(limit=st.integers(0, 12))
    def change(self, limit: int) -> None:
        """What it means shows with the next who comes or leaves."""
        self.limit = limit
        self.then(asyncio.sleep(0))
        self.come(critical=True)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        limit = max(1, self.limit)
        inside = self.inside()
        others = [name for name in inside if not self.mails[name].critical]
        share = max(1, limit - math.ceil(limit * KEPT_FOR_CRITICAL))
        is_full = len(inside) >= limit
        assert is_full or not self.waiting(critical=True)
        assert is_full or len(others) >= share or not self.waiting(critical=False)
        assert self.gate._inside == {True: len(inside) - len(others), False: len(others)}


Gates.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestAnySequence = Gates.TestCase


class Content:
    """Of a mail: large."""


async def test_nothing_is_kept_of_mail_that_was_turned_away_while_the_relay_is_full() -> None:
    gate, kept = Gate(lambda: 1), list[weakref.ref[Content]]()

    async def come() -> None:
        content = Content()
        kept.append(weakref.ref(content))
        with contextlib.suppress(Busy):
            await gate.enter(critical=False, within_s=0.001)
        del content

    await gate.enter(critical=False, within_s=PATIENT_S)
    gc.disable()  # what only the garbage collector finds is kept for long
    try:
        await asyncio.gather(*(come() for _ in range(20)))
        assert [one for one in kept if one() is not None] == []
        assert not any(gate._waiting.values())
    finally:
        gc.enable()
