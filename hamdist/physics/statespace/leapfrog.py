"""Nonlinear oscillators, integrated by leapfrog, whose steps can be taken back exactly."""

import torch
from torch import Tensor, nn

from hamdist.physics.statespace.contract import State, StateSpace, between
from hamdist.physics.statespace.start import Initial


class Leapfrog(StateSpace):
    """v' = v + τ (tanh(W x + B a) − κ ⊙ x), x' = x + τ v', y = C x, or x without output_size.

    The state is (x, v), [B, hidden] each; κ ≥ 0 [hidden] is e to the power of a weight, drawn from 0 … `stiffest`.
    Source: the coupled oscillators of Rusch and Mishra, 2021, without damping.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        initial: Initial = "zeros",
        stiffest: float = 1.0,
    ) -> None:
        super().__init__(input_size, (hidden_size, hidden_size), initial)
        self.w = nn.Linear(hidden_size, hidden_size, bias=False)
        self.b = nn.Linear(input_size, hidden_size, bias=False)
        self.c = nn.Identity() if output_size is None else nn.Linear(hidden_size, output_size, bias=False)
        self.log_stiffness = nn.Parameter((stiffest * torch.rand(hidden_size).clamp(min=1e-3)).log())

    def drift(self, a: Tensor, state: State, tau: float) -> State:
        x, v = state
        faster = v + tau * self._force(a, x)
        return between(state, (x + tau * faster, faster), tau)

    def earlier(self, a: Tensor, after: State, tau: float) -> State:
        x = after[0] - tau * after[1]
        return x, after[1] - tau * self._force(a, x)

    def output(self, a: Tensor, state: State) -> Tensor:
        return self.c(state[0])

    def _force(self, a: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.w(x) + self.b(a)) - self.log_stiffness.exp() * x
