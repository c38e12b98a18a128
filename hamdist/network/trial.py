"""One evaluation of a layer as it will run, in training with its derivatives, tried before the first tick."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from hamdist.physics.hamiltonian import EvaluationGraph, Partials, Wanted, graph_at
from hamdist.physics.layers import Layer, Point
from hamdist.physics.numerics import differentiable
from hamdist.physics.pure_module import Context
from hamdist.physics.randomness import BEYOND_TORCH, Draws, seeded


class Trial(NamedTuple):
    """What one evaluation came to.

    values: outputs, drifts and buffers afterwards.  derivatives: none where none were taken.
    draws: the generators that were drawn from.  wrote: the weights and buffers that it changed.
    strange: whether it depends on weights that are not the layer's.  sparse: the weights whose derivative is sparse.
    """

    values: list[Tensor]
    derivatives: list[Tensor]
    draws: tuple[str, ...]
    wrote: frozenset[str]
    strange: bool
    sparse: tuple[str, ...]

    def same(self, other: "Trial") -> bool:
        """Whether two trials came to the same, up to the last digits: sums may run in another order. Derivatives are
        compared where both took them."""
        derived = bool(self.derivatives and other.derivatives)
        pairs = (self.values, other.values), (self.derivatives, other.derivatives)
        return all(len(a) == len(b) and all(map(_alike, a, b)) for a, b in pairs[: 1 + derived])


def tried(layer: Layer, signals: tuple[Tensor, ...], training: bool, derived: bool) -> Trial:
    """Evaluates a layer under one seed.  derived: with its derivatives. Raises what its module raises."""
    parameters, buffers = layer.pure.parameters(), layer.pure.buffers()
    device = signals[0].device
    with seeded(0, device, BEYOND_TORCH):
        draws = Draws(device)
        point = Point(signals, layer.initial_state(parameters, buffers, signals), Context(training))
        wanted = Wanted(True, tuple(differentiable(a.dtype) for a in signals))
        if derived:
            graph = graph_at(layer, parameters, buffers, point, wanted)
            strange, values, partials = _strange(graph), graph.values, _partials(graph)
            parameters = graph.parameters
        else:
            strange, values, partials = False, layer(parameters, buffers, point), None
        drawn = draws()
    own = dict([*layer.pure.module.named_parameters(), *layer.pure.module.named_buffers()])
    after = parameters | values.buffers
    wrote = frozenset(name for name, tensor in after.items() if not torch.equal(tensor, own[name]))
    weights = partials.weights if partials else {}
    sparse = tuple(name for name, g in weights.items() if g.layout != torch.strided)
    return Trial(_tensors(values), _tensors(partials), drawn, wrote, strange, sparse)


def _tensors(tree: object) -> list[Tensor]:
    return [t.detach() for t in tree_leaves(tree) if isinstance(t, Tensor)]


def _partials(graph: EvaluationGraph) -> Partials:
    """The derivatives for costates at random."""
    q, *p = (_costate(y) for y in (graph.values.output, *graph.values.drift))
    return graph.pullback(q, tuple(p))


def lively(signal: Tensor) -> Tensor:
    """Random numbers of the same looks where a signal is all zeros, which hide what a layer does with it."""
    if not differentiable(signal.dtype) or signal.any():
        return signal
    return _costate(signal)


def _costate(like: Tensor) -> Tensor:
    """Random numbers of the same looks, the same each time."""
    generator = torch.Generator(like.device).manual_seed(0)
    dtype = like.dtype if differentiable(like.dtype) else torch.float32
    return torch.randn(like.shape, generator=generator, dtype=dtype, device=like.device)


def _strange(graph: EvaluationGraph) -> bool:
    """Whether derivatives lead to weights that are none of the graph's leaves."""
    own = {id(leaf) for leaf in graph.leaves}
    told = (graph.values.output, *graph.values.drift)
    waiting, seen = [y.grad_fn for y in told if y.grad_fn is not None], set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in own:
            return True
        waiting += [before for before, _ in node.next_functions if before is not None]
    return False


def _alike(a: Tensor, b: Tensor) -> bool:
    if (a.shape, a.dtype, a.layout) != (b.shape, b.dtype, b.layout):
        return False
    if not differentiable(a.dtype):
        return torch.equal(a, b)
    a, b = (t.to_dense() if t.layout != torch.strided else t for t in (a, b))
    tolerance = torch.finfo(a.dtype).eps ** 0.75  # a sum of N terms is off by √N ε at most, so to say
    largest = a.abs().nan_to_num(0, 0, 0).max().item() if a.numel() else 0.0
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance * largest, equal_nan=True)
