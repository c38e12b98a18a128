"""A layer's Hamiltonian H = ⟨q, y⟩ + ⟨p, f⟩ and its partial derivatives, in one reverse-mode call.

⟨p, f⟩ = Re Σ p̄ f, summed over batch and units. Source: arXiv 2409.12038, Section 3; the loss and the
regularisation enter through q (at an output layer, γ ∂loss/∂y) and through the drive of the weights.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.physics.layers import Layer, Point, Values
from hamdist.physics.numerics import transformed
from hamdist.physics.pure_module import Context, Tensors


class Wanted(NamedTuple):
    """Which partial derivatives are asked for; those of the state always are."""

    weights: bool = True
    inputs: tuple[bool, ...] = (True,)


class Partials(NamedTuple):
    """∂H/∂θ by parameter, ∂H/∂a by input (None where not wanted), ∂H/∂ξ by component."""

    weights: Tensors
    inputs: tuple[Tensor | None, ...]
    state: tuple[Tensor, ...]


_Evaluated = tuple[tuple[Tensor, ...], Tensors]  # (y, *f) and the buffers after
Pullback = Callable[[Tensor, tuple[Tensor, ...]], Partials]


class Linearised(Layer):
    """A layer that brings its own way to `linearise`, such as operations that were traced once for all."""

    @abstractmethod
    def linearise(
        self, parameters: Tensors, buffers: Tensors, point: Point, wanted: Wanted
    ) -> tuple[Values, Pullback]:
        """As the function of this name."""


def hamiltonian(values: Values, q: Tensor, p: tuple[Tensor, ...]) -> Tensor:
    """H as a number; `linearise` differentiates it without forming it."""
    pairs = [(q, values.output), *zip(p, values.drift, strict=True)]
    return torch.stack([(costate.conj() * value).real.sum() for costate, value in pairs]).sum()


def linearise(
    layer: Layer, parameters: Tensors, buffers: Tensors, point: Point, wanted: Wanted
) -> tuple[Values, Pullback]:
    """Evaluates a layer at a point; the pullback maps (q, p) to the partial derivatives of H there, once."""
    if isinstance(layer, Linearised):
        return layer.linearise(parameters, buffers, point, wanted)
    by = _by_transform if transformed() else _by_autograd
    return by(layer, parameters, buffers, point, wanted)


def _by_autograd(
    layer: Layer, parameters: Tensors, buffers: Tensors, point: Point, wanted: Wanted
) -> tuple[Values, Pullback]:
    graph = graph_at(layer, parameters, buffers, point, wanted)
    values = graph.values
    after = {name: buffer.detach() for name, buffer in values.buffers.items()}
    drift = tuple(f.detach() for f in values.drift)
    return Values(values.output.detach(), drift, after), graph.pullback


def graph_at(
    layer: Layer, parameters: Tensors, buffers: Tensors, point: Point, wanted: Wanted
) -> "EvaluationGraph":
    """A layer evaluated at a point, with autograd's graph of it."""
    with torch.enable_grad():
        weights = {name: _leaf(theta) for name, theta in parameters.items()} if wanted.weights else {}
        signals = tuple(_leaf(a) if want else a for a, want in zip(point.inputs, wanted.inputs, strict=True))
        state = tuple(map(_leaf, point.state))
        values = layer(parameters | weights, buffers, point._replace(inputs=signals, state=state))
    leaves = (*weights.values(), *(a for a, want in zip(signals, wanted.inputs, strict=True) if want), *state)
    return EvaluationGraph(
        layer, values, parameters | weights, buffers, point.context, tuple(weights), leaves, wanted
    )


class EvaluationGraph(NamedTuple):
    """An evaluation that can be differentiated, once, by its leaves: the weights of these names, the inputs that are
    wanted, and the state."""

    layer: Layer
    values: Values
    parameters: Tensors
    buffers: Tensors
    context: Context
    names: tuple[str, ...]
    leaves: tuple[Tensor, ...]
    wanted: Wanted

    def pullback(self, q: Tensor, p: tuple[Tensor, ...]) -> Partials:
        """The partial derivatives of H; code that they run meets the module as it was evaluated."""
        outputs = (self.values.output, *self.values.drift)
        told = [(y, costate) for y, costate in zip(outputs, (q, *p), strict=True) if y.requires_grad]
        with self.layer.pure.present(self.parameters, self.buffers, self.context):
            gradients = _gradients(told, self.leaves)
        return _partials(self.names, self.wanted, gradients)


def _leaf(tensor: Tensor) -> Tensor:
    """The tensor as one that derivatives are taken by, in the same memory."""
    return tensor.detach().requires_grad_()


def _gradients(told: list[tuple[Tensor, Tensor]], leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """∂/∂leaf of the sum of ⟨costate, y⟩, for each leaf; zeros where y does not depend on it."""
    if not (told and leaves):
        return tuple(map(torch.zeros_like, leaves))
    outputs, costates = zip(*told, strict=True)
    return torch.autograd.grad(outputs, leaves, costates, materialize_grads=True)


def _by_transform(
    layer: Layer, parameters: Tensors, buffers: Tensors, point: Point, wanted: Wanted
) -> tuple[Values, Pullback]:
    names = tuple(parameters) if wanted.weights else ()
    signals = tuple(a for a, want in zip(point.inputs, wanted.inputs, strict=True) if want)
    primals = (*(parameters[name] for name in names), *signals, *point.state)
    if not primals:
        return layer(parameters, buffers, point), lambda q, p: Partials({}, (None,) * len(wanted.inputs), ())
    ends = len(names), len(names) + len(signals)

    def evaluate(*primals: Tensor) -> _Evaluated:
        weights = parameters | dict(zip(names, primals, strict=False))
        inputs = _spread(primals[ends[0] : ends[1]], wanted.inputs, point.inputs)
        values = layer(weights, buffers, point._replace(inputs=inputs, state=primals[ends[1] :]))
        return (values.output, *values.drift), values.buffers

    (output, *drift), pull, after = torch.func.vjp(evaluate, *primals, has_aux=True)  # type: ignore[misc]

    def pullback(q: Tensor, p: tuple[Tensor, ...]) -> Partials:
        with layer.pure.present(parameters, buffers, point.context):
            gradients = pull((q, *p), retain_graph=False)
        return _partials(names, wanted, gradients)

    return Values(output, tuple(drift), after), pullback


def _partials(names: tuple[str, ...], wanted: Wanted, gradients: tuple[Tensor, ...]) -> Partials:
    """Gradients by the weights of these names, the inputs wanted and the state, in this order, told apart."""
    ends = len(names), len(names) + sum(wanted.inputs)
    inputs = _spread(gradients[ends[0] : ends[1]], wanted.inputs, (None,) * len(wanted.inputs))
    return Partials(dict(zip(names, gradients, strict=False)), inputs, gradients[ends[1] :])


def _spread(chosen: tuple, mask: tuple[bool, ...], others: tuple) -> tuple:
    """`others` with the entries under the mask replaced, in order, by `chosen`."""
    replacements = iter(chosen)
    return tuple(next(replacements) if want else other for want, other in zip(mask, others, strict=True))
