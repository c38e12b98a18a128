"""Reads YAML into plain data, and remembers where each key stands.

It is YAML 1.2 with its core schema, and merge keys (`<<`); a key written twice is an error. Files, and what their
aliases stand for, have bounds, so that no text takes long to read.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hamdist.config.composer import Composer, at
from hamdist.config.scalars import PATTERNS, PREFIX
from hamdist.errors import ConfigError

MOST_BYTES = 16 * 2**20  # of a file

_FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_EXPLAINS = yaml.SafeLoader  # 20 times slower, it says better what is wrong
_MOST_EXPLAINED = 64 * 2**10  # characters
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")


class _Dumper(yaml.SafeDumper):
    """Quotes whatever a reader of YAML 1.1 or 1.2 would take for something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Unicode's own breaks of lines survive in double quotes alone."""
        style = '"' if _BREAKS.search(data) else None
        return self.represent_scalar(f"{PREFIX}str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)
for kind, pattern in PATTERNS.items():
    _Dumper.add_implicit_resolver(PREFIX + kind, pattern, None)


@dataclass(frozen=True)
class Document:
    """Plain data, and for each dotted key where it was written ("file.yaml:12:7"); {} for data from Python."""

    data: Any
    marks: dict[str, str] = field(default_factory=dict)


def read(path: Path) -> Document:
    """The YAML file `path`. Raises ConfigError for what cannot be read, and as `parse`."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{path}: has more than {MOST_BYTES / 2**20:g} MiB: too large for a config")
    try:
        return parse(data.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not text in UTF-8") from error


def parse(text: str, origin: str) -> Document:
    """`text` as YAML; `origin` names it in positions. Raises ConfigError, with the place, for whatever is wrong."""
    if odd := _UNPRINTABLE.search(text):
        line, column = text.count("\n", 0, odd.start()), odd.start() - text.rfind("\n", 0, odd.start()) - 1
        raise ConfigError(f"{at(origin, line, column)}: not YAML: the character {odd[0]!r} is not allowed")
    try:
        return Document(*Composer(_FAST(text), origin).document())
    except yaml.YAMLError as error:
        raise ConfigError(_syntax_error(_explained(text, origin) or error, origin)) from error


def parse_value(text: str) -> Any:
    """One YAML value, such as `1e-3`, `[0, 1]`, `{a: 1}` or `null`. Raises ConfigError."""
    return parse(text, "value").data


def dump(data: Any) -> str:
    """Plain data as YAML, which `parse` reads back as the same data; innermost lists and mappings on one line."""
    return yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110
    )


def _explained(text: str, origin: str) -> yaml.YAMLError | None:
    """The error of a text with bad syntax in the words of the other parser, if that finds one, too."""
    if len(text) <= _MOST_EXPLAINED:
        try:
            Composer(_EXPLAINS(text), origin).document()
        except yaml.YAMLError as error:
            return error
    return None


def _syntax_error(error: yaml.YAMLError, origin: str) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = at(origin, mark.line, mark.column) if mark else origin
    return f"{where}: not YAML: {getattr(error, 'problem', None) or error}"
