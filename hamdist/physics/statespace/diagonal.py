"""Diagonal models, h' = d ⊙ h + B a: real, and complex with a real readout (CDiagR, CDiagC of arXiv 2409.12038)."""

import math

import torch
from torch import Tensor, nn

from hamdist.physics.statespace.contract import State, StateSpace, between
from hamdist.physics.statespace.readout import Activation, Linear
from hamdist.physics.statespace.start import Initial


class DiagonalReal(Linear):
    """h' = d ⊙ h + B a whatever the step; d [hidden] is drawn from −1 … 1."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        initial: Initial = "zeros",
        activation: Activation = "identity",
    ) -> None:
        super().__init__(input_size, hidden_size, output_size, initial, activation)
        self.d = nn.Parameter(torch.empty(hidden_size).uniform_(-1, 1))

    def drift(self, a: Tensor, state: State, tau: float) -> State:
        return between(state, (self.d * state[0] + self.b(a),), tau)


class DiagonalComplex(StateSpace):
    """h' = d ⊙ h + B a, y = Re(C h), all complex, whatever the step.

    The state is two real components, (Re h, Im h) [B, hidden] each, and all weights are real: d [hidden, 2], and B
    and C as nn.Linear's for either part. |d| is drawn below 1, uniformly on the disc.
    """

    def __init__(
        self, input_size: int, hidden_size: int, output_size: int, initial: Initial = "zeros"
    ) -> None:
        super().__init__(input_size, (hidden_size, hidden_size), initial)
        radius, angle = torch.rand(hidden_size).sqrt(), 2 * math.pi * torch.rand(hidden_size)
        self.d = nn.Parameter(torch.stack((radius * angle.cos(), radius * angle.sin()), 1))
        self.b = nn.ModuleList(nn.Linear(input_size, hidden_size, bias=False) for _ in range(2))
        self.c = nn.ModuleList(nn.Linear(hidden_size, output_size, bias=False) for _ in range(2))

    def drift(self, a: Tensor, state: State, tau: float) -> State:
        real, imaginary = times(self.d.unbind(-1), state)
        return between(state, (real + self.b[0](a), imaginary + self.b[1](a)), tau)

    def output(self, a: Tensor, state: State) -> Tensor:
        return self.c[0](state[0]) - self.c[1](state[1])


def times(x: State, y: State) -> State:
    """The product of two complex numbers, each as its real and imaginary part."""
    return x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]


def over(x: State, y: State) -> State:
    """The quotient of two complex numbers, as `times`."""
    square = y[0] * y[0] + y[1] * y[1]
    return times(x, (y[0] / square, -y[1] / square))
