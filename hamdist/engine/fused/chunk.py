"""One regular tick of all units of a partition, as a pure function of tensors: every token is valid and learns.

As node by node, all are evaluated in the order of the zero-delay edges, and react in the reverse of it. What crosses
an edge of delay d inside the partition is what its end said d ticks ago.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import groupby

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from hamdist.engine.aligned import settled
from hamdist.engine.fused.eligibility import REGULAR, with_rates
from hamdist.engine.fused.plan import (
    CostateOf,
    External,
    FusedPlan,
    LossCostate,
    LossUnit,
    Origin,
    PointOf,
    SignalOf,
    side_by_side,
    single,
)
from hamdist.engine.fused.state import At, Back, Chunk, Entering, Flow, Leaving, Verdict
from hamdist.engine.fused.units import Unit
from hamdist.physics import memory
from hamdist.physics.pure_module import Context
from hamdist.physics.step import Evaluation, Motion, evaluate, react


def fused_chunk(
    plan: FusedPlan,
    scored: Sequence[bool],
    flow: Flow,
    entering: Entering,
    stashed: Mapping[int, At],
) -> Chunk:
    """Several ticks of a whole partition; consumes the flow.

    scored: in which of them the losses count.  stashed: the points that costates meet, [ticks, …], by unit.
    """
    ticks: list[_Tick] = []
    for number, counts in enumerate(scored):
        each = entering if len(scored) == 1 else entering.at(number)
        tick = _Tick(plan, flow, each, stashed, [before.at for before in ticks])
        tick.run()
        flow = tick.flow(counts)
        ticks.append(tick)
    met = {
        unit.number: tree_map(
            lambda *tensors: torch.stack(tensors), *(tick.at[unit.number].stashed() for tick in ticks)
        )
        for unit in plan.units
        if unit.pairing.stashes
    }
    verdicts = tuple(
        Verdict(*map(torch.stack, zip(*(tick.verdicts[judge.number] for tick in ticks), strict=True)))
        for judge in plan.judges
    )
    return Chunk(flow, _left([tick.leaving() for tick in ticks]), met, ticks[-1].at, verdicts)


def _left(each: Sequence[Leaving]) -> Leaving:
    """What goes out in some ticks."""
    if len(each) == 1:
        return tree_map(settled, each[0])
    return tree_map(lambda *tensors: torch.stack(tensors), *each)


class _Tick:
    """One tick under way.

    at: what the units are evaluated at.  verdicts: output and loss, by loss.  earlier: what units were evaluated at in
    the ticks before of this chunk, the latest last.
    """

    def __init__(
        self,
        plan: FusedPlan,
        flow: Flow,
        entering: Entering,
        stashed: Mapping[int, At],
        earlier: Sequence[Mapping[int, At]],
    ) -> None:
        self._plan, self._before, self._entering = plan, flow, entering
        self._stashed, self._earlier = stashed, tuple(earlier)
        self._carries = dict(enumerate(flow.carries))
        self.at: dict[int, At] = {}
        self._present: dict[int, Evaluation] = {}
        self._said: dict[int, Tensor] = {}
        self._returned: dict[int, Back] = {}
        self._judged: dict[int, Back] = {}
        self.verdicts: dict[int, tuple[Tensor, Tensor]] = {}
        self._sums: dict[int, Tensor] = {}

    def run(self) -> None:
        for item in self._plan.order:
            self.judge(item) if isinstance(item, LossUnit) else self.evaluate(item)
        for item in reversed(self._plan.order):
            if not isinstance(item, LossUnit):
                self.react(item)

    # First half

    def evaluate(self, unit: Unit) -> None:
        number, sources = unit.number, self._plan.sources[unit.number]
        inputs = tuple(self._gathered(unit, origins, self._value) for origins in sources.inputs)
        carry = self._carries[number]
        begun = self._entering.restarts
        at = At(inputs, carry.state, (begun[number],) if number in begun else ())
        # Made in every tick, wanted or not: without a pullback some operations choose other kernels, so other bits.
        self._carries[number], output, present = evaluate(self._motion(unit), carry, at.point, REGULAR)
        self.at[number] = at._replace(state=present.point.state)
        if unit.pairing.meets_present:
            self._present[number] = present
        self._said[number] = output.contiguous()

    def _motion(self, unit: Unit) -> Motion:
        """Members of a stack differ in their rates alone, which are tensors here."""
        dynamics = with_rates(unit.dynamics, self._before.rates[unit.number] or None)
        return Motion(unit.form, dynamics, unit.wanted)

    def judge(self, judge: LossUnit) -> None:
        output = single(judge.output, self._value, self._stacked(judge.output))
        target = self._entering.signals[judge.target]
        loss, q, sums = judge.loss.judge(output, target)
        self._judged[judge.number] = Back({0: q.contiguous()}, (output,) if self._plan.reversible else ())
        self.verdicts[judge.number] = output, loss
        self._sums[judge.number] = sums

    # Second half

    def react(self, unit: Unit) -> None:
        number = unit.number
        q = self._total(unit, self._plan.sources[number].costates)
        at, met = self._met(unit)
        self._carries[number], partials = react(self._motion(unit), self._carries[number], met, q, REGULAR)
        costates = {slot: a.contiguous() for slot, a in enumerate(partials.inputs) if a is not None}
        self._returned[number] = Back(costates, at.inputs if self._plan.reversible else ())

    def _met(self, unit: Unit) -> tuple[At, Evaluation]:
        """The points that the costates meet."""
        if unit.number in self._present:
            return self.at[unit.number], self._present[unit.number]
        if not unit.pairing.reconstructs:
            # A ring a member, read before the tick: indices into memory are no operations of a layer.
            at = self._recalled(unit)
            return at, Evaluation(at.point)
        output = self._gathered(unit, self._plan.sources[unit.number].answers, self._used)
        returned = memory.Returned(output, Context(), unit.form, self._carries[unit.number])
        met = unit.pairing.recall([], 0, returned)
        assert met is not None
        return At(met.point.inputs, ()), met

    def _recalled(self, unit: Unit) -> At:
        """Members whose costate returns within this chunk of ticks meet its own points."""
        points = [PointOf(member, plan.depth) for member, plan in enumerate(unit.plans)]

        def part(pick: str, index: int) -> Tensor:
            def look(origin: Origin) -> Tensor:
                assert isinstance(origin, PointOf)
                return getattr(self._point(unit.number, origin.ticks), pick)[index]

            return self._gathered(unit, [self._within(point) for point in points], look)

        at = self.at[unit.number]
        return At(
            tuple(part("inputs", slot) for slot in range(len(at.inputs))),
            tuple(part("state", index) for index in range(len(at.state))),
            tuple(part("restarts", index) for index in range(len(at.restarts))),
        )

    def _within(self, point: PointOf) -> PointOf:
        """A point from before this chunk is among those stashed, whatever its age."""
        return point if point.ticks <= len(self._earlier) else PointOf(point.member, -1)

    def _point(self, number: int, ticks: int) -> At:
        if ticks < 0:
            return tree_map(lambda tensor: settled(tensor[len(self._earlier)]), self._stashed[number])
        return self._earlier[-ticks][number] if ticks else self.at[number]

    # Signals and costates

    def _gathered(self, unit: Unit, origins: Sequence[Origin], lookup: Callable[[Origin], Tensor]) -> Tensor:
        def stacked(origin: Origin) -> bool:
            return unit.stacks if isinstance(origin, PointOf) else self._stacked(origin)

        if unit.stacks:
            return side_by_side(origins, lookup, stacked)
        return single(origins[0], lookup, stacked(origins[0]))

    def _stacked(self, origin: Origin) -> bool:
        """Whether an origin is one of several members in a tensor."""
        return isinstance(origin, SignalOf | CostateOf) and self._plan.units[origin.unit].stacks

    def _total(self, unit: Unit, costates: Sequence[Sequence[Origin]]) -> Tensor:
        """q of every member: the sum of what its out-edges return, in edge order."""
        parts = []
        for count, run in groupby(costates, len):
            members = list(run)
            terms = [
                self._gathered(unit, [origins[k] for origins in members], self._costate) for k in range(count)
            ]
            parts.append(reduce(torch.add, terms) if terms else self._quiet(unit, len(members)))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _quiet(self, unit: Unit, members: int) -> Tensor:
        said = self._said[unit.number]
        return torch.zeros_like(said[:members] if unit.stacks else said)

    def _value(self, origin: Origin) -> Tensor:
        """The signal of an origin."""
        if isinstance(origin, External):
            return self._entering.signals[origin.edge]
        assert isinstance(origin, SignalOf)
        return self._before.said[origin.unit][origin.ticks - 1] if origin.ticks else self._said[origin.unit]

    def _costate(self, origin: Origin) -> Tensor:
        return self._back(origin).costates[origin.slot if isinstance(origin, CostateOf) else 0]

    def _used(self, origin: Origin) -> Tensor:
        """The input that the node behind an out-edge used."""
        return self._back(origin).used[origin.slot if isinstance(origin, CostateOf) else 0]

    def _back(self, origin: Origin) -> Back:
        match origin:
            case External():
                return self._entering.costates[origin.edge]
            case LossCostate():
                before = self._before.judged[origin.loss]
                return before[origin.ticks - 1] if origin.ticks else self._judged[origin.loss]
            case CostateOf():
                told = self._before.returned[origin.unit]
                return told[origin.ticks - 1] if origin.ticks else self._returned[origin.unit]
        raise AssertionError(origin)

    # Afterwards

    def flow(self, scored: bool) -> Flow:
        plan, before = self._plan, self._before
        units, judges = range(len(plan.units)), range(len(plan.judges))
        return Flow(
            carries=tuple(self._carries[u] for u in units),
            rates=before.rates,
            said=tuple((self._said[u], *before.said[u])[: plan.said_for[u]] for u in units),
            returned=tuple((self._returned[u], *before.returned[u])[: plan.returned_for[u]] for u in units),
            judged=tuple((self._judged[j], *before.judged[j])[: plan.judged_for[j]] for j in judges),
            scores=tuple(
                (total.add_(self._sums[j]), window.add_(self._sums[j])) if scored else (total, window)
                for j, (total, window) in enumerate(before.scores)
            ),
        )

    def leaving(self) -> Leaving:
        plan = self._plan
        return Leaving(
            signals={edge: self._member(self._said[o.unit], o) for edge, o in plan.signals_out.items()},
            costates={edge: self._back_of(origin) for edge, origin in plan.costates_out.items()},
        )

    def _member(self, tensor: Tensor, origin: SignalOf | CostateOf) -> Tensor:
        return tensor[origin.member] if self._stacked(origin) else tensor

    def _back_of(self, origin: CostateOf) -> Back:
        """What one member returns along one edge."""
        back = self._returned[origin.unit]
        costates = (
            {0: self._member(back.costates[origin.slot], origin)} if origin.slot in back.costates else {}
        )
        used = (self._member(back.used[origin.slot], origin),) if back.used else ()
        return Back(costates, used)
