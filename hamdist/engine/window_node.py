"""A layer whose costates go back through a window of time: `time: backward`."""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from hamdist.engine.aligned import aligned
from hamdist.engine.fused.layer import TracedStep
from hamdist.engine.layer_node import Cell, CellPlan
from hamdist.engine.message import NO_COSTATE, Costate, Token
from hamdist.engine.profiler import SILENT, Timeline
from hamdist.network.locality import Horizon
from hamdist.physics.bptt import Step, stepped, swept
from hamdist.physics.memory import Past
from hamdist.physics.step import learn


class WindowCell(Cell):
    """A costate [K, B, …] speaks of the sample of its token and of the K − 1 before it, the latest last.

    Where fewer were, the first places are of nothing, and zero.
    """

    def __init__(self, plan: CellPlan, horizon: Horizon, timeline: Timeline = SILENT) -> None:
        super().__init__(plan, timeline)
        self._horizon = horizon
        self._step = _step_of(plan)
        self.past = Past(self._layer, horizon.ticks, plan.depth, horizon.reintegrates)
        self._entered = self.carry.state  # this tick's, before episodes began
        self._uncounted: list[Token] = []  # of what was evaluated and has not driven

    @property
    def compile_seconds(self) -> float:
        """What compiling a step back took."""
        return self._step.seconds if isinstance(self._step, TracedStep) else 0.0

    @property
    def _linearises(self) -> bool:
        return False

    def _learn_from(self, tick: int, token: Token, inputs: tuple[Tensor, ...]) -> Tensor:
        self._entered = self.carry.state
        return super()._learn_from(tick, token, inputs)

    def _remember(self, token: Token) -> None:
        if self._evaluation is not None:
            self.past.remember(token.tick, self._evaluation.point, self._entered)
            self._uncounted.append(token)
            self._evaluation = None

    def react(self, tick: int, costates: list[Costate]) -> list[Costate]:
        """Takes one costate per out-edge and returns one per in-edge."""
        token = self._out.token(costates)
        if not token.valid:
            return [NO_COSTATE] * len(self.plan.into)
        driving = self._driving(token)
        most = self._horizon.ticks if self._horizon.slid else len(driving)
        points = self.past.window(token.tick, most, self.carry)
        told = self._total(costates)[self._horizon.ticks - len(points) :].unbind()
        with self._computing:
            carry, partials = swept(self._step, self.carry, points, told, self._wanted(tick))
        with self._integrating:
            self.carry = learn(carry, partials, self.plan.dynamics)
        self._count(driving)
        return [
            Costate(token, None if value is None else aligned(self._whole(value))) if forward else NO_COSTATE
            for forward, value in zip(self._forward_in, partials.inputs, strict=True)
        ]

    def _silence(self) -> Tensor:
        says = self.plan.facts.output
        return says.expand(self._horizon.ticks, *says.shape)

    def _whole(self, window: Tensor) -> Tensor:
        """With zeros in the places of nothing."""
        missing = self._horizon.ticks - len(window)
        return window if not missing else torch.cat([window.new_zeros(missing, *window.shape[1:]), window])

    def _driving(self, token: Token) -> list[Token]:
        """What was evaluated up to the samples of a token and has not driven the layer: a block, or a single tick."""
        driving = [t for t in self._uncounted if t.tick <= token.tick]
        self._uncounted = self._uncounted[len(driving) :]
        return driving

    def _count(self, driving: list[Token]) -> None:
        """It drives the layer."""
        in_order = all(before.first + before.rows == after.first for before, after in pairwise(driving))
        rows = sum(t.rows for t in driving)
        self.ledger.drove_in_a_row(1, rows, driving[0], driving[-1], in_order)


def _step_of(plan: CellPlan) -> Step:
    if plan.traced is None:
        return partial(stepped, plan.layer, plan.dynamics.tau)
    return TracedStep(plan.layer, plan.dynamics.tau, plan.compiles)


def cell_of(plan: CellPlan, timeline: Timeline = SILENT) -> Cell:
    """The cell of a layer."""
    return Cell(plan, timeline) if plan.horizon is None else WindowCell(plan, plan.horizon, timeline)
