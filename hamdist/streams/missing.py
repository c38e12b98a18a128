"""Targets that are not there: how sources write them, and what stands for them in a tensor.

Among numbers that is NaN in a whole row, among classes −100, which torch's losses ignore.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

NO_CLASS = -100
CHOICES = ("refuse", "predict")
"""What a sample without a target is: a mistake, or one to predict and not to learn from."""
REMEDY = "with missing_target: predict such samples are predicted, and nothing is learnt from them"
SPELLINGS = {"", "NA", "N/A", "n/a", "<NA>", "NULL", "null", "None", "NaT"}

NO_FORM = (
    "no sample so far has a target, which would tell what one looks like: begin with a batch that has one"
)


def is_missing(value: Any) -> bool:
    """None, a number that is none (NaN, NaT, pandas' NA), or what writes one of these as text."""
    if value is None:
        return True
    if isinstance(value, str):
        text = value.strip()
        return text in SPELLINGS or text.lower().lstrip("+-") == "nan"
    if isinstance(value, Tensor):
        return value.numel() > 0 and bool(no_number(value).all())
    if isinstance(value, np.ndarray):
        return value.size > 0 and value.dtype.kind in "fc" and bool(np.isnan(value).all())
    if isinstance(value, list | tuple):
        return bool(value) and all(map(is_missing, value))
    return type(value).__name__ in ("NAType", "NaTType") or (_is_real(value) and math.isnan(value))


def _is_real(value: Any) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, int)


def no_number(values: Tensor) -> Tensor:
    """Where values are NaN; nowhere among whole numbers."""
    if values.is_floating_point() or values.is_complex():
        return torch.isnan(values)
    return torch.zeros_like(values, dtype=torch.bool)


def missing_rows(targets: Tensor) -> Tensor:
    """The rows [R] that are NaN as a whole, as booleans."""
    absent = no_number(targets).flatten(1) if targets.dim() > 1 else no_number(targets)[:, None]
    return absent.all(1) if absent.shape[1] else absent.new_zeros(len(absent))


def nothing(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A target that is not there."""
    gone = NO_CLASS if not (dtype.is_floating_point or dtype.is_complex) else math.nan
    return torch.full(tuple(shape), gone, dtype=dtype)


def with_gaps(rows: Sequence[Any]) -> list[Any]:
    """Rows of which some may be missing, these like the others: one that is there and whole numbers has −100."""
    there = [row for row in rows if not is_missing(row)]
    if not there or len(there) == len(rows):
        return list(rows)
    example = np.asarray(there[0])
    gone = NO_CLASS if example.dtype.kind in "biu" else math.nan
    return [np.full(example.shape, gone) if is_missing(row) else row for row in rows]
