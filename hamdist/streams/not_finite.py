"""What in a sample is not finite, and the count of the samples that were left out for it."""

import logging
import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.streams.missing import missing_rows

ON_BAD = ("stop", "skip")
"""What a sample is that is not finite: a mistake, or one to be left out."""
_log = logging.getLogger(__name__)


class Odd(NamedTuple):
    """what: "input" or "target".  row: in which one it is.  told: where in the row, and what it is."""

    what: str
    row: int
    told: str


def odd_in(values: Tensor, what: str) -> Odd | None:
    """The first value of rows [R, …] that is not finite, if there is one."""
    if not values.is_floating_point() or math.isfinite(values.sum()):
        return None
    if not (values - values).any():  # all are finite, and it is their sum that is too large
        return None
    row, *index = torch.nonzero(~torch.isfinite(values))[0].tolist()
    feature = index[0] if len(index) == 1 else tuple(index)
    value = values[(row, *index)].item()
    return Odd(what, row, f"feature {feature} of the {what} is {value}")


def odd_in_targets(targets: Tensor) -> Odd | None:
    """The same of targets, but for rows that are NaN as a whole: these are missing."""
    missing = missing_rows(targets)
    if missing.any():
        targets = targets.masked_fill(missing.reshape(-1, *[1] * (targets.dim() - 1)), 0)
    return odd_in(targets, "target")


def odd_in_sample(inputs: Tensor, targets: Tensor | None) -> Odd | None:
    """The same of a single sample."""
    odd = odd_in(inputs.reshape(1, -1), "input")
    return odd or (None if targets is None else odd_in_targets(targets.reshape(1, -1)))


def with_one_more(skipped: Mapping[str, int], odd: Odd, where: str, rows: int = 1) -> dict[str, int]:
    """The counts, by what is not finite, after so many samples more; the first of each kind is told of."""
    if odd.what not in skipped:
        left_out = "it is" if rows == 1 else f"its batch, of {rows}, is"
        _log.warning(
            "%s: %s; %s left out, as on_bad says, and what follows is counted", where, odd.told, left_out
        )
    return {**skipped, odd.what: skipped.get(odd.what, 0) + rows}
