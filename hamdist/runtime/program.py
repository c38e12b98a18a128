"""From a network and a first batch to cells that can run: delays, depths, facts, one plan a layer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hamdist.errors import NetworkError, Problem
from hamdist.network.arrival import arrivals, depths, drain_ticks, feedback_lag, is_balanced, sink
from hamdist.network.graph import Graph
from hamdist.network.learning import Learning, check_time_constants
from hamdist.network.locality import Locality, apply_locality, settles_exactly
from hamdist.network.network import Network
from hamdist.network.reversible import check_reversible
from hamdist.network.survey import Facts, check_losses, survey
from hamdist.physics.layers import Layer
from hamdist.physics.pairing import Stash, make_memory
from hamdist.runtime.cell import CellPlan


@dataclass(frozen=True)
class Program:
    """A network ready to run, wherever its cells are put.

    order: the graph-wide order of evaluation.  drain: ticks after the last sample until all learnt from it.
    flush: ticks after the last sample until its prediction is out.
    """

    network: Network
    graph: Graph
    locality: Locality
    learning: Learning
    order: tuple[str, ...]
    cells: Mapping[str, CellPlan]
    targets: Tensor
    drain: int
    flush: int


def program(
    network: Network,
    locality: Locality,
    learning: Learning,
    first_batch: tuple[Tensor, Tensor | None],
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Program:
    """Checks everything that can be checked before the first tick.

    first_batch: inputs [B, …] and targets [B, …] as the stream will give them, on the device to run on.
    Raises NetworkError for whatever cannot run.
    """
    inputs, targets = first_batch
    graph = apply_locality(network.graph, locality)
    layers = make_layers(network, seed, dtype, inputs.device)
    check_time_constants(network, learning.dynamics.tau)
    with torch.no_grad():
        facts = survey(network, graph, layers, inputs, seed)
        check_losses(network, facts, targets)
    assert targets is not None
    if locality.pairing == "reversible":
        check_reversible(network, graph, layers, facts)
    cells = _cell_plans(network, graph, locality, learning, layers, facts, seed)
    drain = 0 if locality.gate == "settled" else drain_ticks(graph)
    flush = sink(graph, arrivals(graph))
    if locality.gate == "settled":
        flush = math.ceil(flush / locality.hold) * locality.hold  # whole holds: the gate counts ticks
    return Program(network, graph, locality, learning, graph.order(), cells, targets, drain, flush)


def make_layers(network: Network, seed: int, dtype: torch.dtype, device: torch.device) -> dict[str, Layer]:
    """Every layer, or one NetworkError with the problems of all."""
    layers: dict[str, Layer] = {}
    problems: list[Problem] = []
    for spec in network.layers:
        try:
            layers[spec.name] = spec.make(seed, dtype, device)
        except NetworkError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise NetworkError(*problems)
    return layers


def _cell_plans(
    network: Network,
    graph: Graph,
    locality: Locality,
    learning: Learning,
    layers: Mapping[str, Layer],
    facts: Mapping[str, Facts],
    seed: int,
) -> dict[str, CellPlan]:
    depth = depths(graph)
    loop = max([1, *feedback_lag(graph).values()])
    exact = settles_exactly(graph, network.relaxing, learning.dynamics.tau)
    return {
        name: CellPlan(
            name=name,
            layer=layer,
            facts=facts[name],
            dynamics=learning.of_layer(name, layer, depth[name], locality.pairing),
            into=graph.into(name),
            out_of=graph.out_of(name),
            depth=depth[name],
            pairing=locality.pairing,
            gate=locality.gate,
            hold=locality.hold,
            settling=None if locality.gate == "always" or exact else (locality.tolerance, loop),
            warm=locality.warmup == "zeros",
            mixing=not is_balanced(graph),
            seed=seed,
        )
        for name, layer in layers.items()
    }


def stash_depth(plan: CellPlan) -> int:
    """How many ticks' inputs a cell keeps beyond the present one."""
    memory = make_memory(plan.pairing, plan.layer, plan.depth)
    return plan.depth if isinstance(memory, Stash) else 0
