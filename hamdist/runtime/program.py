"""From a network and a first batch to cells that can run in this process: delays, depths, facts, one plan a layer."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hamdist.network.graph import Graph
from hamdist.network.learning import Learning
from hamdist.network.locality import Locality
from hamdist.network.loss_fit import check_losses
from hamdist.network.network import Network, make_layers
from hamdist.network.reversible import check_reversible
from hamdist.network.survey import survey
from hamdist.runtime.cell import CellPlan
from hamdist.runtime.fused.execution import PLAIN, Execution
from hamdist.runtime.fused.fitness import Fitter
from hamdist.runtime.outline import Outline, outline_of


@dataclass(frozen=True)
class Program:
    """A network ready to run in this process.  targets: those of the first batch."""

    network: Network
    outline: Outline
    cells: Mapping[str, CellPlan]
    targets: Tensor

    @property
    def graph(self) -> Graph:
        return self.outline.graph

    @property
    def locality(self) -> Locality:
        return self.outline.locality

    @property
    def learning(self) -> Learning:
        return self.outline.learning

    @property
    def drain(self) -> int:
        return self.outline.drain


def program(
    network: Network,
    locality: Locality,
    learning: Learning,
    first_batch: tuple[Tensor, Tensor | None],
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    execution: Execution = PLAIN,
) -> Program:
    """Checks everything that can be checked before the first tick.

    first_batch: inputs [B, …] and targets [B, …] as the stream will give them, on the device to run on.
    Raises NetworkError for whatever cannot run.
    """
    inputs, targets = first_batch
    outline = outline_of(network, locality, learning, seed, dtype, execution)
    layers = make_layers(network.layers, seed, dtype, inputs.device, learning.dynamics.tau)
    with torch.no_grad():
        facts = survey(network, outline.graph, layers, inputs, seed)
        check_losses(network, facts, targets)
    assert targets is not None
    if locality.pairing == "reversible":
        check_reversible(network, outline.graph, layers, facts)
    fitter = Fitter()
    cells = {name: outline.cell_plan(name, layer, facts[name], fitter) for name, layer in layers.items()}
    return Program(network, outline, cells, targets)
