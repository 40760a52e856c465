"""What has long texts is read back as it was written, also by who knows nothing of how."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.store.long_texts import read, written

TEXTS = st.text(st.sampled_from([*'ab"\\/{}\n\t\0é漢😀\u2028']), max_size=80)
ITEMS = st.fixed_dictionaries(
    {"data": st.dictionaries(TEXTS, TEXTS | st.integers(-5, 5), max_size=3)},
    optional={"subject": st.none() | TEXTS, "html": st.none() | TEXTS, "text": TEXTS},
)


@given(ITEMS, st.integers(1, 20))
def test_an_object_is_read_back_in_pieces_of_any_size(item, piece):
    assert read(written(item, piece)) == item


@given(ITEMS, st.integers(1, 20))
def test_one_who_reads_it_as_json_finds_the_same_in_it(item, piece):
    plain = orjson.loads(written(item, piece))
    plain.pop("long", None)
    assert plain == item


def test_what_is_short_is_plain_json():
    item = {"data": {}, "html": "<p>short</p>", "text": None}
    assert written(item) == orjson.dumps(item)


def test_a_text_of_megabytes_is_read_in_many_pieces():
    item = {"data": {"id": 1}, "html": "Привет, \\мир\\ 😀\n" * 100_000}
    raw = written(item)
    assert len(orjson.loads(raw)["long"]["html"]) > 20
    assert read(raw) == item


@pytest.mark.parametrize("raw", [b"", b"{", b'{"long":', b'{"long":{"":[3]},"a":1'])
def test_what_is_cut_off_is_an_error(raw):
    with pytest.raises(ValueError, match=r"."):
        read(raw)
