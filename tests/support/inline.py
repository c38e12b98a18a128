"""A runtime in this process around a network, and what it comes to."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from support.samples import Batches
from torch import Tensor, nn

from hamdist.engine.build import program
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.profiler import SILENT, Timeline
from hamdist.engine.spec import PLAIN, Execution
from hamdist.network.learning import Learning
from hamdist.network.locality import Locality
from hamdist.network.network import Network
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.rates import Rate


def learning(beta: float = 0.1, **constants: Any) -> Learning:
    """Learning constants from keywords of Dynamics, Rate ("adaptive") and Learning ("gamma", "rate", "average")."""
    adaptive = constants.pop("adaptive", None)
    outer = {
        key: constants.pop(key)
        for key in ("gamma", "rate", "beta_scale", "average", "exponent")
        if key in constants
    }
    return Learning(
        Dynamics(rate=Rate(beta, adaptive=adaptive), **constants), **({"rate": "constant"} | outer)
    )


def runtime_of(
    layers: Any,
    batches: Batches,
    loss: Any = nn.functional.cross_entropy,
    edges: Any = None,
    rule: Learning | None = None,
    seed: int = 0,
    execution: Execution = PLAIN,
    timeline: Timeline = SILENT,
    **locality: Any,
) -> InlineRuntime:
    """An inline runtime in float64 over modules or a Network."""
    network = layers if isinstance(layers, Network) else Network.of(layers, loss, edges)
    place = replace(Locality(), **locality)
    built = program(network, place, rule or learning(), batches[0], seed, torch.float64, execution)
    return InlineRuntime(built, timeline)


def run_through(runtime: InlineRuntime, batches: Iterable[tuple[Tensor, Tensor]]) -> list[Any]:
    """Presents every batch and drains; all predictions in order."""
    predictions = [p for x, y, *flags in batches for p in runtime.present(x, y, True, *flags)]
    return predictions + list(runtime.drain())


def weights(runtime: InlineRuntime) -> dict[str, Tensor]:
    """Every weight, by "<layer>.<parameter>"."""
    return {
        f"{name}.{key}": value.clone()
        for name, node in runtime.nodes.items()
        for key, value in node.carry.parameters.items()
    }
