"""32 units that turn in pairs, and fade, with a linear readout: what hamdist and PyTorch learn with on streams."""

from typing import Any

import torch
from torch import Tensor, nn

from hamdist.physics.statespace import CTB

UNITS, STEP, RATE = 32, 0.1, 0.01
TURNING = {"fastest": 2.0, "damping": 1.0}


def config(stream: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """Of a run of hamdist, forward in time."""
    memory = {"type": "CTB", "input_size": 1, "hidden_size": UNITS, "output_size": 1, **TURNING}
    return {
        "name": "turning",
        "stream": stream,
        "network": {"loss": "mse", "layers": [{"name": "memory", "modules": [memory]}]},
        "locality": {"mode": "nonlocal", "pairing": "current"},
        "learning": {"tau": STEP, "beta": RATE / STEP**2, "dissipation": {"weight": 2.0}},
        **sections,
    }


class PyTorchs:
    """PyTorch's own way with the same network: one step of backpropagation a sample."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self._module = CTB(1, UNITS, 1, **TURNING)
        self._optimiser = torch.optim.SGD(
            self._module.parameters(), lr=RATE, momentum=1 - 2 * STEP, foreach=True
        )
        self._state: tuple[Tensor, ...] | None = None

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss."""
        self._optimiser.zero_grad()
        output, after = self._module(x, self._state, STEP)
        loss = nn.functional.mse_loss(output, y)
        loss.backward()
        self._optimiser.step()
        self._state = tuple(xi.detach() for xi in after)
        return loss
