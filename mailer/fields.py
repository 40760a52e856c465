"""The caller's `data` against a template's fields: strict for a job, projected for an event. Pure."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from mailer.errors import FieldError, InvalidSubmission, VariableMissing
from mailer.manifest import FieldSpec

_IS: dict[str, Callable[[object], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "any": lambda _: True,
}
_JSON_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object", list: "array"}


def check_data(
    template: str, fields: Mapping[str, FieldSpec], sources: frozenset[str], data: Mapping[str, Any], *, strict: bool
) -> dict[str, Any]:
    """`data` reduced to the template's variables, absent optional ones filled in.

    A value for a source may be given in `data`; it is then not fetched. Strict: an unknown name is an error.
    Raises VariableMissing or InvalidSubmission, naming every field in the wrong.
    """
    errors = []
    result: dict[str, Any] = {}
    for name, spec in fields.items():
        if name not in data or (data[name] is None and not spec.required):
            if spec.required:
                detail = f"{template} needs {name} ({spec.type})"
                errors.append(FieldError(f"/data/{name}", VariableMissing.code, detail))
            result[name] = spec.default
        elif not _IS[spec.type](data[name]):
            found = _JSON_NAMES.get(type(data[name]), "null")
            errors.append(
                FieldError(f"/data/{name}", InvalidSubmission.code, f"{name} must be of type {spec.type}, not {found}")
            )
        else:
            result[name] = data[name]
    for name in data:
        if name in sources:
            result[name] = data[name]
        elif strict and name not in fields:
            near = difflib.get_close_matches(name, [*fields, *sources], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            pointer = "/data/" + name.replace("~", "~0").replace("/", "~1")
            errors.append(FieldError(pointer, InvalidSubmission.code, f"{template} has no field {name}{hint}"))
    if errors:
        kind = VariableMissing if all(error.code == VariableMissing.code for error in errors) else InvalidSubmission
        raise kind("; ".join(error.detail for error in errors), tuple(errors))
    return result
