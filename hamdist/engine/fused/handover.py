"""The way into fused ticks and out of them: what nodes and channels hold, as a flow, and back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from hamdist.engine.channel import Channel
from hamdist.engine.fused.plan import FusedPlan
from hamdist.engine.fused.state import At, Back, Flow, Stashes, along, apart, there, together
from hamdist.engine.fused.tokens import Passage
from hamdist.engine.fused.units import Unit
from hamdist.engine.layer_node import LayerNode, restarts_of, resumed
from hamdist.engine.loss_node import LossNode
from hamdist.engine.message import NO_COSTATE, Costate, Message, Signal
from hamdist.engine.node_spec import NodeSpec
from hamdist.errors import RunError
from hamdist.network.graph import SOURCE, Edge
from hamdist.network.timing import Times
from hamdist.physics.layers import Point as Place
from hamdist.physics.memory import Stash

Tree = TypeVar("Tree")


class Handover:
    """channels: the edges inside the part, by name."""

    def __init__(
        self,
        plan: FusedPlan,
        times: Times,
        cells: Mapping[str, LayerNode],
        losses: Mapping[str, LossNode],
        channels: Mapping[str, Channel],
        chunk: int,
    ) -> None:
        self._times = times
        self._plan, self._cells, self._losses, self._channels = plan, cells, losses, channels
        self._chunk = chunk
        self._device = next(iter(cells.values())).spec.facts.says.device
        self.stashes: dict[int, Stashes] = {}

    # In

    def take(self, tick: int) -> Flow:
        """Everything as it is before a tick."""
        plan = self._plan
        self.stashes = {unit.number: self._stashes(unit, tick) for unit in plan.units if unit.pairing.stashes}
        return Flow(
            carries=tuple(
                self._joined(unit, [self._cells[p.name].carry for p in unit.plans]) for unit in plan.units
            ),
            rates=tuple(self._rates(unit) for unit in plan.units),
            said=tuple(self._said(unit) for unit in plan.units),
            returned=tuple(self._returned(unit) for unit in plan.units),
            judged=tuple(self._judged(number) for number in range(len(plan.judges))),
            scores=tuple(self._losses[judge.node].prequential.sums(self._device) for judge in plan.judges),
        )

    def _joined(self, unit: Unit, trees: Sequence[Tree]) -> Tree:
        return together(trees) if unit.stacks else trees[0]

    def _rates(self, unit: Unit) -> dict[str, Tensor]:
        spreads = [plan.dynamics.rate.spread for plan in unit.plans]
        known = [spread for spread in spreads if spread is not None]
        parameters = self._cells[unit.plans[0].name].carry.parameters
        return {
            name: along(torch.stack([spread[name] for spread in known]), parameters[name].unsqueeze(0))
            for name in (known[0] if known else ())
        }

    def _said(self, unit: Unit) -> tuple[Tensor, ...]:
        """What the unit said, the latest first; zeros where no edge needs it any more."""
        return tuple(
            self._joined(unit, [self._said_by(plan, ago) for plan in unit.plans])
            for ago in range(1, self._plan.said_for[unit.number] + 1)
        )

    def _said_by(self, plan: NodeSpec, ago: int) -> Tensor:
        for edge in plan.out_of:
            if edge.name in self._channels and edge.ticks >= ago:
                return there([*self._channels[edge.name].signals][edge.ticks - ago].value)
        return plan.facts.says.zeros()

    def _returned(self, unit: Unit) -> tuple[Back, ...]:
        slots = [slot for slot, wanted in enumerate(unit.wanted.inputs) if wanted]
        every = range(unit.slots) if self._plan.reversible else ()
        return tuple(
            Back(
                {
                    slot: self._joined(unit, [self._back(p, slot, ago)[0] for p in unit.plans])
                    for slot in slots
                },
                tuple(
                    self._joined(unit, [self._back(p, slot, ago)[1] for p in unit.plans]) for slot in every
                ),
            )
            for ago in range(1, self._plan.returned_for[unit.number] + 1)
        )

    def _back(self, plan: NodeSpec, slot: int, ago: int) -> tuple[Tensor, Tensor]:
        """∂H/∂a along an in-edge and the input used, zeros where nobody will ask."""
        edge = plan.into[slot]
        costate = NO_COSTATE
        if edge.name in self._channels and edge.source != SOURCE and edge.ticks >= ago:
            costate = [*self._channels[edge.name].costates][edge.ticks - ago]
        quiet = plan.facts.hears[slot].zeros()
        return (
            quiet if costate.value is None else costate.value,
            quiet if costate.output is None else costate.output,
        )

    def _judged(self, number: int) -> tuple[Back, ...]:
        edge = self._plan.graph.into(self._plan.judges[number].node)[0]
        told = reversed([*self._channels[edge.name].costates])
        return tuple(
            Back({0: there(c.value)}, (there(c.output),) if self._plan.reversible else ()) for c in told
        )

    def _stashes(self, unit: Unit, tick: int) -> Stashes:
        example = self._cells[unit.plans[0].name]
        lone = (*example.spec.facts.inputs, *example.carry.state)
        like = tuple(t.expand(len(unit.plans), *t.shape) for t in lone) if unit.stacks else lone
        stashes = Stashes([plan.depth for plan in unit.plans], self._chunk, like, unit.stacks)
        for member, plan in enumerate(unit.plans):
            for ago, point in enumerate(self._remembered(plan, tick), start=1):
                stashes.put_one(member, tick - ago, (*point.inputs, *point.state))
        return stashes

    def _remembered(self, plan: NodeSpec, tick: int) -> Iterator[Place]:
        """What a layer stashed in its last D ticks, the latest first."""
        assert isinstance(plan.memory, Stash)
        for ago, point in enumerate(plan.memory.points(self._cells[plan.name].state.kept, tick), start=1):
            if point is None:
                raise RunError(
                    f"layer {plan.name!r}: nothing was evaluated at tick {tick - ago}, before tick {tick}"
                )
            yield point

    # Out

    def give_back(self, flow: Flow, tick: int, passage: Passage, latest: Mapping[int, At]) -> None:
        """Everything as it is before a tick.  latest: what units were evaluated at in the tick before."""
        for unit in self._plan.units:
            number, count = unit.number, len(unit.plans)
            carries = apart(flow.carries[number], count) if unit.stacks else [flow.carries[number]]
            points = apart(latest[number], count) if unit.stacks else [latest[number]]
            for member, plan in enumerate(unit.plans):
                cell = self._cells[plan.name]
                latest_point = points[member].point
                cell.carry = carries[member]
                shown = passage[self._times.heard(plan.name, tick - 1)]
                held = passage[self._times.returned(plan.name, tick - 1 + plan.layer.latency)]
                remembered = self._points(unit, member, latest_point, tick, passage)
                cell.state = resumed(plan, cell.state, tick, latest_point, remembered)
                if plan.latency:
                    cell.state = cell.state._replace(shown=shown, held=held)
        for channel in self._channels.values():
            if channel.edge.source != SOURCE:
                self._refill(channel, flow, tick, passage)

    def _points(self, unit: Unit, member: int, latest: Place, tick: int, passage: Passage) -> list[Place]:
        """What a member stashed, the latest first."""
        if unit.number not in self.stashes:
            return [latest]
        plan, stash, points = unit.plans[member], self.stashes[unit.number], []
        for ago in range(1, plan.depth + 1):
            tensors = stash.get_one(member, tick - ago)
            token = passage[self._times.heard(plan.name, tick - ago)]
            flags = restarts_of(token, plan) if unit.remembers else None
            points.append(Place(tensors[: unit.slots], tensors[unit.slots :], restarts=flags))
        return points or [latest]

    def _refill(self, channel: Channel, flow: Flow, tick: int, passage: Passage) -> None:
        edge = channel.edge
        signals, costates = [], []
        for ago in range(edge.ticks, 0, -1):
            said = passage[self._times.said(edge.source, tick - ago)]
            signals.append(Signal(said, self._value_of(edge, flow, ago)))
            costates.append(self._costate_of(edge, flow, ago, tick, passage))
        channel.signals.refill(map(Message.of, signals))
        channel.costates.refill(map(Message.of, costates))

    def _value_of(self, edge: Edge, flow: Flow, ago: int) -> Tensor:
        unit, member = self._plan.place(edge.source)
        return self._one(unit, member, flow.said[unit][ago - 1])

    def _costate_of(self, edge: Edge, flow: Flow, ago: int, tick: int, passage: Passage) -> Costate:
        """What came back along an edge."""
        token = passage[self._times.returned(edge.target, tick - ago)]
        node = [judge.number for judge in self._plan.judges if judge.node == edge.target]
        if node:
            back, slot = flow.judged[node[0]][ago - 1], 0
            return Costate(token, back.costates[0], back.used[0] if back.used else None)
        unit, member = self._plan.place(edge.target)
        plan = self._plan.units[unit].plans[member]
        if edge.feedback and self._plan.pairing != "current":
            return NO_COSTATE
        slot, back = plan.into.index(edge), flow.returned[unit][ago - 1]
        value = self._one(unit, member, back.costates[slot]) if plan.facts.wanted[slot] else None
        return Costate(token, value, self._one(unit, member, back.used[slot]) if back.used else None)

    def _one(self, unit: int, member: int, tensor: Tensor) -> Tensor:
        return tensor[member].clone() if self._plan.units[unit].stacks else tensor
