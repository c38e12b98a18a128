"""What every part of a run knows of the whole before any layer is built.

Delays, order, depths, how layers learn, and in which form they run: one by one as Python, or as stacks of traced
operations; compiled; in chunks of ticks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from hamdist.engine.fused.eligibility import PLAIN_FORM, Fitter, spread_rates, with_rates
from hamdist.engine.node_spec import NodeSpec
from hamdist.engine.schedules import check_schedule
from hamdist.errors import NetworkError, Problem
from hamdist.network.entrance import Entrance
from hamdist.network.exact import check_costates
from hamdist.network.graph import Edge, Graph
from hamdist.network.learning import Learning, check_damped, check_time_constants
from hamdist.network.locality import Locality, apply_locality, settles_exactly
from hamdist.network.losses import LossSpec
from hamdist.network.network import Network
from hamdist.network.skipping import check_apart, check_unspoilt
from hamdist.network.survey import Facts
from hamdist.network.target_parts import Absence
from hamdist.network.tick_order import Turn, tick_order
from hamdist.network.timing import (
    arrivals,
    depths,
    drain_ticks,
    feedback_lag,
    is_balanced,
    recent_ticks,
    sink,
)
from hamdist.physics.layers import Layer
from hamdist.physics.losses import ignored_by
from hamdist.physics.statespace.walk import memories


@dataclass(frozen=True)
class Execution:
    """stacked: whether layers of equal structure compute as one, and regular ticks as one sequence of operations.

    compiled: whether torch's compiler makes machine code of them.  chunk: ticks that run, and cross between actors, in
    one go, where the delays allow.
    """

    stacked: bool = False
    compiled: bool = False
    chunk: int = 1


PLAIN = Execution()
STACKED = Execution(stacked=True)


@dataclass(frozen=True)
class Outline:
    """The same in every process of a run; it holds no layer and no tensor.

    order: of a tick, the same everywhere.  depth: D of every layer.  settling: tolerance and window of `settled`,
    None where a hold settles exactly.  mixing: whether joins are out of balance.  drain: ticks after the last sample
    until all learnt from it.  flush: ticks after the last sample until its prediction is out.  reach: ticks after
    which every node has heard what the source says now.  recent: the ticks of whose samples a cut tells.  execution: in
    which form layers run.
    """

    graph: Graph
    losses: Mapping[str, LossSpec]
    locality: Locality
    learning: Learning
    seed: int
    dtype: torch.dtype
    order: tuple[Turn, ...]
    depth: Mapping[str, int]
    settling: tuple[float, int] | None
    mixing: bool
    drain: int
    flush: int
    reach: int
    recent: int
    execution: Execution = PLAIN

    @property
    def delays(self) -> bool:
        """Whether any layer's costate returns later than in the tick of its evaluation."""
        return any(self.depth.values())

    @property
    def absence(self) -> Absence:
        """What it looks like where there is no target."""
        losses = self.losses.values()
        own = [(loss.part, ignored_by([loss.function])) for loss in losses if loss.part is not None]
        return Absence(ignored_by(loss.function for loss in losses), tuple(own))

    def warm(self, edge: Edge) -> bool:
        """Whether the initial tokens of an edge are valid zeros."""
        return self.locality.warmup == "zeros" and not edge.feedback and edge.target not in self.losses

    def entrance(self, shapes: Mapping[str, Sequence[int]]) -> Entrance:
        """What targets are looked at for.  shapes: of the layers' outputs, [B, …]."""
        return Entrance.of(self.absence, self.losses.values(), shapes)

    def node_spec(self, name: str, layer: Layer, facts: Facts, fitter: Fitter) -> NodeSpec:
        """All that the node of one layer must know.  fitter: finds the form of the layer, unless all are plain."""
        place = self.locality
        if place.horizon is not None and place.horizon.reintegrates:
            check_retraceable(name, layer)
        if place.gate == "settled" and layer.remembers:
            message = f"layer {name!r} has a memory, which never settles: set locality.gate=always"
            raise NetworkError(Problem("locality.gate", message))
        if place.holds_outputs and layer.remembers:
            message = (
                f"layer {name!r} has a memory, which moves at every tick, not once in a hold: set mode: local"
            )
            raise NetworkError(Problem("locality.mode", message))
        if self.learning.skips:
            check_unspoilt(name, layer, facts)
        rows = facts.says.shape[0] * place.batches_per_update
        dynamics = self.learning.of_layer(name, layer, self.depth[name], place.pairing, self.delays, rows)
        dynamics = replace(dynamics, exact=place.exact and layer.remembers)
        fit = PLAIN_FORM
        if self.execution.stacked and place.stash == "inputs":
            if self.learning.rates_differ(place.pairing):
                dynamics = spread_rates(dynamics, layer.pure.parameters())
            fit = fitter.fit(layer, facts, dynamics)
            if fit.traced is None or not fit.traced.stacks:
                dynamics = with_rates(dynamics, None)
        check_schedule(name, dynamics.rate, fit.traced is not None, facts.says.device)
        return NodeSpec(
            name=name,
            layer=layer,
            facts=facts,
            dynamics=dynamics,
            into=self.graph.into(name),
            out_of=self.graph.out_of(name),
            depth=self.depth[name],
            pairing=place.pairing,
            stash=place.stash,
            gate=place.gate,
            hold=place.hold,
            settling=self.settling,
            warm=place.warmup == "zeros",
            mixing=self.mixing,
            horizon=place.horizon,
            seed=self.seed,
            fit=fit,
            compiles=self.execution.compiled,
            skips=self.learning.skips,
            holds_output=place.holds_outputs,
        )


def check_retraceable(name: str, layer: Layer) -> None:
    """Raises NetworkError where the state of a layer cannot be integrated back."""
    if not layer.remembers or layer.retraceable:
        return
    kinds = [m.kind for m in memories(layer.pure.module) if not m.invertible]
    message = f"the state of layer {name!r} ({', '.join(kinds)}) cannot be integrated back: set locality.states=stored"
    raise NetworkError(Problem("locality.states", message))


def outline_of(
    network: Network,
    locality: Locality,
    learning: Learning,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    execution: Execution = PLAIN,
) -> Outline:
    """Raises NetworkError for a locality or a time constant that does not fit the network."""
    graph = apply_locality(network.graph, locality)
    check_time_constants(network, learning.dynamics.tau)
    if learning.skips:
        check_apart(graph, locality)
    if locality.exact:
        check_costates(network, learning.dynamics)
    settled = locality.gate == "settled"
    reach = sink(graph, arrivals(graph))
    exact = not settled or settles_exactly(graph, network.relaxing, learning.dynamics.tau)
    depth = depths(graph)
    check_damped(learning, locality.pairing, any(depth.values()))
    return Outline(
        graph=graph,
        losses=network.losses,
        locality=locality,
        learning=learning,
        seed=seed,
        dtype=dtype,
        order=tick_order(graph),
        depth=depth,
        settling=None if exact else (locality.tolerance, max([1, *feedback_lag(graph).values()])),
        mixing=not is_balanced(graph),
        drain=0 if settled else drain_ticks(graph) + (locality.horizon is not None),  # a last block is closed
        flush=math.ceil(reach / locality.hold) * locality.hold if settled else reach,  # whole holds
        reach=reach,
        recent=recent_ticks(graph),
        execution=execution,
    )
