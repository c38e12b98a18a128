"""The state costate integrated backward over a window of time, where it was integrated forward with everything else.

    p_end = 0        p_t = p_{t+1} + τ ∂H_t/∂ξ (ξ_t, p_{t+1})        G = Σ_t ∂H_t/∂θ (ξ_t, p_{t+1})

p/τ is the gradient that backpropagation through time finds, and G what it finds for the weights.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hamdist.physics.hamiltonian import Partials, Wanted
from hamdist.physics.layers import Layer, Point, Tensors
from hamdist.physics.sums import plus
from hamdist.physics.tick import Carry, evaluate, forgotten


def swept(
    layer: Layer,
    carry: Carry,
    points: Sequence[Point],
    costates: Sequence[Tensor],
    tau: float,
    wanted: Wanted,
) -> tuple[Carry, Partials]:
    """The carry with p at the first point, and the partial derivatives of the window.

    points, costates: of successive ticks, the latest last; each costate is the q of its point. An episode that begins
    at a point knows nothing of what was before. The partials by the weights are summed; those by an input are of all
    points [len(points), …], in their order; those by the state are the last p.
    """
    carry = carry._replace(state_costate=tuple(map(torch.zeros_like, carry.state)))
    weights: Tensors = {}
    returned: list[tuple[Tensor | None, ...]] = []
    for point, q in zip(reversed(points), reversed(costates), strict=True):
        _, pullback = evaluate(layer, carry, point, wanted)
        assert pullback is not None
        partials = pullback(q, carry.state_costate)
        costate = tuple(plus(p, g, tau) for p, g in zip(carry.state_costate, partials.state, strict=True))
        carry = forgotten(carry._replace(state_costate=costate), point.restarts)
        weights = {name: weights[name] + g if name in weights else g for name, g in partials.weights.items()}
        returned.append(partials.inputs)
    inputs = tuple(_of_all(tensors) for tensors in zip(*reversed(returned), strict=True))
    return carry, Partials(weights, inputs, carry.state_costate)


def _of_all(tensors: Sequence[Tensor | None]) -> Tensor | None:
    known = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(known) if known else None
