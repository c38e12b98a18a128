"""A layer's Hamiltonian H = ⟨q, y⟩ + ⟨p, f⟩ and its partial derivatives, in one reverse-mode call.

⟨p, f⟩ = Re Σ p̄ f, summed over batch and units. Source: arXiv 2409.12038, Section 3; the loss and the
regularisation enter through q (at an output layer, γ ∂loss/∂y) and through the drive of the weights.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.physics.layers import Layer, Point, Tensors, Values


class Wanted(NamedTuple):
    """Which partial derivatives are asked for; those of the state always are."""

    weights: bool = True
    inputs: tuple[bool, ...] = (True,)


class Partials(NamedTuple):
    """∂H/∂θ by parameter, ∂H/∂a by input (None where not wanted), ∂H/∂ξ by component."""

    weights: Tensors
    inputs: tuple[Tensor | None, ...]
    state: tuple[Tensor, ...]


Pullback = Callable[[Tensor, tuple[Tensor, ...]], Partials]


def hamiltonian(values: Values, q: Tensor, p: tuple[Tensor, ...]) -> Tensor:
    """H as a number; `linearise` differentiates it without forming it."""
    pairs = [(q, values.output), *zip(p, values.drift, strict=True)]
    return torch.stack([(costate.conj() * value).real.sum() for costate, value in pairs]).sum()


def linearise(
    layer: Layer, parameters: Tensors, buffers: Tensors, point: Point, wanted: Wanted
) -> tuple[Values, Pullback]:
    """Evaluates a layer at a point; the pullback maps (q, p) to the partial derivatives of H there, once."""
    moving, fixed = (parameters, {}) if wanted.weights else ({}, parameters)
    signals = tuple(a for a, want in zip(point.inputs, wanted.inputs, strict=True) if want)
    if not (moving or signals or point.state):
        return layer(parameters, buffers, point), lambda q, p: Partials({}, (None,) * len(wanted.inputs), ())

    def evaluate(
        weights: Tensors, signals: tuple[Tensor, ...], state: tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, tuple[Tensor, ...]], Tensors]:
        here = Point(_spread(signals, wanted.inputs, point.inputs), state, point.context)
        values = layer({**fixed, **weights}, buffers, here)
        return (values.output, values.drift), values.buffers

    primals = (moving, signals, point.state)
    (output, drift), pull, after = torch.func.vjp(evaluate, *primals, has_aux=True)  # type: ignore[misc]

    def pullback(q: Tensor, p: tuple[Tensor, ...]) -> Partials:
        weights, inputs, state = pull((q, p), retain_graph=False)
        return Partials(weights, _spread(inputs, wanted.inputs, (None,) * len(wanted.inputs)), state)

    return Values(output, drift, after), pullback


def _spread(chosen: tuple, mask: tuple[bool, ...], others: tuple) -> tuple:
    """`others` with the entries under the mask replaced, in order, by `chosen`."""
    replacements = iter(chosen)
    return tuple(next(replacements) if want else other for want, other in zip(mask, others, strict=True))
