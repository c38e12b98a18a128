"""Layers with a memory: a CSSM, and the signal school's student, as PyTorch and as hamdist run them.

PyTorch's loop differentiates one tick, and no further; in hamdist the state costate is integrated forward as well. The
student's state, which goes on by itself from where its description put it, is read out by one of 20 memories, which
the description chooses.
"""

from collections import deque
from collections.abc import Sequence
from itertools import cycle

import torch
from step_contenders import MOMENTUM, Batch, Steps, mse, ours
from torch import Tensor, nn

from hamdist.engine.spec import Execution
from hamdist.network.graph import SOURCE, Edge
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.locality import Horizon, Locality
from hamdist.network.losses import LossSpec
from hamdist.network.network import Network
from hamdist.physics.statespace import CSSM, CTBE, Memories

RATE = 1e-8  # targets are noise here, which no state costate learns to foresee: no larger rate goes well for long
FADING = 0.1  # of state costates
INPUTS, WORDS = 2, 6


def cssm_batches(count: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(count, 1, INPUTS + 1, generator=generator)
    return [(row[:, :INPUTS].clone(), row[:, INPUTS:].clone()) for row in drawn]


def student_batches(count: int) -> list[Batch]:
    """One description, all along, and the values of a signal."""
    described = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]])
    return [(described, torch.tensor([[0.3 * k / count]])) for k in range(count)]


class Student(nn.Module):
    def __init__(self, units: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.state = CTBE(WORDS, units, initial="input", driven=False)
        self.readout = Memories(units, 1, WORDS)

    def forward(self, d: Tensor, state: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        h, state = self.state(d, state)
        return self.readout(h, d), state


def cssm(units: int) -> CSSM:
    torch.manual_seed(0)
    return CSSM(INPUTS, units, 1)


def recurrent_pytorch(module: nn.Module, data: Sequence[Batch]) -> Steps:
    """module: maps an input and a state to an output and the next state."""
    coming = cycle(data)
    optimiser = torch.optim.SGD(module.parameters(), lr=RATE, momentum=MOMENTUM, foreach=True)
    state = None

    def tick() -> None:
        nonlocal state
        x, y = next(coming)
        optimiser.zero_grad()
        output, after = module(x, state)
        mse(output, y).backward()
        optimiser.step()
        state = tuple(xi.detach() for xi in after)

    return Steps(tick, 1)


def windowed_pytorch(module: nn.Module, data: Sequence[Batch], horizon: Horizon) -> Steps:
    """Truncated backpropagation through time: (K, K), or slid (1, K), which evaluates its window anew every tick."""
    coming = cycle(data)
    optimiser = torch.optim.SGD(module.parameters(), lr=RATE, momentum=MOMENTUM, foreach=True)
    first = module.initial_state(data[0][0])
    states, inputs = deque([first], horizon.ticks), deque[Tensor](maxlen=horizon.ticks)
    state, loss, ticks = first, torch.zeros(()), 0

    def learn(loss: Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def slid() -> None:
        x, y = next(coming)
        inputs.append(x)
        state = states[0]
        for past in inputs:
            output, state = module(past, state)
        learn(mse(output, y))
        with torch.no_grad():
            states.append(module(x, states[-1])[1])

    def blocked() -> None:
        nonlocal state, loss, ticks
        x, y = next(coming)
        output, state = module(x, state)
        loss, ticks = loss + mse(output, y), ticks + 1
        if ticks % horizon.ticks == 0:
            learn(loss)
            state, loss = tuple(xi.detach() for xi in state), torch.zeros(())

    return Steps(slid if horizon.slid else blocked, 1)


def windowed_ours(units: int, data: Sequence[Batch], execution: Execution, horizon: Horizon) -> Steps:
    network = Network.of([LayerSpec("cssm", lambda: cssm(units))], mse)
    return ours(network, data, Locality("nonlocal", horizon=horizon), execution, RATE)


def recurrent_ours(units: int, data: Sequence[Batch], execution: Execution) -> Steps:
    network = Network.of([LayerSpec("cssm", lambda: cssm(units))], mse)
    return ours(network, data, Locality("nonlocal", pairing="current"), execution, RATE, FADING)


def student_ours(units: int, data: Sequence[Batch], execution: Execution) -> Steps:
    student = Student(units)
    layers = (
        LayerSpec("state", lambda: student.state, reads="old"),
        LayerSpec("readout", lambda: student.readout, join="arguments"),
    )
    edges = (Edge(SOURCE, "state"), Edge("state", "readout"), Edge(SOURCE, "readout"))
    network = Network(layers, {"loss": LossSpec(mse, "readout")}, edges)
    return ours(network, data, Locality("nonlocal", pairing="current"), execution, RATE, FADING)
