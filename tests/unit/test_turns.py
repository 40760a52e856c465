"""Long work leaves others their turns, however much of it there is at once."""

import asyncio
import itertools

import pytest

from mailer.turns import Steps, Turns, at_once


def work(name: str, steps: int, done: list[str]) -> Steps[str]:
    for _ in range(steps):
        done.append(name)
        yield
    return name.upper()


def test_in_a_thread_of_its_own_it_is_done_in_one_go():
    done: list[str] = []
    assert at_once(work("a", 3, done)) == "A"
    assert done == ["a", "a", "a"]


async def test_no_two_steps_are_in_one_round_of_the_loop():
    done: list[str] = []

    async def others() -> None:
        while True:
            done.append("-")
            await asyncio.sleep(0)

    turns, meanwhile = Turns(), asyncio.create_task(others())
    assert await asyncio.gather(*(turns.take(work(name, 4, done)) for name in "abc")) == ["A", "B", "C"]
    meanwhile.cancel()
    assert sorted(name for name in done if name != "-") == [*"aaaabbbbcccc"]
    assert not any(one != "-" and two != "-" for one, two in itertools.pairwise(done))


async def test_each_has_its_turn():
    done: list[str] = []
    turns = Turns()
    await asyncio.gather(*(turns.take(work(name, 3, done)) for name in "abc"))
    assert [done.index(name) for name in "abc"] == [0, 1, 2], "nobody waits for the end of another"


async def test_what_is_short_does_not_wait_for_the_loop():
    taken = Turns().take(work("a", 0, []))
    with pytest.raises(StopIteration) as ended:
        taken.send(None)
    assert ended.value.value == "A"


async def test_one_that_fails_or_is_given_up_stops_nobody():
    def fails() -> Steps[None]:
        yield
        raise ValueError("no")

    turns = Turns()
    given_up = asyncio.create_task(turns.take(work("a", 10**6, [])))
    failed = asyncio.create_task(turns.take(fails()))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(ValueError, match="no"):
        await failed
    assert await turns.take(work("b", 2, [])) == "B"
    assert given_up.cancelled()
