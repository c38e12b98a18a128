"""Overrides from the command line, "key.path=value", written into a config that was read."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hamdist.config.composer import MOST_DEPTH, MOST_VALUES
from hamdist.config.document import Document, parse_value
from hamdist.errors import ConfigError


def apply(document: Document, overrides: Sequence[str]) -> Document:
    """The document with every override in it, in order; keys that are not there yet are made.

    Raises ConfigError with every override that is malformed or has no place to go.
    """
    data, marks = unshared(document.data), dict(document.marks)
    problems: list[str] = []
    for text in overrides:
        try:
            path, value = split(text)
            made = _set(data, path, value)
        except ValueError as error:
            problems.append(f"override {text}: {error}")
        else:
            _mark(marks, path, made, f"override {text}")
    if problems:
        raise ConfigError(*problems)
    return Document(data, marks)


def unshared(data: Any) -> Any:
    """A copy whose parts are all its own: in Python one mapping may appear in several places.

    Raises ConfigError where it holds more than YAML may.
    """
    return _copied(data, 0, iter(range(MOST_VALUES)))


def _copied(data: Any, depth: int, left: Iterator[int]) -> Any:
    """depth: how many lists and mappings it is in.  left: has an item for every value that may still come."""
    if next(left, None) is None:
        raise ConfigError(f"the config stands for more than {MOST_VALUES:,} values: too many")
    if depth > MOST_DEPTH:
        raise ConfigError(f"the config holds itself, or is nested more than {MOST_DEPTH} levels deep")
    if isinstance(data, Mapping):
        return {key: _copied(value, depth + 1, left) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_copied(value, depth + 1, left) for value in data]
    return data


def split(text: str) -> tuple[list[str], Any]:
    """The path and the value of "key.path=value"; the value is YAML. Raises ValueError."""
    key, equals, value = text.partition("=")
    if not equals or not value.strip() or not re.fullmatch(r"[^\s.]+(\.[^\s.]+)*", key):
        raise ValueError("write it as key.path=value, for instance learning.beta=0.05 (null for nothing)")
    try:
        return key.split("."), parse_value(value)
    except ConfigError as error:
        raise ValueError(f"the value is not YAML: {value}: {_without_place(error)}") from error


def _without_place(error: ConfigError) -> str:
    """What is wrong with a value that stands alone in its line."""
    return str(error.problems[0]).removeprefix("value:").partition(": ")[2].removeprefix("not YAML: ")


def _set(data: Any, path: Sequence[str], value: Any) -> int:
    """Put `value` at `path`; returns how many steps of the path were there before. Raises ValueError."""
    there = 0
    for depth, part in enumerate(path[:-1]):
        inner = _get(data, part, path[:depth])
        if inner is None:
            inner = {}
            data[_slot(data, part, path[:depth])] = inner
        else:
            there = depth + 1
        data = inner
    data[_slot(data, path[-1], path[:-1])] = value
    return there


def _get(data: Any, part: str, above: Sequence[str]) -> Any:
    slot = _slot(data, part, above)
    return data.get(slot) if isinstance(data, dict) else data[slot]


def _slot(data: Any, part: str, above: Sequence[str]) -> str | int:
    """What to index `data` with. Raises ValueError where it has no place for `part`."""
    where = ".".join(above)
    if isinstance(data, dict):
        return part
    if not isinstance(data, list):
        raise ValueError(f"{where} is {data!r}, which has no keys: set it as a whole, {where}={{…}}")
    if not part.isdecimal() or int(part) >= len(data):
        raise ValueError(f"{where} is a list of {len(data)}: its items are 0 to {len(data) - 1}, not {part}")
    return int(part)


def _mark(marks: dict[str, str], path: Sequence[str], there: int, text: str) -> None:
    """Let the override stand as the place of its key, of all below, and of the mappings it made on the way."""
    key = ".".join(path)
    for old in [mark for mark in marks if mark.startswith(key + ".")]:
        del marks[old]
    for depth in range(there + 1, len(path) + 1):
        marks[".".join(path[:depth])] = text
