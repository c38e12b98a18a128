"""What the linear models share: an input map B, and a readout C of an activated state."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from hamdist.physics.statespace.contract import State, StateSpace
from hamdist.physics.statespace.start import Initial

Activation = Literal["identity", "tanh"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"identity": lambda x: x, "tanh": torch.tanh}


class Linear(StateSpace):
    """A state h [B, hidden] of one component, moved by B a, read out as y = C σ(h); y = σ(h) without output_size.

    Weights have the layout of nn.Linear without bias.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        initial: Initial = "zeros",
        activation: Activation = "identity",
    ) -> None:
        super().__init__(input_size, (hidden_size,), initial)
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is one of {', '.join(ACTIVATIONS)}, not {activation!r}")
        self.activation = activation
        self.b = nn.Linear(input_size, hidden_size, bias=False)
        self.c = nn.Identity() if output_size is None else nn.Linear(hidden_size, output_size, bias=False)

    def output(self, a: Tensor, state: State) -> Tensor:
        return self.c(ACTIVATIONS[self.activation](state[0]))
