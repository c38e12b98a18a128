"""The layer contract: y = g(a, ξ; θ) and, for a layer with a state, the drift f(a, ξ; θ), as pure functions.

Shapes: a_B…: inputs, B rows first; y_B…: output; ξ: one tensor per component of the state.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.physics.modules import invertible
from hamdist.physics.pure_module import Context, PureModule, Tensors
from hamdist.physics.randomness import BEYOND_TORCH


class Point(NamedTuple):
    """Where a layer is evaluated, and under which circumstances.

    restarts: the rows [B] whose state is where it starts; None where there are none, or nobody wants to know.
    """

    inputs: tuple[Tensor, ...]
    state: tuple[Tensor, ...] = ()
    context: Context = Context()
    restarts: Tensor | None = None


class Values(NamedTuple):
    """What one evaluation gives: y, f (one tensor per component of ξ) and the buffers after it."""

    output: Tensor
    drift: tuple[Tensor, ...]
    buffers: Tensors


def along(rows: Tensor, state: tuple[Tensor, ...]) -> list[Tensor]:
    """Flags of rows [B], or [N, B], as they broadcast to every component of a state."""
    return [rows.view(*rows.shape, *[1] * (xi.dim() - rows.dim())) for xi in state]


class Layer(ABC):
    """One layer of the network, stateless itself: parameters, buffers and state are handed in.

    latency: how many ticks pass before an input shows in the output (0: y depends on a; 1: only through ξ).
    remembers: whether its state is a memory of what was, and starts anew where an episode does.
    """

    latency: int = 0
    remembers: bool = False

    def __init__(self, pure: PureModule) -> None:
        self.pure = pure

    @property
    def invertible(self) -> bool:
        """Whether the reversible pairing can reconstruct this layer's input from its output."""
        return False

    def inverse(self, parameters: Tensors, buffers: Tensors, output: Tensor, context: Context) -> Tensor:
        """The input that an invertible layer maps to `output` with these parameters."""
        return self.pure.inverse(parameters, buffers, output, context)

    @abstractmethod
    def initial_state(
        self, parameters: Tensors, buffers: Tensors, inputs: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """ξ before the first input, for inputs of these shapes; of a layer that remembers, for these inputs."""

    def restarted(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: tuple[Tensor, ...],
        state: tuple[Tensor, ...],
        restarts: Tensor,
    ) -> tuple[Tensor, ...]:
        """ξ as it is before a first input in the rows of `restarts` [B]; as it is where nothing is remembered."""
        return state

    @property
    def retraceable(self) -> bool:
        """Whether its state can be integrated backward, from what it is after an input."""
        return False

    def earlier(
        self, parameters: Tensors, buffers: Tensors, point: Point, after: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """The state that the inputs of a point turned into `after`; of a layer that is retraceable."""
        raise NotImplementedError("this layer cannot be integrated backward")

    def initial_sensitivity(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: tuple[Tensor, ...],
        state: tuple[Tensor, ...],
    ) -> Tensors:
        """∂ξ/∂θ before a first input, zero, by the weights that move a memory: [B, k, *weight.shape], k the units that
        a row of the weight moves."""
        return {}

    def carried_sensitivity(
        self,
        parameters: Tensors,
        buffers: Tensors,
        point: Point,
        sensitivity: Tensors,
        costate: tuple[Tensor, ...],
    ) -> tuple[Tensors, Tensors]:
        """What the past adds to the drive, ∂H/∂ξ ∂ξ/∂θ, and ∂ξ/∂θ a step on from a point.  costate: ∂H/∂ξ."""
        raise NotImplementedError("this layer has no sensitivity")

    @abstractmethod
    def __call__(self, parameters: Mapping[str, Tensor], buffers: Tensors, point: Point) -> Values:
        """y and f at a point."""


class Instant(Layer):
    """No state: y = φ(a; θ)."""

    def initial_state(
        self, parameters: Tensors, buffers: Tensors, inputs: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        return ()

    def __call__(self, parameters: Mapping[str, Tensor], buffers: Tensors, point: Point) -> Values:
        output, buffers = self.pure(parameters, buffers, point.inputs, point.context)
        return Values(output, (), buffers)

    @property
    def invertible(self) -> bool:
        return invertible(self.pure.module)


class Relaxing(Layer):
    """A leaky state that relaxes to what the module says: dξ/dt = (φ(a; θ) − ξ)/T, y = ξ (T > τ/2).

    With T = τ it is a delay of one tick; at equilibrium p/T = Jᵀ p_next/T_next, so that the costates are the
    backpropagated gradients for any T (arXiv 2409.12038, Section 3).
    """

    latency = 1

    def __init__(self, pure: PureModule, time_constant: float) -> None:
        super().__init__(pure)
        self.time_constant = time_constant

    def initial_state(
        self, parameters: Tensors, buffers: Tensors, inputs: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        target, _ = self.pure(parameters, buffers, inputs, Context(False, 0, beyond=BEYOND_TORCH))
        return (torch.zeros_like(target),)

    def __call__(self, parameters: Mapping[str, Tensor], buffers: Tensors, point: Point) -> Values:
        target, buffers = self.pure(parameters, buffers, point.inputs, point.context)
        (xi,) = point.state
        return Values(xi, ((target - xi) / self.time_constant,), buffers)
