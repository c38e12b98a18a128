"""Reads YAML into plain data, and remembers where each key stands.

Differences from plain PyYAML: `1e-3` is a number, a date is text, and a key written twice is an error.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hamdist.errors import ConfigError

_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_FLOAT = re.compile(
    r"""[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
       |[0-9][0-9_]*[eE][-+]?[0-9]+
       |\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
       |\.(?:inf|Inf|INF))
       |\.(?:nan|NaN|NAN)""",
    re.VERBOSE,
)


def _resolvers(base: dict[str, list[tuple[str, Any]]]) -> dict[str, list[tuple[str, Any]]]:
    """PyYAML's rules for what a plain word is, without dates and with every way to write a float."""
    rules = {first: [rule for rule in of if rule[0] != _TIMESTAMP] for first, of in base.items()}
    for first in "-+.0123456789":
        rules[first] = [
            ("tag:yaml.org,2002:float", re.compile(rf"(?:{_FLOAT.pattern})\Z", re.VERBOSE)),
            *rules[first],
        ]
    return rules


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers(yaml.SafeLoader.yaml_implicit_resolvers)


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would take for something else than text."""

    yaml_implicit_resolvers = _resolvers(yaml.SafeDumper.yaml_implicit_resolvers)

    def ignore_aliases(self, data: Any) -> bool:
        return True


@dataclass(frozen=True)
class Document:
    """Plain data, and for each dotted key where it was written ("file.yaml:12:7"); {} for data from Python."""

    data: Any
    marks: dict[str, str] = field(default_factory=dict)


def read(path: Path) -> Document:
    """The YAML file `path`. Raises ConfigError for what cannot be read, and for keys written twice."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not text in UTF-8") from error
    return parse(text, str(path))


def parse(text: str, origin: str) -> Document:
    """`text` as YAML; `origin` names it in positions. Raises ConfigError as `read` does."""
    try:
        return _parsed(_Loader(text), origin)
    except yaml.YAMLError as error:
        raise ConfigError(_syntax_error(error, origin)) from error
    except RecursionError as error:
        raise ConfigError(f"{origin}: holds itself, or is nested too deeply") from error


def _parsed(loader: _Loader, origin: str) -> Document:
    root = loader.get_single_node()
    if root is None:
        return Document(None, {"": f"{origin}:1:1"})
    duplicates = [
        f"{_position(origin, key)}: {path}: the key is there already" for path, key in _duplicates(root)
    ]
    if duplicates:
        raise ConfigError(*duplicates)
    data = loader.construct_document(root)
    return Document(data, {path: _position(origin, node) for path, node in _keys(root)})


def parse_value(text: str) -> Any:
    """One YAML value, such as `1e-3`, `[0, 1]`, `{a: 1}` or `null`. Raises ConfigError."""
    return parse(text, "value").data


def dump(data: Any) -> str:
    """Plain data as YAML, which `parse` reads back as the same data; innermost lists and mappings on one line."""
    return yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110
    )


def _position(origin: str, node: yaml.Node) -> str:
    return f"{origin}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def _syntax_error(error: yaml.YAMLError, origin: str) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"{origin}:{mark.line + 1}:{mark.column + 1}" if mark else origin
    return f"{where}: not YAML: {getattr(error, 'problem', None) or error}"


def _join(path: str, part: str | int) -> str:
    return f"{path}.{part}" if path else str(part)


def _keys(node: yaml.Node, path: str = "") -> Iterator[tuple[str, yaml.Node]]:
    """Each dotted key below `node` with the node to point at: the key of a mapping, the item of a list."""
    if not path:
        yield "", node
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = _join(path, key.value)
            yield below, key
            yield from _keys(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            below = _join(path, index)
            yield below, item
            yield from _keys(item, below)


def _duplicates(node: yaml.Node, path: str = "") -> Iterator[tuple[str, yaml.Node]]:
    """Each key that its mapping has already, with its dotted path."""
    if isinstance(node, yaml.MappingNode):
        seen: set[tuple[str, str]] = set()
        for key, value in node.value:
            below = _join(path, key.value)
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                yield below, key
            seen.add((key.tag, str(key.value)))
            yield from _duplicates(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _duplicates(item, _join(path, index))
