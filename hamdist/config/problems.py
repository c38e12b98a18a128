"""Turns pydantic's errors into problems in the words of this config."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from hamdist.config.schema_walk import accepted_keys, accepted_values, find, is_section, union_arms, unwrap
from hamdist.errors import Problem, first_of, nearest


def problems_of(error: ValidationError, model: type[BaseModel], data: Any) -> list[Problem]:
    """The errors pydantic found in `data`, in the order of the schema, as many as are told at once."""
    return first_of(
        _problem(details, model, data) for details in error.errors(include_url=False) if not _echo(details)
    )


def _echo(details: Any) -> bool:
    """A list that is too short only because its items were found wrong, which is reported already."""
    return details["type"] == "too_short" and len(details["input"]) > details["ctx"]["actual_length"]


def suggestion(word: object, accepted: Iterable[object]) -> str:
    """The word that was meant, where one is near, and otherwise all that are accepted."""
    words = [str(each) for each in accepted]
    near = nearest(str(word).lower(), words)
    return f"did you mean {near!r}?" if near else f"accepted: {', '.join(words)}"


def _problem(details: Any, model: type[BaseModel], data: Any) -> Problem:
    place = find(model, details["loc"], data)
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        section = unwrap(find(model, details["loc"][:-1], data).annotation)
        accepted = accepted_keys(section) if is_section(section) else ()
        return Problem(place.key, f"unknown key; {suggestion(details['loc'][-1], accepted)}")
    if kind == "literal_error":
        return Problem(place.key, _not_accepted(value, accepted_values(place.annotation)))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _wrong_tag(place.key, place.annotation, kind, value, context)
    return Problem(place.key, _message(kind, value, context, details["msg"]))


def _wrong_tag(key: str, annotation: Any, kind: str, value: Any, context: dict[str, Any]) -> Problem:
    """A mapping whose kind is told by one of its keys, and that key is missing or says something unknown."""
    discriminator = context["discriminator"].strip("'")
    accepted = [
        kind
        for arm in union_arms(unwrap(annotation))
        for kind in accepted_values(accepted_keys(unwrap(arm))[discriminator])
    ]
    if kind == "union_tag_not_found":
        message = f"missing; accepted: {', '.join(accepted)}"
    else:
        message = _not_accepted(value[discriminator], accepted)
    return Problem(f"{key}.{discriminator}", message)


def _not_accepted(value: Any, accepted: Iterable[object]) -> str:
    return f"{shown(value)} is not accepted; {suggestion(value, accepted)}"


def shown(value: Any) -> str:
    """The value as one would write it, cut where it is long."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a whole number of {value.bit_length()} bits"
    text = str(value).lower() if isinstance(value, bool) else "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_EXPECTED = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping",
    "model": "a mapping",
}


def _bound(bound: float) -> str:
    """All digits of a whole number, but for powers of two that nobody reads."""
    powers = {2**63: "2^63", -(2**63): "-2^63"}
    return powers.get(bound) or (str(bound) if isinstance(bound, int) else f"{bound:g}")  # type: ignore[call-overload]


_BOUNDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "greater_than": lambda c: f"must be greater than {_bound(c['gt'])}",
    "greater_than_equal": lambda c: f"must be {_bound(c['ge'])} or more",
    "less_than": lambda c: f"must be less than {_bound(c['lt'])}",
    "less_than_equal": lambda c: f"must be {_bound(c['le'])} or less",
}


def _message(kind: str, value: Any, context: dict[str, Any], fallback: str) -> str:
    if kind in ("missing", "invalid_key"):
        return "missing" if kind == "missing" else "keys must be text; put the key in quotes"
    if kind == "value_error":
        return str(context["error"])
    if kind in _BOUNDS:
        return f"{_BOUNDS[kind](context)}, got {shown(value)}"
    if kind == "too_short":
        return f"needs at least {context['min_length']}, got {context['actual_length']}"
    if kind == "too_long":
        return f"takes at most {context['max_length']}, got {context['actual_length']}"
    if kind == "string_too_short":
        return "must not be empty"
    if kind == "string_too_long":
        return f"must be {context['max_length']} long at most, got {shown(value)}"
    if kind == "finite_number" or (isinstance(value, float) and not math.isfinite(value)):
        return f"must be a finite number, got {shown(value)}"
    expected = _EXPECTED.get(kind.split("_")[0])
    return f"expected {expected}, got {shown(value)}" if expected else fallback
