"""CSSM: the plain linear state-space model of arXiv 2409.12038, h' = A h + B a, y = C tanh(h)."""

from torch import Tensor, nn

from hamdist.physics.statespace.contract import State, between
from hamdist.physics.statespace.readout import Activation, Linear
from hamdist.physics.statespace.start import Initial


class CSSM(Linear):
    """h' = A h + B a whatever the step; A [hidden, hidden] is drawn as nn.Linear's weight is."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        initial: Initial = "zeros",
        activation: Activation = "tanh",
    ) -> None:
        super().__init__(input_size, hidden_size, output_size, initial, activation)
        self.a = nn.Linear(hidden_size, hidden_size, bias=False)

    def drift(self, a: Tensor, state: State, tau: float) -> State:
        return between(state, (self.a(state[0]) + self.b(a),), tau)
