"""How far a layer's numbers have gone: its weights, its state, and what it heard."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.engine.layer_node import LayerNode
from hamdist.engine.node_spec import NodeSpec
from hamdist.network.graph import SOURCE
from hamdist.physics.layers import Point
from hamdist.physics.pure_module import Context
from hamdist.physics.statespace.contract import advanced
from hamdist.physics.step import Carry

UNITS = 128  # of a state whose eigenvalues are cheap
FAR = 1e3  # from here on a number is worth an explanation


class Extent(NamedTuple):
    """How far off a layer is.

    largest: the largest magnitude in its weights, costates and state; infinity where one is not a number.
    unscaled: its costates come late, and its rate does not allow for that.  momentum: whether it has any.
    forward: whether it has a memory whose costate is integrated forward.  block: the ticks whose losses are summed
    before it learns, 0 where it learns at every tick.  radius: the largest magnitude of an eigenvalue of what a step
    does to a row of its state, where that was cheap to find.  heard: by the node that said it, the largest magnitude of
    what the layer heard and still keeps; infinity where one is not a number.  numbers: the largest finite magnitude in
    its weights, costates and state.  broken: whether a weight or its costate is not finite.
    """

    layer: str
    largest: float
    unscaled: bool
    momentum: bool
    forward: bool = False
    block: int = 0
    radius: float | None = None
    heard: Mapping[str, float] = {}
    numbers: float = 0.0
    broken: bool = False


def extents(nodes: Mapping[str, LayerNode]) -> list[Extent]:
    """The extent of every layer."""
    return [_extent(node) for node in nodes.values()]


def traits(plan: NodeSpec) -> Extent:
    """What is fixed of a layer, as if nothing in it had a size."""
    return Extent(
        plan.name,
        0.0,
        bool(plan.depth) and plan.dynamics.rate.delay_factor == 1.0,
        plan.dynamics.weight_coefficients.decay > 0,
        plan.layer.remembers and plan.horizon is None and not plan.dynamics.exact,
        0 if plan.horizon is None or plan.horizon.slid else plan.horizon.ticks,
    )


def _extent(node: LayerNode) -> Extent:
    largest = max(map(magnitude, _tensors(node.carry)), default=0.0)
    return traits(node.spec)._replace(
        largest=largest,
        radius=spectral_radius(node) if largest > FAR else None,
        heard=_heard(node),
        numbers=max([0.0, *map(_finite_magnitude, _tensors(node.carry))]),
        broken=not all(bool(torch.isfinite(t).all()) for t in _weights(node.carry)),
    )


def ran_away(layers: Iterable[Extent]) -> bool:
    """Whether weights, states, or what layers said to each other grew, though no sample that entered is large."""
    known = list(layers)
    if max(layer.numbers for layer in known) > FAR:
        return True
    said = [size for layer in known for node, size in layer.heard.items() if node != SOURCE]
    entered = [size for layer in known for node, size in layer.heard.items() if node == SOURCE]
    return max([0.0, *filter(math.isfinite, said)]) > FAR >= max([0.0, *entered])


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


def _weights(carry: Carry) -> list[Tensor]:
    return [*carry.parameters.values(), *carry.weight_costate.values()]


def _tensors(carry: Carry) -> list[Tensor]:
    return [*_weights(carry), *carry.state, *carry.state_costate]


def _heard(node: LayerNode) -> dict[str, float]:
    """From the points that it keeps, and that of this tick."""
    found: dict[str, float] = {}
    present = [] if node.state.present is None else [node.state.present]
    for evaluation in (*node.state.kept, *present):
        inputs = () if evaluation is None else evaluation.point.inputs
        for edge, a in zip(node.spec.into, inputs, strict=False):
            found[edge.source] = max(found.get(edge.source, 0.0), magnitude(a))
    return found


def magnitude(tensor: Tensor) -> float:
    """The largest in a tensor, infinity where one is not a number."""
    if not tensor.numel():
        return 0.0
    return float(torch.nan_to_num(tensor.abs().max().double(), nan=math.inf, posinf=math.inf))


def _finite_magnitude(tensor: Tensor) -> float:
    """The largest of those that are finite."""
    return magnitude(torch.nan_to_num(tensor.abs(), nan=0.0, posinf=0.0))
