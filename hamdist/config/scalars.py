"""What a word of YAML means: YAML 1.2's core schema, in which `no`, `1_000`, `12:30` and dates are text."""

import re
from collections.abc import Mapping

Scalar = str | int | float | bool | None

PREFIX = "tag:yaml.org,2002:"
PATTERNS: Mapping[str, re.Pattern[str]] = {
    "null": re.compile(r"(?:null|Null|NULL|~|)\Z"),
    "bool": re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"),
    "int": re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"),
    "float": re.compile(
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
    ),
}
_NOT_TEXT = re.compile("|".join(f"(?P<{kind}>{pattern.pattern})" for kind, pattern in PATTERNS.items()))
_NAMES = {"null": "nothing", "bool": "true or false", "int": "a whole number", "float": "a number"}
_MOST_DIGITS = 1000


def plain(word: str) -> Scalar:
    """What a word without quotes and tag means. Raises ValueError for numbers of too many digits."""
    if found := _NOT_TEXT.match(word):
        return _value(str(found.lastgroup), word)
    return word


def tagged(kind: str, word: str) -> Scalar:
    """A word under a tag, "int" of !!int. Raises ValueError for a word that is none such, and other tags."""
    if kind == "str":
        return word
    if kind not in PATTERNS:
        raise ValueError(
            f"the tag {kind!r} is not known here; accepted: !!str, !!int, !!float, !!bool, !!null"
        )
    if not PATTERNS[kind].match(word):
        raise ValueError(f"!!{kind}: expected {_NAMES[kind]}, got {word[:60]!r}")
    return _value(kind, word)


def _value(kind: str, word: str) -> Scalar:
    if kind == "null":
        return None
    if kind == "bool":
        return word.lower() == "true"
    if len(word) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(word)} characters; {_MOST_DIGITS} are accepted")
    if kind == "int":
        return int(word, {"0o": 8, "0x": 16}.get(word[:2], 10))
    return float(word.replace(".inf", "inf").replace(".nan", "nan") if word[-1].isalpha() else word)
