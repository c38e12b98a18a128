"""A layer with a state of its own, h' = A h + B v, read out linearly: as PyTorch and as hamdist run it.

In hamdist the state travels along an edge from the layer to itself. The loop differentiates one tick, and no further.
"""

from collections.abc import Sequence
from itertools import cycle

import torch
from step_contenders import MOMENTUM, Batch, Steps, mse, ours
from torch import Tensor, nn

from hamdist.network.graph import Edge
from hamdist.network.locality import Locality
from hamdist.network.network import LayerSpec, LossSpec, Network
from hamdist.runtime.fused.execution import Execution

SLOW_RATE = (
    1e-6  # late costates meet the activations of other samples here: no larger rate goes well for long
)


class StateSpace(nn.Module):
    """v [R, units] and the state before, h [R, units], to the next state [R, units]."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(units, units, bias=False), nn.Linear(units, units, bias=False)

    def forward(self, v: Tensor, h: Tensor) -> Tensor:
        return self.a(h) + self.b(v)


def recurrent_pytorch(units: int, data: Sequence[Batch]) -> Steps:
    layer, readout, coming = StateSpace(units), nn.Linear(units, units), cycle(data)
    parameters = [*layer.parameters(), *readout.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=SLOW_RATE, momentum=MOMENTUM, foreach=True)
    h = torch.zeros_like(data[0][0])

    def tick() -> None:
        nonlocal h
        x, y = next(coming)
        optimiser.zero_grad()
        after = layer(x, h)
        mse(readout(after), y).backward()
        optimiser.step()
        h = after.detach()

    return Steps(tick, 1)


def recurrent_ours(units: int, data: Sequence[Batch], execution: Execution) -> Steps:
    layers = (
        LayerSpec("state", lambda: StateSpace(units), join="arguments"),
        LayerSpec("readout", lambda: nn.Linear(units, units)),
    )
    edges = (Edge("state", "state", shape=(units,)), Edge("state", "readout"))
    network = Network(layers, {"loss": LossSpec(mse, "readout")}, edges)
    return ours(network, data, Locality(pairing="current"), execution, SLOW_RATE)
