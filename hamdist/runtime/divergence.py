"""Which layer's numbers ran away, and what to lower."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from hamdist.errors import DivergenceError
from hamdist.runtime.cell import Cell


class Extent(NamedTuple):
    """How far off a layer is.

    largest: the largest magnitude in its weights, costates and state; infinity where one is not a number.
    unscaled: its costates come late, and its rate does not allow for that.  momentum: whether it has any.
    """

    layer: str
    largest: float
    unscaled: bool
    momentum: bool


def extents(cells: Mapping[str, Cell]) -> list[Extent]:
    """The extent of every layer."""
    return [
        Extent(
            name,
            _largest(cell),
            bool(cell.plan.depth) and cell.plan.dynamics.rate.delay_factor == 1.0,
            cell.plan.dynamics.weight_coefficients.decay > 0,
        )
        for name, cell in cells.items()
    ]


def diagnosis(tick: int, loss: float | None, layers: Sequence[Extent]) -> str:
    """Says which layer has the largest numbers, the tick, and the remedy.

    loss: the one that is not finite, None where weights ran away before any loss told of it.
    """
    worst = max(layers, key=lambda layer: layer.largest)
    remedy = "lower learning.beta"
    if any(layer.unscaled for layer in layers):
        remedy += ", or set learning.rate: delay-scaled"
    if worst.momentum:
        remedy += ", or raise learning.dissipation.weight (less momentum)"
    seen = "" if loss is None else f"the loss is {loss}; "
    return (
        f"diverged at tick {tick}: {seen}layer {worst.layer!r} is the furthest off, with weights or costates up to "
        f"{worst.largest:.3g}: {remedy}"
    )


def check_finite(tick: int, layers: Sequence[Extent]) -> None:
    """Raises DivergenceError where a weight or costate is not finite, though no loss has told of it yet."""
    if any(layer.largest == float("inf") for layer in layers):
        raise DivergenceError(diagnosis(tick, None, layers))


def _largest(cell: Cell) -> float:
    carry = cell.carry
    tensors = [*carry.parameters.values(), *carry.weight_costate.values(), *carry.state, *carry.state_costate]
    largest = [
        torch.nan_to_num(t.abs().max(), nan=float("inf"), posinf=float("inf")).item()
        for t in tensors
        if t.numel()
    ]
    return max(largest, default=0.0)
