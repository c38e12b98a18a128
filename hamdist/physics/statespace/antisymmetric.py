"""CTE: a rotation in all units at once, integrated exactly (arXiv 2409.12038)."""

import torch
from torch import Tensor, nn

from hamdist.physics.statespace.contract import State, between
from hamdist.physics.statespace.readout import Activation, Linear
from hamdist.physics.statespace.start import Initial


class CTE(Linear):
    """dh/dt = A h + B a with A = (W − Wᵀ)/2: h' = e^{τA} h + ∫₀^τ e^{sA} ds B a.

    Both matrices are parts of one exponential, that of τ [[A, 1], [0, 0]]: A⁻¹ does not exist for odd sizes.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        initial: Initial = "zeros",
        activation: Activation = "identity",
    ) -> None:
        super().__init__(input_size, hidden_size, output_size, initial, activation)
        self.w = nn.Linear(hidden_size, hidden_size, bias=False)

    def drift(self, a: Tensor, state: State, tau: float) -> State:
        turn, integral = self._turn(tau)
        return between(state, (state[0] @ turn.T + self.b(a) @ integral.T,), tau)

    def earlier(self, a: Tensor, after: State, tau: float) -> State:
        turn, integral = self._turn(tau)
        return ((after[0] - self.b(a) @ integral.T) @ turn,)

    def _turn(self, tau: float) -> tuple[Tensor, Tensor]:
        """e^{τA} and ∫₀^τ e^{sA} ds, [hidden, hidden] each."""
        w = self.w.weight
        size = len(w)
        one = torch.eye(size, dtype=w.dtype, device=w.device)
        above = torch.cat(((w - w.T) / 2, one), 1)
        whole = torch.linalg.matrix_exp(torch.cat((above, torch.zeros_like(above))) * tau)
        return whole[:size, :size], whole[:size, size:]
