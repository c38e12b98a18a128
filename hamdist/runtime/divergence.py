"""Which layer's numbers ran away, and what to lower."""

from collections.abc import Mapping

import torch
from torch import Tensor

from hamdist.runtime.cell import Cell


def diagnosis(tick: int, loss: Tensor, cells: Mapping[str, Cell]) -> str:
    """A message for a loss that is not finite: the layer with the largest numbers, the tick, the remedy."""
    name = max(cells, key=lambda name: _largest(cells[name]))
    cell = cells[name]
    remedy = "lower learning.beta"
    if cell.plan.depth and cell.plan.dynamics.rate.delay_factor == 1.0:
        remedy += ", or set learning.rate: delay-scaled"
    if cell.plan.dynamics.weight_coefficients.decay > 0:
        remedy += ", or raise learning.dissipation.weight (less momentum)"
    return (
        f"diverged at tick {tick}: the loss is {loss.item()}; layer {name!r} is the furthest off, with weights or "
        f"costates up to {_largest(cell):.3g}: {remedy}"
    )


def _largest(cell: Cell) -> float:
    """The largest magnitude in a layer's weights, costates and state; infinity where one is not a number."""
    carry = cell.carry
    tensors = [*carry.parameters.values(), *carry.weight_costate.values(), *carry.state, *carry.state_costate]
    largest = [torch.nan_to_num(t.abs().max(), nan=float("inf")).item() for t in tensors if t.numel()]
    return max(largest, default=0.0)
