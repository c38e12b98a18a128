"""The state costate integrated backward over a window of time, where it was integrated forward with everything else.

    p_end = 0        p_t = p_{t+1} + τ ∂H_t/∂ξ (ξ_t, p_{t+1})        G = Σ_t ∂H_t/∂θ (ξ_t, p_{t+1})

p/τ is the gradient that backpropagation through time finds, and G what it finds for the weights.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.physics.hamiltonian import Partials, Wanted, linearise
from hamdist.physics.layers import Layer, Point
from hamdist.physics.numerics import plus
from hamdist.physics.pure_module import Tensors
from hamdist.physics.step import Carry, forgotten


class Swept(NamedTuple):
    """What a sweep has come to: p, and the sum of ∂H/∂θ so far."""

    costate: tuple[Tensor, ...]
    drive: Tensors


Step = Callable[[Tensors, Tensors, Point, Tensor, Swept, Wanted], tuple[Swept, tuple[Tensor | None, ...]]]
"""One point further back, by the weights, the buffers and the q of the point: p there, the drive with its share, and
∂H/∂a."""


def swept(
    step: Step, carry: Carry, points: Sequence[Point], costates: Sequence[Tensor], wanted: Wanted
) -> tuple[Carry, Partials]:
    """The carry with p at the first point, and the partial derivatives of the window.

    points, costates: of successive ticks, the latest last; each costate is the q of its point. The partials by the
    weights are summed; those by an input are of all points [len(points), …], in their order; those by the state are the
    last p.
    """
    weights = carry.parameters if wanted.weights else {}
    so_far = Swept(_zeros(carry.state), dict(zip(weights, _zeros(tuple(weights.values())), strict=True)))
    returned: list[tuple[Tensor | None, ...]] = []
    for point, q in zip(reversed(points), reversed(costates), strict=True):
        so_far, told = step(carry.parameters, carry.buffers, point, q, so_far, wanted)
        returned.append(told)
    inputs = tuple(_of_all(tensors) for tensors in zip(*reversed(returned), strict=True))
    return carry._replace(state_costate=so_far.costate), Partials(so_far.drive, inputs, so_far.costate)


def stepped(
    layer: Layer,
    tau: float,
    parameters: Tensors,
    buffers: Tensors,
    point: Point,
    q: Tensor,
    so_far: Swept,
    wanted: Wanted,
) -> tuple[Swept, tuple[Tensor | None, ...]]:
    """A `Step` of a layer. An episode that begins at a point knows nothing of what was before."""
    _, pullback = linearise(layer, parameters, buffers, point, wanted)
    partials = pullback(q, so_far.costate)
    costate = tuple(plus(p, g, tau) for p, g in zip(so_far.costate, partials.state, strict=True))
    drive = {name: so_far.drive[name] + gradient for name, gradient in partials.weights.items()}
    return Swept(forgotten(costate, point.restarts), drive), partials.inputs


def _zeros(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(map(torch.zeros_like, tensors))


def _of_all(tensors: Sequence[Tensor | None]) -> Tensor | None:
    known = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(known) if known else None
