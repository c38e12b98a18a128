"""Who learns in activation_memory.py, a step at a time: PyTorch with and without checkpoints, and hamdist."""

from collections.abc import Iterator
from typing import Protocol

import torch
from deep_networks import Build
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hamdist.engine.build import program
from hamdist.engine.inline import InlineRuntime
from hamdist.network.learning import Learning
from hamdist.network.locality import Locality, Mode
from hamdist.network.network import Network
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.memory import PairingName
from hamdist.physics.rates import Rate

RATE, MOMENTUM = 1e-5, 0.9  # small: late costates and momentum at depth 64 must not diverge
Batch = tuple[Tensor, Tensor]


class Grows(Protocol):
    """A network that grows in depth block by block, as of deep_networks.py."""

    def builders(self, depth: int, reversible: bool = False) -> dict[str, Build]: ...


class Contender(Protocol):
    """fill: steps until every later one is like it."""

    fill: int

    def step(self) -> None:
        """Learns from the batch once."""

    def weights(self) -> Iterator[Tensor]:
        """Weights and their momenta, which are not activations."""


class Loop:
    """The plain PyTorch loop. checkpoints: whether every block keeps its input alone, and is evaluated again."""

    fill = 2  # momenta are made in the first step

    def __init__(self, kind: Grows, depth: int, batch: Batch, checkpoints: bool) -> None:
        self._batch, self.checkpoints = batch, checkpoints
        layers = [build() for build in kind.builders(depth).values()]
        self.model = nn.Sequential(*layers).to(batch[0].device)
        self._optimiser = torch.optim.SGD(self.model.parameters(), lr=RATE, momentum=MOMENTUM)

    def step(self) -> None:
        x, y = self._batch
        nn.functional.cross_entropy(self._forward(x), y).backward()
        self._optimiser.step()
        self._optimiser.zero_grad()

    def _forward(self, x: Tensor) -> Tensor:
        if not self.checkpoints:
            return self.model(x)
        stem, *blocks, head = self.model
        x = stem(x)
        for block in blocks:
            x = checkpoint(block, x, use_reentrant=False)
        return head(x)

    def weights(self) -> Iterator[Tensor]:
        yield from self.model.parameters()
        for state in self._optimiser.state.values():
            yield state["momentum_buffer"]


class Local:
    """hamdist, fully local unless told otherwise; the reversible pairing with reversible blocks."""

    def __init__(
        self, kind: Grows, depth: int, batch: Batch, pairing: PairingName, mode: Mode = "local"
    ) -> None:
        self._batch = batch
        builders = kind.builders(depth, reversible=pairing == "reversible")
        network = Network.of(builders, nn.functional.cross_entropy, None)
        learning = Learning(Dynamics(rate=Rate(RATE), weight_dissipation=1 - MOMENTUM), rate="constant")
        built = program(network, Locality(mode, pairing), learning, batch)
        self.runtime = InlineRuntime(built)
        self.fill = built.drain + 2

    def step(self) -> None:
        for _ in self.runtime.present(*self._batch):
            pass

    def weights(self) -> Iterator[Tensor]:
        """Those of the modules too, from which the first weights were copied."""
        for node in self.runtime.nodes.values():
            yield from node.carry.parameters.values()
            yield from node.carry.weight_costate.values()
            yield from node.spec.layer.pure.module.parameters()
