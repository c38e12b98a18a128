"""S = ∂ξ/∂θ of a memory whose units move each by themselves, carried forward from tick to tick.

    S' = ∂ξ'/∂ξ S + ∂ξ'/∂θ        dL/dθ = ∂L/∂θ + ∂L/∂ξ S        with ξ' = ξ + τ f(a, ξ; θ)

L is the loss of this tick: at weights that stand still, what backpropagation through all ticks before finds (real-time
recurrent learning: Williams and Zipser, 1989; of diagonal memories: Zucchet et al., 2023).

Shapes: B batch, k units of a block, n blocks; S by the name of a weight, [B, k, *weight.shape]: the units of the block
that a row of the weight moves.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from hamdist.physics.pure_module import Tensors
from hamdist.physics.statespace.apart import UnitBlocks
from hamdist.physics.statespace.contract import State

Met = tuple[Tensor, State, Tensor | None]
"""What a memory hears, its state, and the rows that begin anew."""
Step = Callable[[Tensors, Tensor, State, Tensor | None], State]
"""The state after a step, by the weights and what a memory meets."""


def reached(values: Callable[[Tensors], State], parameters: Tensors) -> tuple[str, ...]:
    """The parameters that values depend on."""
    with torch.enable_grad():
        leaves = {name: theta.detach().requires_grad_() for name, theta in parameters.items()}
        told = [value.sum() for value in values(leaves) if value.requires_grad]
        found = torch.autograd.grad(told, list(leaves.values()), allow_unused=True) if told else ()
    return tuple(name for name, gradient in zip(leaves, found, strict=False) if gradient is not None)


def stray_weights(blocks: UnitBlocks, step: Step, weights: Tensors, met: Met) -> tuple[str, ...]:
    """Those of a memory's weights whose rows move units of other blocks than theirs, seen at the first and the last.

    met: of one row.
    """
    told, pull = torch.func.vjp(lambda weights: blocks.of(step(weights, *met)), weights)  # type: ignore[misc]
    found: dict[str, bool] = {}
    for block in (0, told.shape[-1] - 1):
        asked = torch.zeros_like(told)
        asked[..., block] = 1
        (own,) = pull(asked)
        for name, gradient in own.items():
            if gradient.dim() and len(gradient) % told.shape[-1] == 0:
                gradient = torch.where(blocks.along(asked[0, 0], gradient) > 0, 0, gradient)
            found[name] = found.get(name, False) or bool(gradient.any())
    return tuple(name for name, stray in found.items() if stray)


def past_drive(blocks: UnitBlocks, sensitivity: Tensors, costate: State) -> Tensors:
    """∂L/∂ξ S, summed over the batch.  costate: ∂L/∂ξ, [B, H] a component."""
    by_block = blocks.of(costate)
    return {name: (blocks.along(by_block, s[0, 0]) * s).sum((0, 1)) for name, s in sensitivity.items()}


def advanced_sensitivity(
    blocks: UnitBlocks, step: Step, weights: Tensors, met: Met, sensitivity: Tensors
) -> Tensors:
    """S'. Where an episode begins S is zero, and the step's own derivative has that of the start."""
    turn, own = jacobians(blocks, step, weights, met)
    found = {}
    for name, s in sensitivity.items():
        after = own[name]
        for unit in range(s.shape[1]):
            after = after + blocks.along(turn[:, :, unit], weights[name]) * s[:, unit : unit + 1]
        found[name] = after
    return found


def jacobians(blocks: UnitBlocks, step: Step, weights: Tensors, met: Met) -> tuple[Tensor, Tensors]:
    """∂ξ'/∂ξ [B, k, k, n], the latter unit moving the former, and ∂ξ'/∂θ as S is."""
    of_row = partial(_of_row, blocks, step, weights)
    return torch.vmap(of_row, in_dims=(0, 0, None if met[2] is None else 0))(*met)


def _of_row(
    blocks: UnitBlocks, step: Step, weights: Tensors, a: Tensor, state: State, restart: Tensor | None
) -> tuple[Tensor, Tensors]:
    """The same of one row. As blocks do not move each other, all of them answer at once."""

    def after(weights: Tensors, state: State) -> Tensor:
        lone = tuple(xi.unsqueeze(0) for xi in state)
        flags = None if restart is None else restart.unsqueeze(0)
        return blocks.of(step(weights, a.unsqueeze(0), lone, flags)).squeeze(0)

    told, pull = torch.func.vjp(after, weights, state)  # type: ignore[misc]
    each = torch.eye(len(told), dtype=told.dtype, device=told.device)
    own, turn = torch.vmap(pull)(each.unsqueeze(-1).expand(-1, *told.shape))
    return blocks.of(turn), own
