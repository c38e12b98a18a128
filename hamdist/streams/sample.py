"""One sample, and what a Python object may look like that is one."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hamdist.errors import StreamError, first_line
from hamdist.streams.listing import listed
from hamdist.streams.missing import is_missing
from hamdist.streams.stream import as_target

ACCEPTED = "a sample is (x, y), (x, y, restart), {'x': ..., 'y': ..., 'restart': ...} or x alone"


class Sample(NamedTuple):
    """One sample before it is batched: a row of a `Batch`, and the `place` it was read from, such as file and line.

    restart: whether an episode begins with it.  arrived: as in a `Batch`.  missing: whether its target is said to be
    missing, and not only left out.
    """

    inputs: Tensor
    targets: Tensor | None
    place: str = ""
    restart: bool = False
    arrived: float | None = None
    missing: bool = False


class Parts(NamedTuple):
    """What a Python object that is a sample holds."""

    x: Any
    y: Any = None
    restart: Any = False


def split_sample(item: Any, where: str) -> Parts:
    """The parts of a tuple or a mapping; anything else is x alone. `where` opens an error message."""
    if isinstance(item, Mapping):
        if "x" not in item or not item.keys() <= set(Parts._fields):
            raise StreamError(f"{where}: a mapping with the keys {listed(item)}; {ACCEPTED}")
        return Parts(**item)
    if isinstance(item, tuple):
        if len(item) not in (1, 2, 3):
            raise StreamError(f"{where}: a tuple of {len(item)}; {ACCEPTED}")
        return Parts(*item)
    return Parts(item)


def parse_sample(item: Any, dtype: torch.dtype, where: str) -> Sample:
    """A sample from numbers, lists, arrays or tensors, copied, so that whoever made it may use the memory again.

    Arrays and tensors keep whole numbers whole. Python's numbers and lists become floating, except a target
    that is one whole number or a boolean: that is a class. A target that is None or NaN is missing.
    """
    x, y, restart = split_sample(item, where)
    inputs, missing = _tensor(x, f"{where}: the input"), is_missing(y)
    return Sample(
        _cast(inputs, dtype),
        None if missing else _target(y, dtype, f"{where}: the target"),
        restart=_flag(restart, f"{where}: the restart flag"),
        missing=missing and y is not None,
    )


def _flag(restart: Any, what: str) -> bool:
    value = (
        restart.item() if isinstance(restart, Tensor | np.generic) and restart.size in (1, ()) else restart
    )
    if not isinstance(value, bool):
        raise StreamError(f"{what} is {_shown(restart)}; expected one of true and false")
    return value


def _target(y: Any, dtype: torch.dtype, what: str) -> Tensor:
    if isinstance(y, bool | int):
        return torch.tensor(int(y))
    return _cast(as_target(_tensor(y, what)), dtype)


def _cast(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype) if values.is_floating_point() or values.dtype == torch.bool else values


def rows_of(values: Any, what: str) -> Tensor:
    """Rows as a tensor, which may be their own memory; `what` opens the StreamError for what is not numeric."""
    if isinstance(values, Tensor):
        return values.detach()
    try:
        array = values if isinstance(values, np.ndarray) else np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        message = f"{what} is a {type(values).__name__} that makes no array of numbers: {first_line(error)}"
        raise StreamError(message) from None
    return tensor_of(array, what)


def _tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray | np.generic):
        return tensor_of(np.array(value, subok=True), what)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "biuf":
        raise StreamError(f"{what} is {_shown(value)}; expected numbers, all of one shape")
    return torch.from_numpy(array.astype(np.float64))


def tensor_of(array: np.ndarray, what: str) -> Tensor:
    """The tensor of a numeric array in any order of bytes and axes; `what` opens the StreamError for any other.

    It shares the array's memory, unless torch has no such view of it, or it must not be written to.
    """
    if array.dtype.kind not in "biufc":
        remedy = "; convert it with astype" if array.dtype.kind == "O" else ""
        raise StreamError(f"{what} is an array of {array.dtype}; expected numbers{remedy}")
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise StreamError(f"{what} is an array with masked values; fill them: array.filled(...)")
    wide = {"f": np.float64, "c": np.complex128}.get(array.dtype.kind)
    if wide is not None and array.dtype.itemsize > np.dtype(wide).itemsize:
        array = array.astype(wide)
    native = np.asarray(array).astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(native, requirements=["C", "W"]))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
