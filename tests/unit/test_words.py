"""`key=value` on the command line."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.words import parse_words
from mailer.errors import SettingsError


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("x=42", 42),
        ("x=-1.5", -1.5),
        ("x=true", True),
        ("x=null", None),
        ("x=Ada", "Ada"),
        ("x=Ada Lovelace", "Ada Lovelace"),
        ('x="0042"', "0042"),
        ("x=0042", "0042"),
        ("x=", ""),
        ("x=a=b", "a=b"),
        ("x=https://app.example/?a=1", "https://app.example/?a=1"),
        ('x={"a": [1, 2]}', {"a": [1, 2]}),
        ("x=[1", "[1"),
        ("x=NaN", "NaN"),
        ("x=True", "True"),
    ],
)
def test_a_value_that_is_json_is_taken_as_json_and_any_other_as_text(word, value):
    assert parse_words([word]) == {"x": value}
    assert type(parse_words([word])["x"]) is type(value)


def test_several_words_are_one_object_and_the_last_of_a_name_counts():
    assert parse_words(["a=1", "b=x", "a=2"]) == {"a": 2, "b": "x"}
    assert parse_words([]) == {}


@pytest.mark.parametrize("word", ["id", "=42", "", "42"])
def test_a_word_that_is_no_pair_is_shown(word):
    with pytest.raises(SettingsError, match="is not of the form key=value") as caught:
        parse_words([word])
    assert repr(word) in str(caught.value)


@given(st.text(st.characters(exclude_characters="=", exclude_categories=["Cs"]), min_size=1), st.integers() | st.text())
def test_whatever_is_written_as_json_arrives(name, value):
    written = str(value) if isinstance(value, int) and abs(value) >= 2**63 else orjson.dumps(value).decode()
    if not (isinstance(value, int) and abs(value) >= 2**63):
        assert parse_words([f"{name}={written}"]) == {name: value}
