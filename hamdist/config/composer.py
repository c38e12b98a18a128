"""The events of a YAML parser as nodes with their places, within bounds; what they stand for, with its places.

Aliases share their nodes, and count as all that they stand for, so that no text takes long to read.
"""

from typing import Any, NamedTuple, NoReturn

import yaml

from hamdist.config.scalars import PREFIX, Scalar, plain, tagged
from hamdist.errors import ConfigError

MOST_VALUES = 300_000
MOST_DEPTH = 100  # of lists and mappings within each other

_MERGE = "<<"


class YamlNode(NamedTuple):
    """value: a scalar's, or the nodes of a list, or, by the text of their keys, those of a mapping with their keys'.

    size: how many values it stands for.  depth: of what is within it.
    """

    value: "Scalar | list[YamlNode] | dict[str, tuple[YamlNode, YamlNode]]"
    line: int
    column: int
    size: int = 1
    depth: int = 0


class Composer:
    """One reading of the events of a parser, as a tree of nodes in which aliases share theirs."""

    def __init__(self, parser: Any, origin: str) -> None:
        self._next, self._origin = parser.get_event, origin
        self._anchors: dict[str, YamlNode | None] = {}
        self._duplicates: list[str] = []
        self._written = 0

    def document(self) -> tuple[Any, dict[str, str]]:
        """The data, each part all its own, and the place of every dotted key.

        Raises ConfigError, and YAMLError for bad syntax.
        """
        self._next()
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None, {"": at(self._origin, 0, 0)}
        root = self._node(self._next(), "", 0)
        self._next()
        if not isinstance(event := self._next(), yaml.StreamEndEvent):
            self._refuse(event.start_mark, "a second document begins here; a config is one")
        if self._duplicates:
            raise ConfigError(*self._duplicates)
        marks = {"": at(self._origin, root.line, root.column)}
        return self._data(root, "", marks), marks

    def _node(self, event: Any, path: str, above: int) -> YamlNode:
        """The node that begins with an event.  above: how many lists and mappings it is in."""
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, above)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._written += 1
        if isinstance(event, yaml.ScalarEvent):
            mark: Any = event.start_mark
            node = YamlNode(self._scalar(event), mark.line, mark.column)
        else:
            node = self._collection(event, path, above + 1)
        self._check_bounds(event, node, above)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, above: int) -> YamlNode:
        if event.anchor not in self._anchors:
            self._refuse(event.start_mark, f"there is no '&{event.anchor}' before this '*{event.anchor}'")
        node = self._anchors[event.anchor]
        if node is None:
            self._refuse(event.start_mark, f"'&{event.anchor}' holds itself")
        self._check_bounds(event, node, above)
        return node

    def _scalar(self, event: Any) -> Scalar:
        try:
            if event.tag in (None, "!"):
                return plain(event.value) if event.implicit[0] and event.tag is None else str(event.value)
            return tagged(event.tag.removeprefix(PREFIX), event.value)
        except ValueError as error:
            self._refuse(event.start_mark, str(error))

    def _collection(self, event: Any, path: str, depth: int) -> YamlNode:
        mapping = isinstance(event, yaml.MappingStartEvent)
        kind = "map" if mapping else "seq"
        if event.tag not in (None, "!", PREFIX + kind):
            self._refuse(event.start_mark, f"the tag {event.tag.replace(PREFIX, '!!')!r} is not known here")
        if depth > MOST_DEPTH:
            self._refuse(event.start_mark, f"nested too deeply: more than {MOST_DEPTH} levels")
        value = self._mapping(path, depth) if mapping else self._list(path, depth)
        parts = [node for _, node in value.values()] if isinstance(value, dict) else value
        size, inner = 1 + sum(part.size for part in parts), max((part.depth for part in parts), default=0)
        return YamlNode(value, event.start_mark.line, event.start_mark.column, size, 1 + inner)

    def _list(self, path: str, depth: int) -> list[YamlNode]:
        nodes: list[YamlNode] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            nodes.append(self._node(event, _join(path, len(nodes)), depth))
        return nodes

    def _mapping(self, path: str, depth: int) -> dict[str, tuple[YamlNode, YamlNode]]:
        own: dict[str, tuple[YamlNode, YamlNode]] = {}
        merged: dict[str, tuple[YamlNode, YamlNode]] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            text, key = self._key(event)
            below = _join(path, text)
            if text in own or (text == _MERGE and merged):
                self._duplicates.append(f"{self._place(event.start_mark)}: {below}: the key is there already")
            value = self._node(following := self._next(), below, depth)
            if text == _MERGE and event.implicit[0]:
                merged = self._merged(following, value)
            else:
                own[text] = key, value
        return merged | own

    def _key(self, event: Any) -> tuple[str, YamlNode]:
        """Its text, and its node."""
        if not isinstance(event, yaml.ScalarEvent):
            self._refuse(event.start_mark, "a key must be text")
        self._written -= 1
        key = self._node(event, "", 0)
        if not isinstance(key.value, str | int) or isinstance(key.value, bool):
            self._refuse(event.start_mark, f"{event.value}: keys must be text; put the key in quotes")
        return event.value, key

    def _merged(self, event: Any, node: YamlNode) -> dict[str, tuple[YamlNode, YamlNode]]:
        """What a merge key brings: of a mapping, or of several, of which the first counts."""
        found: dict[str, tuple[YamlNode, YamlNode]] = {}
        for each in node.value if isinstance(node.value, list) else [node]:
            if not isinstance(each.value, dict):
                self._refuse(event.start_mark, "'<<' merges a mapping, or a list of mappings")
            found = each.value | found
        return found

    def _data(self, node: YamlNode, path: str, marks: dict[str, str]) -> Any:
        """What a node stands for, and the places of all below it."""
        if isinstance(node.value, dict):
            data: dict[Any, Any] = {}
            for text, (key, value) in node.value.items():
                below = _join(path, text)
                marks[below] = at(self._origin, key.line, key.column)
                if key.value in data:
                    raise ConfigError(f"{marks[below]}: {below}: the key is there already, otherwise written")
                data[key.value] = self._data(value, below, marks)
            return data
        if isinstance(node.value, list):
            items = []
            for index, item in enumerate(node.value):
                below = _join(path, index)
                marks[below] = at(self._origin, item.line, item.column)
                items.append(self._data(item, below, marks))
            return items
        return node.value

    def _check_bounds(self, event: Any, node: YamlNode, above: int) -> None:
        if max(node.size, self._written) > MOST_VALUES:
            self._refuse(
                event.start_mark, f"stands for more than {MOST_VALUES:,} values, aliases included: too many"
            )
        if above + node.depth > MOST_DEPTH:
            self._refuse(event.start_mark, f"nested too deeply: more than {MOST_DEPTH} levels")

    def _place(self, mark: Any) -> str:
        return at(self._origin, mark.line, mark.column)

    def _refuse(self, mark: Any, why: str) -> NoReturn:
        raise ConfigError(f"{self._place(mark)}: {why}")


def at(origin: str, line: int, column: int) -> str:
    return f"{origin}:{line + 1}:{column + 1}"


def _join(path: str, part: str | int) -> str:
    return f"{path}.{part}" if path else str(part)
