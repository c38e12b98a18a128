"""Anything as JSON that every reader takes: numbers that are not finite are null, and what JSON has not is text."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any


def json_text(value: Any, indent: int | None = None) -> str:
    """One line, or several where it is indented."""
    return json.dumps(plain(value), indent=indent, allow_nan=False)


def plain(value: Any) -> Any:
    """The same of what JSON has: null, booleans, numbers, text, lists, and mappings with text for keys."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if hasattr(value, "tolist"):  # tensors and arrays, and numbers of theirs
        return plain(value.tolist())
    return [plain(each) for each in value] if isinstance(value, Iterable) else str(value)
