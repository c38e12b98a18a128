"""docs/configuration.md against the schema: every key with its default and meaning, and no key beyond these."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from hamdist.config import RunConfig, load
from hamdist.config.document import parse
from hamdist.config.schema_walk import accepted_keys, accepted_values, is_section, union_arms, unwrap

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


class Row(NamedTuple):
    """A key, as the tables write it: accepted values (those of a choice only), default and meaning."""

    values: tuple[str, ...]
    default: str
    meaning: str


Section = tuple[str, dict[str, Row]]
"""A heading, and the rows of its table by key."""


def sections(annotation: Any, path: str, seen: set[Any]) -> Iterator[Section]:
    """Every section below an annotation, each model once; the models of a union share one for their common keys."""
    inner = unwrap(annotation)
    if is_section(inner) and inner not in seen:
        seen.add(inner)
        yield heading(path), {key: row(inner, key) for key in accepted_keys(inner)}
        for key, below in accepted_keys(inner).items():
            yield from sections(below, f"{path}.{key}" if path else key, seen)
    elif get_origin(inner) is tuple:
        yield from sections(get_args(inner)[0], f"{path}[]", seen)
    elif get_origin(inner) is dict:
        yield from sections(get_args(inner)[1], f"{path}.*", seen)
    elif arms := [unwrap(arm) for arm in union_arms(inner)]:
        for arm in arms:
            yield from sections(arm, path, seen) if union_arms(arm) else ()
        yield from union_sections([arm for arm in arms if is_section(arm)], path, seen)


def union_sections(models: list[type[BaseModel]], path: str, seen: set[Any]) -> Iterator[Section]:
    shared = set.intersection(*(set(accepted_keys(model)) for model in models)) if models else set()
    if shared:
        yield heading(path), {key: shared_row(models, key) for key in shared}
    for model in models if len(models) > 1 else ():
        own = [key for key in accepted_keys(model) if key not in shared]
        yield (
            f"{heading(path)}: {name_of(model, telling(models, shared))}",
            {key: row(model, key) for key in own},
        )
        for key in own:
            yield from sections(accepted_keys(model)[key], f"{path}.{key}", seen)


def telling(models: list[type[BaseModel]], shared: set[str]) -> set[str]:
    """The keys whose values differ from model to model."""
    return {key for key in shared if len({accepted_values(accepted_keys(m)[key]) for m in models}) > 1}


def name_of(model: type[BaseModel], telling: set[str]) -> str:
    """The values that select a model, "adam, adamw"; where none does, its first key."""
    chosen = [accepted_values(accepted_keys(model)[key]) for key in telling]
    return ", ".join(next(filter(None, chosen), (next(iter(accepted_keys(model))),)))


def heading(path: str) -> str:
    return f"`{path}`" if path else "Top level"


def row(model: type[BaseModel], key: str) -> Row:
    field = next(f for name, f in model.model_fields.items() if (f.alias or name) == key)
    assert field.description, (model, key)
    return Row(tuple(map(str, accepted_values(field.annotation))), default(field.default), field.description)


def shared_row(models: list[type[BaseModel]], key: str) -> Row:
    """What all models say of a key; the one that selects among them has a meaning in each, and none in common."""
    rows = {row(model, key) for model in models}
    return rows.pop() if len(rows) == 1 else Row((), "required", "")


def default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    text = "{}" if isinstance(value, BaseModel) else json.dumps(value).strip('"')
    return f"`{text.replace('e-0', 'e-')}`"


def on_page() -> dict[str, dict[str, Row]]:
    """The sections as the page has them."""
    found: dict[str, dict[str, Row]] = {}
    current: dict[str, Row] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if title := re.fullmatch(r"##+ (`.*|Top level)", line):
            current = found.setdefault(title[1], {})
        elif nodes := re.fullmatch(r"\| `([^`]+)` \| (.+?) \| (.+?) \| (.+) \|", line):
            key, takes, default_text, meaning = nodes.groups()
            values = tuple(re.findall("`([^`]+)`", takes))
            current[key] = Row(values, default_text, meaning.replace("\\|", "|"))
    return found


SCHEMA = dict(sections(RunConfig, "", set()))


def test_the_walk_reaches_everything() -> None:
    """A walk that found nothing would agree with an empty page."""
    assert {
        "Top level",
        "`stream`: river",
        "`network.layers[].modules[]`",
        "`learning.beta`: step",
        "`placement.requests.*`",
    } <= SCHEMA.keys()
    assert SCHEMA["`learning`"]["tau"] == ((), "`1.0`", "The step of time, τ.")


def test_the_page_has_the_sections_of_the_schema() -> None:
    assert sorted(on_page()) == sorted(SCHEMA)


def test_keys_defaults_and_meanings() -> None:
    """A key that the schema does not explain may mean anything."""
    wrong = differing(
        lambda row, of_schema: row.default == of_schema.default and of_schema.meaning in ("", row.meaning)
    )
    assert not wrong, wrong
    beyond = {name: rows.keys() - SCHEMA.get(name, {}).keys() for name, rows in on_page().items()}
    assert {name: keys for name, keys in beyond.items() if keys} == {}


def test_choices_are_listed() -> None:
    wrong = differing(lambda row, of_schema: of_schema.values in ((), row.values))
    assert not wrong, wrong


def differing(agrees: Callable[[Row, Row], bool]) -> str:
    """Every key of the schema whose row on the page is not there, or does not agree, two lines each."""
    page = on_page()
    pairs = {
        f"{name}, {key}": (page.get(name, {}).get(key), row)
        for name, rows in SCHEMA.items()
        for key, row in rows.items()
    }
    return "\n".join(
        f"{where}: {row}\n    in the schema {of_schema}"
        for where, (row, of_schema) in pairs.items()
        if row is None or not agrees(row, of_schema)
    )


def test_the_examples_on_the_page_load() -> None:
    """Each YAML block is a config, or sections of one that fit into `digits`."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 15
    for block in blocks:
        for text in examples_in(block):
            load("digits", [text])


def examples_in(block: str) -> Iterator[str]:
    """Overrides that put what a block shows into a config."""
    for piece in re.split(r"\n(?=\S)", block.strip()):
        section, value = next(iter(parse(piece, "page").data.items()))
        yield f"{INSIDE.get(section, section)}={json.dumps(value)}"


INSIDE = {
    "layers": "network.layers",
    "edges": "network.edges",
    "loss": "network.loss",
    "modules": "network.layers.0.modules",
}
"""Where a block that shows only a part belongs."""
