"""Who takes steps of learning in stacked.py and scaling.py: PyTorch, as it is and compiled, and hamdist in its forms.

All learn from the same batches by SGD with momentum under the MSE loss. Weights start orthogonal, so that signals and
costates keep their size at any depth: where they fade into denormal numbers every contender is slow.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from types import FrameType
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor, nn

import hamdist
from hamdist.engine.build import program
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.spec import Execution
from hamdist.network.learning import Learning
from hamdist.network.locality import Locality
from hamdist.network.network import Network
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.rates import Rate

RATE, MOMENTUM = 1e-4, 0.9
BATCHES = 16
"""Those that differ, presented round and round; chunks of ticks divide it."""

Batch = tuple[Tensor, Tensor]
mse = nn.functional.mse_loss


class Steps(NamedTuple):
    """run: takes `count` steps.  compiling: the seconds it took to compile them, None where nothing is compiled."""

    run: Callable[[], object]
    count: int
    compiling: float | None = None


def seconds(steps: Steps, least: float) -> float:
    """Of a step, on average over at least so many seconds."""
    done, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < least:
        steps.run()
        done += steps.count
    return spent / done


def batches(rows: int, width: int) -> list[Batch]:
    """Inputs and targets [rows, width], all of them normal numbers."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(BATCHES, 2, rows, width, generator=generator)
    return [(inputs.clone(), targets.clone()) for inputs, targets in drawn]


def chain(depth: int, width: int) -> list[nn.Module]:
    """[Linear, Tanh] layers of width × width."""
    return [_layer(index, width) for index in range(depth)]


def couplings(depth: int, width: int) -> list[nn.Module]:
    """Layers that can be inverted: two [Linear, Tanh] on a half of the width each, so half of the chain's weights."""
    halves = chain(2 * depth, width // 2)
    return [hamdist.Coupling(f, g) for f, g in zip(halves[::2], halves[1::2], strict=True)]


def _layer(seed: int, width: int) -> nn.Module:
    torch.manual_seed(seed)
    linear = nn.Linear(width, width)
    nn.init.orthogonal_(linear.weight)
    return nn.Sequential(linear, nn.Tanh())


def pytorch(layers: Sequence[nn.Module], data: Sequence[Batch]) -> Steps:
    """The plain loop."""
    model, coming = nn.Sequential(*layers), cycle(data)
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, foreach=True)

    def step() -> None:
        x, y = next(coming)
        optimiser.zero_grad()
        mse(model(x), y).backward()
        optimiser.step()

    for _ in range(3):
        step()
    return Steps(step, 1)


def pytorch_compiled(layers: Sequence[nn.Module], data: Sequence[Batch], limit: float) -> Steps | None:
    """The whole step, update included, by torch.compile; None where that takes longer than `limit` seconds."""
    model, coming = nn.Sequential(*layers), cycle(data)
    weights = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    momenta = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return mse(torch.func.functional_call(model, weights, x), y)

    def update(weights: dict[str, Tensor], momenta: dict[str, Tensor], x: Tensor, y: Tensor) -> None:
        for name, gradient in torch.func.grad(loss)(weights, x, y).items():
            momenta[name].mul_(MOMENTUM).add_(gradient)
            weights[name].sub_(RATE * momenta[name])

    torch.compiler.reset()
    compiled = torch.compile(update, fullgraph=True)
    started = time.perf_counter()
    try:
        with _time_limit(limit), torch.no_grad():
            compiled(weights, momenta, *next(coming))
    except TooLong:
        torch.compiler.reset()
        return None
    compiling = time.perf_counter() - started

    def step() -> None:
        with torch.no_grad():
            compiled(weights, momenta, *next(coming))

    return Steps(step, 1, compiling)


def ours(
    layers: Sequence[nn.Module] | Network,
    data: Sequence[Batch],
    locality: Locality,
    execution: Execution,
    rate: float = RATE,
    state_dissipation: float = 0.0,
) -> Steps:
    """hamdist in its steady state, all batches at hand. Raises RuntimeError where it does not run in the form asked."""
    network = layers if isinstance(layers, Network) else Network.of(layers, mse)
    dynamics = Dynamics(rate=Rate(rate), weight_dissipation=1 - MOMENTUM, state_dissipation=state_dissipation)
    learning = Learning(dynamics, rate="constant")
    runtime = InlineRuntime(program(network, locality, learning, data[0], execution=execution))

    def steps() -> None:
        runtime.present_all(data)

    for _ in range(4 + 3 * len(network.layers) // len(data)):  # there, back, and along the longest edge
        steps()
    told = runtime.told
    singly = "node_by_node" in told and locality.horizon is None
    if singly or (execution.compiled and "compile_seconds" not in told):
        raise RuntimeError(told.get("not_compiled", "ticks run node by node"))
    return Steps(steps, len(data), told.get("compile_seconds"))


class TooLong(BaseException):
    """Not an Exception, which torch would take for a failure of its compiler."""


@contextmanager
def _time_limit(limit: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
