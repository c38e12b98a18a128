"""What a module with a memory is: a drift, an output, and where it starts.

    dξ/dt = f(a, ξ; θ)        y = g(a, ξ; θ)

Shapes: a [B, inputs]; ξ one tensor a component, [B, …]; y [B, outputs].
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from hamdist.physics.numerics import plus
from hamdist.physics.statespace.start import Initial, Start

State = tuple[Tensor, ...]


class StateSpace(nn.Module, ABC):
    """A module with a memory of its own; write `drift` and `output`, and it is a layer like any other.

    sizes: of the components of ξ, each [B, size].  initial: where ξ starts, see `Start`.
    """

    def __init__(self, input_size: int, sizes: tuple[int, ...], initial: Initial = "zeros") -> None:
        super().__init__()
        self.start = Start(initial, input_size, sizes)

    @abstractmethod
    def drift(self, a: Tensor, state: State, tau: float) -> State:
        """f: ξ + τf is the state one step of length τ later, whether or not the equations are solved exactly in it."""

    @abstractmethod
    def output(self, a: Tensor, state: State) -> Tensor:
        """y [B, outputs]."""

    def initial_state(self, a: Tensor) -> State:
        """ξ before the first input a, of the rows of a."""
        return self.start(a)

    def earlier(self, a: Tensor, after: State, tau: float) -> State:
        """The state that one step with input a turns into `after`; for dynamics that can be inverted."""
        raise NotImplementedError(f"the dynamics of {type(self).__name__} cannot be inverted")

    def forward(self, a: Tensor, state: State | None = None, tau: float = 1.0) -> tuple[Tensor, State]:
        """One step as PyTorch's cells take it: the output read from the state after it, and that state."""
        before = self.initial_state(a) if state is None else state
        after = advanced(before, self.drift(a, before, tau), tau)
        return self.output(a, after), after

    @property
    def kind(self) -> str:
        """What errors call it."""
        return type(self).__name__

    @property
    def components(self) -> int:
        """How many tensors ξ has."""
        return len(self.start.sizes)

    @property
    def learns_start(self) -> bool:
        """Whether where it starts depends on weights."""
        return self.start.learns

    @property
    def invertible(self) -> bool:
        """Whether `earlier` can be asked."""
        return type(self).earlier is not StateSpace.earlier


def advanced(state: State, drift: State, tau: float) -> State:
    """ξ + τ f. Raises ValueError for a drift that has not the shapes and types of the state."""
    for xi, f in zip(state, drift, strict=True):
        if (xi.shape, xi.dtype) != (f.shape, f.dtype):
            raise ValueError(
                f"a state of {list(xi.shape)} {xi.dtype} has a drift of {list(f.shape)} {f.dtype}: what a module keeps "
                "must have one shape and type"
            )
    return tuple(plus(xi, f, tau) for xi, f in zip(state, drift, strict=True))


def between(before: State, after: State, tau: float) -> State:
    """The drift that leads from one state to the other in a step of length τ."""
    return tuple((new - old) / tau for old, new in zip(before, after, strict=True))


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """The units 2i and the units 2i+1 of [B, 2n], [B, n] each."""
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    return first, second


def interleaved(first: Tensor, second: Tensor) -> Tensor:
    """The inverse of `halves`."""
    return torch.stack((first, second), -1).flatten(-2)
