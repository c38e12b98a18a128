"""A recurrent network in continuous time: dh/dt = (tanh(W h + B a + b) − h)/T."""

import torch
from torch import Tensor, nn

from hamdist.physics.statespace.contract import State, StateSpace
from hamdist.physics.statespace.start import Initial


class ContinuousRNN(StateSpace):
    """T > 0 of every unit is e to the power of a weight, which learns unless `learns_time` is false.

    y = C h, or h without output_size. A plain step needs T > τ/2. Source: Funahashi and Nakamura, 1993.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        initial: Initial = "zeros",
        time_constant: float = 2.0,
        learns_time: bool = True,
    ) -> None:
        super().__init__(input_size, (hidden_size,), initial)
        if time_constant <= 0:
            raise ValueError(f"time_constant must be above 0, not {time_constant}")
        self.w = nn.Linear(hidden_size, hidden_size)
        self.b = nn.Linear(input_size, hidden_size, bias=False)
        self.c = nn.Identity() if output_size is None else nn.Linear(hidden_size, output_size, bias=False)
        log = torch.full((hidden_size,), time_constant).log()
        self.log_time = nn.Parameter(log, requires_grad=learns_time)

    def drift(self, a: Tensor, state: State, tau: float) -> State:
        (h,) = state
        return ((torch.tanh(self.w(h) + self.b(a)) - h) * torch.exp(-self.log_time),)

    def output(self, a: Tensor, state: State) -> Tensor:
        return self.c(state[0])
