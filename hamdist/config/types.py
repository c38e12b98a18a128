"""The value types the schema is made of: strict numbers, names, references to layers, plain data.

YAML already tells numbers, text and truth values apart, so nothing is converted here: `"0.1"` is not a number and
`1` is not true. The one exception is a whole number written as a float, such as `6.4e4`.
"""

import math
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
)
from pydantic_core import InitErrorDetails, PydanticCustomError


class Section(BaseModel):
    """A mapping of the config: immutable, and every key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def refuse(*problems: tuple[tuple[str | int, ...], str]) -> NoReturn:
    """Raise, from a validator, one error per (place below the validated value, message)."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError("refused", "{message}", {"message": message}), loc=place, input=None
        )
        for place, message in problems
    ]
    raise ValidationError.from_exception_data("config", details)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and math.isfinite(value) and value.is_integer() else value


Flag = Annotated[bool, Strict()]
Number = Annotated[float, Strict(), AllowInfNan(False)]
Positive = Annotated[Number, Field(gt=0)]
NonNegative = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]
Whole = Annotated[int, Strict(), BeforeValidator(_whole), Field(ge=-(2**63), lt=2**63)]
Count = Annotated[Whole, Field(ge=1)]
WholeOrZero = Annotated[Whole, Field(ge=0)]
Rows = Annotated[Count, Field(le=2**20)]
"""Of what is held in memory at once."""
Ticks = Annotated[Count, Field(le=2**20)]
TicksOrNone = Annotated[WholeOrZero, Field(le=2**20)]
Text = Annotated[str, Field(min_length=1)]


def _import_path(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", value):
        raise ValueError(f"{value!r} does not name an object: write it as 'package.module:name'")
    return value


ImportPath = Annotated[str, AfterValidator(_import_path)]

FilePath = Annotated[Text, BeforeValidator(lambda v: os.fspath(v) if isinstance(v, os.PathLike) else v)]


def _layer_reference(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"expected the name or the index of a layer, got {value!r}")
    if isinstance(value, int) and value < 0:
        raise ValueError(f"a layer's index is 0 or more, got {value}")
    return value


LayerReference = Annotated[str | int, BeforeValidator(_layer_reference)]

_EDGE = re.compile(r"\s*([\w-]+?)\s*->\s*([\w-]+)\s*")


def parse_edge(text: str) -> tuple[str | int, str | int]:
    """The two ends of "0->1" or "embed->head"; digits alone are an index. Raises ValueError."""
    match = _EDGE.fullmatch(text)
    if not match:
        raise ValueError(
            f"{text!r} is not an edge: write it as 'from->to', for instance '0->1' or 'embed->head'"
        )
    source, target = (int(end) if end.isdecimal() else end for end in match.groups())
    return source, target


EdgeName = Annotated[str, AfterValidator(lambda text: "{}->{}".format(*parse_edge(text)))]


def _plain(value: Any) -> Any:
    """The value unchanged, if YAML can write it and read the same back."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"keys must be text, got {key!r}")
            _plain(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _plain(inner)
    elif not (value is None or type(value) in (str, int, float, bool)):
        raise ValueError(f"expected numbers, text, lists and mappings of these, got {type(value).__name__}")
    return value


Plain = Annotated[Any, AfterValidator(_plain)]
Arguments = dict[str, Plain]


def _column(value: Any) -> Any:
    return str(value) if type(value) is int else value


Column = Annotated[Text, BeforeValidator(_column)]
"""Name of a column of a table; without a header columns are called by their numbers."""


def _label(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        raise ValueError(f"a class is text, a number or a truth value, got {value!r}")
    return value


Label = Annotated[str | int | float | bool, BeforeValidator(_label)]
