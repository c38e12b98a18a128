"""What a partition's regular tick consists of: its units and losses in order, and where everything comes from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from hamdist.engine.aligned import settled
from hamdist.engine.fused.units import Unit, levels, units_of
from hamdist.engine.loss_node import LossNode
from hamdist.engine.node_spec import NodeSpec
from hamdist.engine.spec import Outline
from hamdist.network.graph import SOURCE, Edge
from hamdist.physics.numerics import differentiable


@dataclass(frozen=True)
class External:
    """What came along an edge from another partition, or from the source.  edge: its index in the graph."""

    edge: int


@dataclass(frozen=True)
class SignalOf:
    """What a member of a unit said, `ticks` ago."""

    unit: int
    member: int
    ticks: int


@dataclass(frozen=True)
class CostateOf:
    """What a member of a unit returned along one of its in-edges, `ticks` ago."""

    unit: int
    slot: int
    member: int
    ticks: int


@dataclass(frozen=True)
class LossCostate:
    """What a loss returned, `ticks` ago."""

    loss: int
    ticks: int


@dataclass(frozen=True)
class PointOf:
    """A member's part of what a unit was evaluated at, `ticks` ago within this chunk of ticks."""

    member: int
    ticks: int


Origin = External | SignalOf | CostateOf | LossCostate | PointOf
Lookup = Callable[[Origin], Tensor]
"""The tensor of all members, for an origin with its member set to 0; what has no members has none."""


def side_by_side(origins: Sequence[Origin], lookup: Lookup, stacked: Callable[[Origin], bool]) -> Tensor:
    """The tensors of several members along a first dimension; neighbours that lie side by side stay together."""
    runs = [[origin for _, origin in run] for _, run in groupby(enumerate(origins), _run_of)]
    parts = [_rows(run, lookup, stacked(run[0])) for run in runs]
    return settled(parts[0]) if len(parts) == 1 else torch.cat(parts)


def single(origin: Origin, lookup: Lookup, stacked: bool) -> Tensor:
    """The tensor of one member."""
    tensor = lookup(_first(origin))
    return settled(tensor[_member(origin)]) if stacked else tensor


def _rows(run: Sequence[Origin], lookup: Lookup, stacked: bool) -> Tensor:
    tensor = lookup(_first(run[0]))
    if not stacked:
        return tensor.unsqueeze(0)
    start = _member(run[0])
    return tensor[start : start + len(run)]


def _run_of(numbered: tuple[int, Origin]) -> tuple[Origin, int]:
    """Alike for origins that follow each other in one tensor."""
    place, origin = numbered
    if isinstance(origin, External | LossCostate):
        return origin, place
    return _first(origin), origin.member - place


def _first(origin: Origin) -> Origin:
    return origin if isinstance(origin, External | LossCostate) else replace(origin, member=0)


def _member(origin: Origin) -> int:
    return 0 if isinstance(origin, External | LossCostate) else origin.member


@dataclass(frozen=True)
class Sources:
    """Where the signals and costates of one unit come from.

    inputs: by slot, an origin a member.  costates: by member, those that its out-edges return.

    answers: by member, the out-edge whose costate tells which output it speaks of (reversible).
    """

    inputs: tuple[tuple[Origin, ...], ...]
    costates: tuple[tuple[Origin, ...], ...]
    answers: tuple[Origin, ...]


@dataclass(frozen=True)
class LossUnit:
    """A loss.  first: whether its predictions are the run's.  output: where it comes from.  target: its edge."""

    number: int
    loss: LossNode
    first: bool
    output: Origin
    target: int

    @property
    def node(self) -> str:
        return self.loss.name


class FusedPlan:
    """units, judges: numbered from 0.  order: that of evaluation.  sources: by unit.

    said_for, returned_for, judged_for: for how many ticks what was said, or returned, is needed.
    signals_out, costates_out: by the edges that lead out of the partition, whose they are.
    """

    def __init__(
        self, outline: Outline, plans: Mapping[str, NodeSpec], losses: Mapping[str, LossNode]
    ) -> None:
        self.graph = outline.graph
        self.pairing = outline.locality.pairing
        self.units = units_of(self.graph, plans)
        self._plans = plans
        self._place = {
            plan.name: (unit.number, member) for unit in self.units for member, plan in enumerate(unit.plans)
        }
        self._edges = {edge.name: index for index, edge in enumerate(self.graph.edges)}
        self._losses = {node: number for number, node in enumerate(losses)}
        self.judges = tuple(self._judge(outline, losses[node]) for node in losses)
        self.sources = tuple(self._sources(unit) for unit in self.units)
        level = levels(self.graph)
        ranked: list[tuple[int, Unit | LossUnit]] = [(unit.level, unit) for unit in self.units]
        ranked += [(level[judge.node], judge) for judge in self.judges]
        self.order: list[Unit | LossUnit] = [item for _, item in sorted(ranked, key=lambda pair: pair[0])]
        self._measure()

    @property
    def reversible(self) -> bool:
        return self.pairing == "reversible"

    def hosted(self, node: str) -> bool:
        return node in self._place or node in self._losses

    def place(self, name: str) -> tuple[int, int]:
        """Unit and member of a layer."""
        return self._place[name]

    def _said(self, edge: Edge) -> Origin:
        if edge.source not in self._place:
            return External(self._edges[edge.name])
        return SignalOf(*self._place[edge.source], edge.ticks)

    def _returned(self, edge: Edge) -> Origin:
        if edge.target in self._losses:
            return LossCostate(self._losses[edge.target], edge.ticks)
        if edge.target not in self._place:
            return External(self._edges[edge.name])
        unit, member = self._place[edge.target]
        return CostateOf(unit, self._plans[edge.target].into.index(edge), member, edge.ticks)

    def _sources(self, unit: Unit) -> Sources:
        inputs = tuple(
            tuple(self._said(plan.into[slot]) for plan in unit.plans) for slot in range(unit.slots)
        )
        telling = [[e for e in plan.out_of if self._tells(plan, e)] for plan in unit.plans]
        costates = tuple(tuple(self._returned(edge) for edge in edges) for edges in telling)
        answers = tuple(origins[0] for origins in costates) if unit.pairing.reconstructs else ()
        return Sources(inputs, costates, answers)

    def _tells(self, plan: NodeSpec, edge: Edge) -> bool:
        """Whether a costate returns along an out-edge."""
        return differentiable(plan.facts.says.dtype) and (not edge.feedback or self.pairing == "current")

    def _judge(self, outline: Outline, loss: LossNode) -> LossUnit:
        output, target = self.graph.into(loss.name)
        first = loss.name == next(iter(outline.losses))
        number, edge = self._losses[loss.name], self._edges[target.name]
        return LossUnit(number, loss, first, self._said(output), edge)

    def _measure(self) -> None:
        """How far back what is said and returned must be kept, and what leads out."""
        self.said_for = [0] * len(self.units)
        self.returned_for = [0] * len(self.units)
        self.judged_for = [0] * len(self.judges)
        self.signals_out: dict[int, SignalOf] = {}
        self.costates_out: dict[int, CostateOf] = {}
        for index, edge in enumerate(self.graph.edges):
            if edge.source in self._place:
                unit, member = self._place[edge.source]
                if self.hosted(edge.target):
                    self.said_for[unit] = max(self.said_for[unit], edge.ticks)
                else:
                    self.signals_out[index] = SignalOf(unit, member, 0)
            if edge.target in self._losses and edge.source != SOURCE:
                number = self._losses[edge.target]
                self.judged_for[number] = max(self.judged_for[number], edge.ticks)
            if edge.target in self._place and edge.source != SOURCE:
                unit, member = self._place[edge.target]
                if self.hosted(edge.source):
                    self.returned_for[unit] = max(self.returned_for[unit], edge.ticks)
                else:
                    slot = self._plans[edge.target].into.index(edge)
                    self.costates_out[index] = CostateOf(unit, slot, member, 0)
