"""What a caller gives in `data`, against what a template needs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.errors import InvalidSubmission, VariableMissing
from mailer.fields import check_data
from mailer.manifest import FieldSpec

FIELDS = {
    "id": FieldSpec(type="integer"),
    "name": FieldSpec(type="string"),
    "coupon": FieldSpec(type="string", required=False),
    "count": FieldSpec(type="integer", required=False, default=1),
}
GOOD = {"id": 42, "name": "Ada"}
VALUES = {
    "string": ["", "Ada"],
    "integer": [0, -1, 2**60],
    "number": [0, 1.5],
    "boolean": [True, False],
    "object": [{}, {"a": 1}],
    "array": [[], [1]],
}


def check(data, *, fields=FIELDS, sources=frozenset({"user"}), strict=True):
    return check_data("welcome", fields, sources, data, strict=strict)


def pointers(error):
    return [(item.pointer, item.code) for item in error.errors]


def test_what_is_left_out_and_optional_is_filled_in():
    assert check(GOOD) == {"id": 42, "name": "Ada", "coupon": None, "count": 1}


def test_null_for_an_optional_field_is_as_if_left_out():
    assert check({**GOOD, "count": None})["count"] == 1


def test_every_missing_field_is_named():
    with pytest.raises(VariableMissing) as caught:
        check({})
    assert pointers(caught.value) == [
        ("/data/id", "template_variable_missing"),
        ("/data/name", "template_variable_missing"),
    ]
    assert "welcome needs id (integer)" in str(caught.value)


def test_an_unknown_field_is_refused_by_name_with_the_nearest_one():
    with pytest.raises(InvalidSubmission) as caught:
        check({**GOOD, "coupn": "X"})
    assert pointers(caught.value) == [("/data/coupn", "validation_failed")]
    assert "did you mean coupon?" in str(caught.value)


def test_the_pointer_to_an_odd_name_is_escaped_as_rfc_6901_wants():
    with pytest.raises(InvalidSubmission) as caught:
        check({**GOOD, "a/b~c": 1})
    assert pointers(caught.value) == [("/data/a~1b~0c", "validation_failed")]


def test_a_producer_may_add_fields_to_an_event():
    assert check({**GOOD, "new_in_2027": 1}, strict=False) == check(GOOD)


def test_a_value_for_a_source_may_come_with_the_job():
    assert check({**GOOD, "user": {"name": "Ada"}})["user"] == {"name": "Ada"}


@pytest.mark.parametrize("wanted", VALUES)
@pytest.mark.parametrize("given_type", VALUES)
def test_a_field_takes_values_of_its_type_only(wanted, given_type):
    fits = wanted == given_type or (wanted == "number" and given_type == "integer")
    for value in VALUES[given_type]:
        if wanted == "integer" and value == 0 and given_type == "number":
            continue  # 0 stands in both lists
        fields = {"x": FieldSpec(type=wanted)}
        if fits:
            assert check({"x": value}, fields=fields) == {"x": value}
        else:
            with pytest.raises(InvalidSubmission, match=f"x must be of type {wanted}, not "):
                check({"x": value}, fields=fields)


def test_null_is_not_a_value_for_a_required_field():
    with pytest.raises(InvalidSubmission, match="id must be of type integer, not null"):
        check({**GOOD, "id": None})


def test_missing_and_wrong_fields_are_named_together():
    with pytest.raises(InvalidSubmission) as caught:
        check({"id": "42"})
    assert not isinstance(caught.value, VariableMissing)
    assert {pointer for pointer, _ in pointers(caught.value)} == {"/data/id", "/data/name"}


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()))
def test_what_is_accepted_has_every_variable_and_changes_nothing_given(data):
    given_names = {name: value for name, value in data.items() if name not in FIELDS}
    result = check({**given_names, **GOOD}, strict=False)
    assert result.keys() - {"user"} == FIELDS.keys()
    assert {name: result[name] for name in GOOD} == GOOD
