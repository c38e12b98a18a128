"""Which layer's numbers ran away, and what to lower."""

from collections.abc import Mapping

import torch
from torch import Tensor

from hamdist.errors import DivergenceError
from hamdist.runtime.cell import Cell


def diagnosis(tick: int, loss: Tensor | None, cells: Mapping[str, Cell]) -> str:
    """Says which layer has the largest numbers, the tick, and the remedy.

    loss: the one that is not finite, None where weights ran away before any loss told of it.
    """
    name = max(cells, key=lambda name: _largest(cells[name]))
    cell = cells[name]
    remedy = "lower learning.beta"
    if any(c.plan.depth and c.plan.dynamics.rate.delay_factor == 1.0 for c in cells.values()):
        remedy += ", or set learning.rate: delay-scaled"
    if cell.plan.dynamics.weight_coefficients.decay > 0:
        remedy += ", or raise learning.dissipation.weight (less momentum)"
    seen = "" if loss is None else f"the loss is {loss.item()}; "
    return (
        f"diverged at tick {tick}: {seen}layer {name!r} is the furthest off, with weights or costates up to "
        f"{_largest(cell):.3g}: {remedy}"
    )


def check_finite(tick: int, cells: Mapping[str, Cell]) -> None:
    """Raises DivergenceError where a weight or costate is not finite, though no loss has told of it yet."""
    for cell in cells.values():
        if _largest(cell) == float("inf"):
            raise DivergenceError(diagnosis(tick, None, cells))


def _largest(cell: Cell) -> float:
    """The largest magnitude in a layer's weights, costates and state; infinity where one is not a number."""
    carry = cell.carry
    tensors = [*carry.parameters.values(), *carry.weight_costate.values(), *carry.state, *carry.state_costate]
    largest = [
        torch.nan_to_num(t.abs().max(), nan=float("inf"), posinf=float("inf")).item()
        for t in tensors
        if t.numel()
    ]
    return max(largest, default=0.0)
