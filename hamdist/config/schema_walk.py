"""Follows a pydantic error's place down the schema, to the keys the user wrote and the type that stands there.

Pydantic's places hold tags beside keys: which arm of a union was tried. They also hold steps that a validator put in,
such as the 0 of a lone loss that became a list of one. Neither is anything the user knows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Tag


@dataclass(frozen=True)
class Place:
    """Where an error is: the dotted key as the user wrote it, and the annotation of what is expected there."""

    key: str
    annotation: Any


def unwrap(annotation: Any) -> Any:
    """The annotation without `Annotated`, and without `| None` around a single type."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif len(arms := union_arms(annotation)) == 1:
            annotation = arms[0]
        else:
            return annotation


def union_arms(annotation: Any) -> tuple[Any, ...]:
    """The types a union is made of, None left out; () for anything else."""
    if get_origin(annotation) not in (Union, UnionType):
        return ()
    return tuple(arm for arm in get_args(annotation) if arm is not NoneType)


def is_section(annotation: Any) -> bool:
    """Is it a pydantic model?"""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


@cache
def accepted_keys(model: type[BaseModel]) -> dict[str, Any]:
    """The keys of a section as they are written in YAML, with their annotations."""
    hints = get_type_hints(model, include_extras=True)
    return {field.alias or name: hints[name] for name, field in model.model_fields.items()}


def accepted_values(annotation: Any) -> tuple[Any, ...]:
    """The values of a Literal; () for anything else."""
    inner = unwrap(annotation)
    return get_args(inner) if get_origin(inner) is Literal else ()


def find(model: type[BaseModel], location: Sequence[str | int], data: Any) -> Place:
    """The place of a pydantic error's `loc`, in a config that was read as `data`."""
    annotation: Any = model
    parts: list[str] = []
    for part in location:
        inner = unwrap(annotation)
        if union_arms(inner):
            annotation = _arm(inner, part)
            continue
        annotation = _below(inner, part)
        if part != "[key]" and _holds(data, part):
            parts.append(str(part))
            data = _inside(data, part)
    return Place(".".join(parts), annotation)


def _holds(data: Any, part: str | int) -> bool:
    """Whether it is a place below the data: an index of a list, or a key, be it text or a number."""
    if isinstance(part, int) and not (isinstance(data, Mapping) and part in data):
        return isinstance(data, list | tuple)
    return isinstance(data, Mapping)


def _inside(data: Any, part: str | int) -> Any:
    try:
        return data[part]
    except (KeyError, IndexError):
        return None


def _below(annotation: Any, part: str | int) -> Any:
    if is_section(annotation):
        return accepted_keys(annotation).get(str(part))
    if get_origin(annotation) is tuple:
        return get_args(annotation)[0]
    if get_origin(annotation) is dict:
        return get_args(annotation)[0 if part == "[key]" else 1]
    return None


def _arm(union: Any, tag: str | int) -> Any:
    return next((arm for arm in union_arms(union) if tag in _tags(arm)), None)


def _tags(arm: Any) -> Iterator[Any]:
    if get_origin(arm) is Annotated:
        yield from (extra.tag for extra in get_args(arm)[1:] if isinstance(extra, Tag))
    if is_section(inner := unwrap(arm)):
        for annotation in accepted_keys(inner).values():
            yield from accepted_values(annotation)
