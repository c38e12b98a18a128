"""Which layer's numbers ran away, and what to lower."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.engine.layer_node import LayerNode
from hamdist.errors import DivergenceError
from hamdist.physics.layers import Point
from hamdist.physics.pure_module import Context
from hamdist.physics.statespace.contract import advanced

UNITS = 128  # of a state whose eigenvalues are cheap
FAR = 1e3  # from here on a number is worth an explanation


class Extent(NamedTuple):
    """How far off a layer is.

    largest: the largest magnitude in its weights, costates and state; infinity where one is not a number.
    unscaled: its costates come late, and its rate does not allow for that.  momentum: whether it has any.
    forward: whether it has a memory whose costate is integrated forward.  block: the ticks whose losses are summed
    before it learns, 0 where it learns at every tick.  radius: the largest magnitude of an eigenvalue of what a step
    does to a row of its state, where that was cheap to find.
    """

    layer: str
    largest: float
    unscaled: bool
    momentum: bool
    forward: bool = False
    block: int = 0
    radius: float | None = None


def extents(nodes: Mapping[str, LayerNode]) -> list[Extent]:
    """The extent of every layer."""
    return [_extent(name, node) for name, node in nodes.items()]


def _extent(name: str, node: LayerNode) -> Extent:
    plan, largest = node.spec, _largest(node)
    return Extent(
        name,
        largest,
        bool(plan.depth) and plan.dynamics.rate.delay_factor == 1.0,
        plan.dynamics.weight_coefficients.decay > 0,
        plan.layer.remembers and plan.horizon is None,
        0 if plan.horizon is None or plan.horizon.slid else plan.horizon.ticks,
        spectral_radius(node) if largest > FAR else None,
    )


def diagnosis(tick: int, loss: float | None, layers: Sequence[Extent]) -> str:
    """Says which layer has the largest numbers, the tick, and the remedy.

    loss: the one that is not finite, None where weights ran away before any loss told of it.
    """
    worst = max(layers, key=lambda layer: layer.largest)
    remedy = "lower learning.beta"
    if worst.block > 1:
        remedy += f" (the losses of {worst.block} ticks add up)"
    if worst.forward:
        remedy += ", raise learning.dissipation.state, or set learning.clip"
    if any(layer.unscaled for layer in layers):
        remedy += ", or set learning.rate: delay-scaled"
    if worst.momentum:
        remedy += ", or raise learning.dissipation.weight (less momentum)"
    seen = "" if loss is None else f"the loss is {loss}; "
    grows = "" if worst.radius is None else f" (a step multiplies its state by up to {worst.radius:.3g})"
    return (
        f"diverged at tick {tick}: {seen}layer {worst.layer!r} is the furthest off, with weights or costates up to "
        f"{worst.largest:.3g}{grows}: {remedy}"
    )


def check_finite(tick: int, layers: Sequence[Extent]) -> None:
    """Raises DivergenceError where a weight or costate is not finite, though no loss has told of it yet."""
    if any(layer.largest == float("inf") for layer in layers):
        raise DivergenceError(diagnosis(tick, None, layers))


def spectral_radius(node: LayerNode) -> float | None:
    """max |eigenvalue| of ∂ξ'/∂ξ of one row, at rest, by the weights as they are.

    None where a layer has no memory, one of more than UNITS, or weights that are not finite.
    """
    layer, carry, tau = node.spec.layer, node.carry, node.spec.dynamics.tau
    state = tuple(xi[:1] for xi in carry.state)
    if not layer.remembers or sum(xi.numel() for xi in state) > UNITS:
        return None
    inputs = tuple(heard.zeros()[:1] for heard in node.spec.facts.hears)

    def step(*xi: Tensor) -> Tensor:
        drift = layer(carry.parameters, carry.buffers, Point(inputs, xi, Context(training=False))).drift
        return torch.cat([after.reshape(-1) for after in advanced(xi, drift, tau)])

    rest = tuple(map(torch.zeros_like, state))
    with torch.enable_grad():
        jacobians = torch.autograd.functional.jacobian(step, rest)
    whole = torch.cat([jacobian.flatten(1) for jacobian in jacobians], 1)
    return torch.linalg.eigvals(whole).abs().max().item() if torch.isfinite(whole).all() else None


def _largest(node: LayerNode) -> float:
    carry = node.carry
    tensors = [*carry.parameters.values(), *carry.weight_costate.values(), *carry.state, *carry.state_costate]
    largest = [
        torch.nan_to_num(t.abs().max(), nan=float("inf"), posinf=float("inf")).item()
        for t in tensors
        if t.numel()
    ]
    return max(largest, default=0.0)
