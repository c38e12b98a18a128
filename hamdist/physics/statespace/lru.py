"""LRU: a complex diagonal layer that is stable by its parametrisation (Orvieto et al., 2023, equations 5 to 8)."""

import math

import torch
from torch import Tensor, nn

from hamdist.physics.statespace.contract import State, StateSpace
from hamdist.physics.statespace.diagonal import over, times
from hamdist.physics.statespace.start import Initial


class LRU(StateSpace):
    """h' = λ^τ ⊙ h + (λ^τ − 1)/(λ − 1) γ ⊙ B a with λ = exp(−e^ν + i e^θ), y = Re(C h) + D a: |λ| < 1 in any case.

    A step of length 1 is that of the source; other steps are of the same motion, its input held.

    The state is (Re h, Im h), [B, hidden] each. |λ| is drawn from r_min … r_max, uniformly on the ring, its angle from
    0 … max_phase; γ begins at √(1 − |λ|²), which keeps the size of what comes in.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        initial: Initial = "zeros",
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
    ) -> None:
        super().__init__(input_size, (hidden_size, hidden_size), initial)
        if not 0 <= r_min < r_max <= 1:
            raise ValueError(f"0 ≤ r_min < r_max ≤ 1 is needed, not {r_min} and {r_max}")
        square = r_min**2 + torch.rand(hidden_size).clamp(1e-3, 1 - 1e-3) * (r_max**2 - r_min**2)
        phase = max_phase * torch.rand(hidden_size).clamp(min=1e-3)
        self.nu = nn.Parameter((-0.5 * square.log()).log())
        self.theta = nn.Parameter(phase.log())
        self.log_gamma = nn.Parameter(0.5 * (1 - square).log())
        self.b = nn.ModuleList(nn.Linear(input_size, hidden_size, bias=False) for _ in range(2))
        self.c = nn.ModuleList(nn.Linear(hidden_size, output_size, bias=False) for _ in range(2))
        self.d = nn.Linear(input_size, output_size, bias=False)

    def drift(self, a: Tensor, state: State, tau: float) -> State:
        gamma, turn = self.log_gamma.exp(), self._turn_less_one(tau)
        driven: State = (gamma * self.b[0](a), gamma * self.b[1](a))
        if tau != 1:
            driven = times(over(turn, self._turn_less_one(1.0)), driven)
        turned = times(turn, state)
        return (turned[0] + driven[0]) / tau, (turned[1] + driven[1]) / tau

    def output(self, a: Tensor, state: State) -> Tensor:
        return self.c[0](state[0]) - self.c[1](state[1]) + self.d(a)

    def _turn_less_one(self, tau: float) -> State:
        """λ^τ − 1, to the last digit where λ is near 1, too."""
        decay, angle = -tau * self.nu.exp(), tau * self.theta.exp()
        bent = (0.5 * angle).sin().square()  # (1 − cos) / 2
        return decay.expm1() * angle.cos() - 2 * bent, decay.exp() * angle.sin()
