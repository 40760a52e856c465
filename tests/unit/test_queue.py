"""A blob is a call, or it is nothing: no bytes of anybody's can hurt the worker that reads them."""

import pickle

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailer import queue
from mailer.jobs import Stream

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
SHAPED = st.fixed_dictionaries({}, optional=dict.fromkeys(("f", "a", "k", "t", "et"), JSON))


class Dangerous:
    """What a pickle can do to whoever reads it."""

    def __reduce__(self) -> tuple[type[SystemExit], tuple[str]]:
        return SystemExit, ("run by a pickle",)


@given(st.text(max_size=40), st.integers(0, 2**53))
def test_what_we_write_is_read(job_id, now):
    assert queue.read_blob(queue.blob(job_id, now)) == queue.Call(queue.DELIVER, (job_id,), {})


@given(st.binary() | SHAPED.map(orjson.dumps))
@example(b"")
@example(b"null")
@example(b"[" * 10_000)
@example(b'{"f": "deliver", "a": "abc", "k": {}, "t": 1, "et": 1}')
@example(b'{"f": 1, "a": [], "k": {}, "t": 1, "et": 1}')
@example(pickle.dumps(Dangerous()))
@example(pickle.dumps({"t": 1, "f": "deliver", "a": ("id",), "k": {}, "et": 1}))
def test_any_bytes_are_a_call_or_nothing(raw):
    call = queue.read_blob(raw)
    assert call is None or (
        isinstance(call.function, str) and isinstance(call.args, tuple) and isinstance(call.kwargs, dict)
    )


@pytest.mark.parametrize("missing", ["f", "a", "k"])
def test_a_call_has_a_function_and_its_arguments(missing):
    whole = {"f": "deliver", "a": ["id"], "k": {}, "t": 1, "et": 1}
    assert queue.read_blob(orjson.dumps(whole)) == queue.Call("deliver", ("id",), {})
    assert queue.read_blob(orjson.dumps({name: value for name, value in whole.items() if name != missing})) is None


def test_each_stream_has_its_queue_and_the_urgent_one_comes_first():
    assert list(queue.QUEUES) == [Stream.CRITICAL, Stream.NORMAL, Stream.BULK]
    assert queue.QUEUES[Stream.NORMAL] == "arq:queue", "what arq's own tools look at"
    assert len({*queue.QUEUES.values(), queue.QUARANTINE}) == 4
