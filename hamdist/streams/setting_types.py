"""Settings from a config against the arguments of a source's class: names, those needed, and types."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hamdist.errors import Problem, did_you_mean

PLAIN = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    Sequence: "a list",
    Mapping: "a mapping",
    NoneType: "null",
}
"""The types that a config can hold, in words; an argument of any other type takes what it is given."""


def setting_problems(
    source: str, made_by: type[Any], settings: Mapping[str, Any], given: Sequence[str]
) -> list[Problem]:
    """Every mistake in the settings of a source of class `made_by`, whose arguments `given` come from elsewhere."""
    parameters = inspect.signature(made_by).parameters
    accepted = [name for name in parameters if name not in given]
    hints = get_type_hints(made_by.__init__)
    problems = [
        Problem(name, f"the source {source} needs this setting")
        for name in accepted
        if parameters[name].default is inspect.Parameter.empty and name not in settings
    ]
    for name, value in settings.items():
        if name not in accepted:
            known = f"it has {', '.join(accepted)}{did_you_mean(name, accepted)}"
            problems.append(Problem(name, f"the source {source} has no such setting; {known}"))
        elif not fits(value, hints[name]):
            problems.append(Problem(name, f"expected {in_words(hints[name])}, not {value!r}"))
    return problems


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type of an annotation; always true for types that are not in `PLAIN`."""
    if is_union(hint):
        return any(fits(value, one) for one in get_args(hint))
    kind = get_origin(hint) or hint
    if kind not in PLAIN:
        return True
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float)
    if kind is Sequence:
        return isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return isinstance(value, kind)


def in_words(hint: Any) -> str:
    """An annotation in the words of a config."""
    kinds = get_args(hint) if is_union(hint) else (hint,)
    return " or ".join(PLAIN.get(get_origin(kind) or kind, "an object") for kind in kinds)


def is_union(hint: Any) -> bool:
    """A | B, or what get_type_hints makes of it."""
    return get_origin(hint) in (Union, UnionType)
