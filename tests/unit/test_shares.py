"""What a worker's slots are for: codes have room beside any number of digests, and digests their part beside codes."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer import queue
from mailer.jobs import Stream
from mailer.store.runs import Claim, Claimed, Held, Quota
from worker.shares import Shares

C, N, B = Stream.CRITICAL, Stream.NORMAL, Stream.BULK


def claimed(stream: Stream) -> Claimed:
    return Claimed("id", queue.QUEUES[stream], "run", None, {}, None, None, 0)


def running(**streams: int) -> list[Held]:
    return [Held("id", queue.QUEUES[Stream(name)], "run") for name, count in streams.items() for _ in range(count)]


def take(quota: Quota, wanted: int, due: dict[Stream, int]) -> list[Stream]:
    """As claim.lua does it: in the order of the streams, but for what the lower ones are to have at least."""
    taken: list[Stream] = []
    lower_left = quota.lower_most
    for at, stream in enumerate(Stream):
        lower = list(Stream)[at + 1 :]
        kept = min(sum(min(quota.least.get(other, 0), due[other]) for other in lower), lower_left)
        room = wanted - len(taken)
        if stream is not C:
            room = min(room, lower_left)
        number = max(0, min(room - kept, due[stream]))
        taken += [stream] * number
        if stream is not C:
            lower_left -= number
        due[stream] -= number
    return taken


def one_after_the_other(shares: Shares, claims: int, wanted: int, due: dict[Stream, int]) -> Counter[Stream]:
    """What so many claims take, each of which ends before the next."""
    found: Counter[Stream] = Counter()
    for _ in range(claims):
        quota = shares.quota(wanted, [])
        taken = take(quota, wanted, due)
        shares.heard(quota, Claim(tuple(claimed(stream) for stream in taken), 0, None, False, False, ()))
        found.update(taken)
    return found


@pytest.mark.parametrize("wanted", [1, 2, 3, 7, 10, 33, 100])
def test_beside_an_endless_stream_of_codes_receipts_and_digests_have_their_part(wanted: int) -> None:
    endless = dict.fromkeys(Stream, 10**9)
    found = one_after_the_other(Shares(100), 1000, wanted, endless)
    total = found.total()
    assert total == 1000 * wanted
    assert found[N] == pytest.approx(0.2 * total, abs=wanted + 2)
    assert found[B] == pytest.approx(0.1 * total, abs=wanted + 2)


@pytest.mark.parametrize("wanted", [1, 3, 10])
def test_a_part_that_is_not_needed_is_for_the_others(wanted: int) -> None:
    found = one_after_the_other(Shares(100), 100, wanted, {C: 10**9, N: 0, B: 0})
    assert found == {C: 100 * wanted}
    found = one_after_the_other(Shares(1000), 100, wanted, {C: 0, N: 10**9, B: 10**9})
    assert found[B] == pytest.approx(0.1 * 100 * wanted, abs=wanted + 2)


def test_what_was_not_needed_for_long_is_not_made_up_for_at_once() -> None:
    shares = Shares(100)
    one_after_the_other(shares, 1000, 10, {C: 10**9, N: 0, B: 0})
    assert one_after_the_other(shares, 1, 10, dict.fromkeys(Stream, 10**9)) == {C: 7, N: 2, B: 1}


@pytest.mark.parametrize(("slots", "lower"), [(1, 1), (2, 1), (3, 2), (10, 7), (100, 70), (1000, 700)])
def test_three_of_ten_slots_are_kept_for_critical_mail(slots: int, lower: int) -> None:
    shares = Shares(slots)
    assert shares.quota(slots, []).lower_most == lower
    assert shares.quota(slots, running(bulk=lower)).lower_most == 0
    assert shares.quota(slots, running(critical=slots)).lower_most == lower


def test_a_quarantined_job_takes_no_slot_of_its_stream() -> None:
    assert Shares(10).quota(1, [Held("id", queue.QUARANTINE, "run")]).lower_most == 7


@given(
    st.integers(1, 200),
    st.lists(st.tuples(st.integers(1, 100), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)), max_size=50),
)
def test_a_claim_never_has_more_than_it_wants_and_leaves_no_room_while_something_fits(
    slots: int, claims: list[tuple[int, int, int, int]]
) -> None:
    shares = Shares(slots)
    for wanted, *counts in claims:
        due = dict(zip(Stream, counts, strict=True))
        quota = shares.quota(wanted, [])
        assert sum(quota.least.values()) <= wanted
        left = dict(due)
        taken = take(quota, wanted, left)
        lower = sum(stream is not C for stream in taken)
        assert len(taken) <= wanted
        assert lower <= max(1, int(slots * 0.7))
        if len(taken) < wanted:
            assert left[C] == 0
            assert lower == quota.lower_most or left[N] == left[B] == 0
        shares.heard(quota, Claim(tuple(claimed(stream) for stream in taken), 0, None, False, False, ()))
