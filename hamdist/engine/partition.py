"""The nodes of a network that one process hosts, and what they do in one tick.

What every partition does is a subsequence of one order that is the same everywhere (network/tick_order.py), so that
partitions never wait for each other in a circle.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hamdist.engine.channel import InChannel, OutChannel
from hamdist.engine.divergence import check_judged
from hamdist.engine.fused.executor import FusedExecutor
from hamdist.engine.fused.obstacles import obstacle, slow_layers
from hamdist.engine.layer_node import LayerNode
from hamdist.engine.loss_node import LossNode, Prediction
from hamdist.engine.node_spec import NodeSpec
from hamdist.engine.parts import costates_of, own_part, refill, signals_of
from hamdist.engine.profiler import SILENT, Timeline
from hamdist.engine.spec import Outline
from hamdist.engine.state import PartitionState, SourceState, copied
from hamdist.engine.watch import Watch
from hamdist.errors import DivergenceError, RunError
from hamdist.network.graph import Edge
from hamdist.network.tick_order import Turn
from hamdist.physics.step import Carry


class BrokenTick(NamedTuple):
    """A tick, or several in one go, that an error broke off.

    tick: the first of them.  reached: by layer, the fewest and the most ticks that are in its weights.
    """

    tick: int
    reached: dict[str, tuple[int, int]]
    error: BaseException


class Partition:
    """Layers and losses of one process, joined by channels: those inside it, and remote ones to other processes.

    tick: the number of ticks done.  broken_off: the tick that an error broke off; none follows until a cut is
    restored, since its messages are lost, and a step may write over what it is given.  order: the turns of hosted
    nodes.  into, out_of: the ways to and from hosted nodes, in edge order; a channel is in both.  targets: an example
    of those to come, where a loss is hosted.  chunk: regular ticks that run in one go.  timeline: of all that is done
    here.
    """

    def __init__(
        self,
        outline: Outline,
        plans: Mapping[str, NodeSpec],
        into: Sequence[InChannel],
        out_of: Sequence[OutChannel],
        targets: Tensor | None,
        chunk: int = 1,
        timeline: Timeline = SILENT,
    ) -> None:
        self.outline = outline
        self._timeline, self._judging = timeline, timeline.span("compute", "loss")
        self.tick = 0
        self.broken_off: BrokenTick | None = None
        self._watch = Watch(plans)
        self._nodes = {name: LayerNode(_timed(plan, timeline)) for name, plan in plans.items()}
        self.losses = {
            node: _loss_node(outline, node, plans[spec.layer], targets)
            for node, spec in outline.losses.items()
            if spec.layer in plans
        }
        self._device = next((plan.facts.says.device for plan in plans.values()), None)
        hosted = {*self._nodes, *self.losses}
        self.order = tuple(turn for turn in outline.order if turn.node in hosted)
        self._into: dict[str, list[InChannel]] = {node: [] for node in hosted}
        self._out_of: dict[str, list[OutChannel]] = {node: [] for node in hosted}
        for inward in into:
            self._into[inward.edge.target].append(inward)
        for outward in out_of:
            self._out_of[outward.edge.source].append(outward)
        self._inward, self._outward = tuple(into), tuple(out_of)
        self._obstacle, self._fused = "", None
        if outline.execution.stacked:
            self._obstacle = obstacle(outline, self._nodes, self.losses, into, out_of)
            if not self._obstacle:
                self._fused = FusedExecutor(outline, self._nodes, self.losses, into, out_of, chunk, timeline)

    @property
    def execution(self) -> dict[str, Any]:
        """How regular ticks ran, and which layers were not traced or stacked and why, for the summary.

        Nothing where all were to run node by node.
        """
        slow = slow_layers(node.spec for node in self._nodes.values())
        if self._fused is not None:
            return self._fused.execution | slow
        told: dict[str, Any] = {"node_by_node": self._obstacle, **slow} if self._obstacle else {}
        seconds = sum(node.compile_seconds for node in self._nodes.values())
        return told | ({"compile_seconds": round(seconds, 3)} if seconds else {})

    @property
    def nodes(self) -> dict[str, LayerNode]:
        """The layers at work, by name, as they are now. Raises DivergenceError, once, where nothing else went wrong."""
        if self._fused is not None:
            with suppress(*([] if self.broken_off is None else [DivergenceError])):
                self._fused.release(self.tick)
        return self._nodes

    # All that moves

    @property
    def reached(self) -> dict[str, tuple[int, int]]:
        """By layer, the fewest and the most ticks that are in its weights: the same where the last tick ended."""
        return self.broken_off.reached if self.broken_off else dict.fromkeys(self._nodes, (self.tick,) * 2)

    def cut(self) -> PartitionState:
        """A copy of all that moves, as it is before the next tick. Raises RunError where the last broke off."""
        self._require_whole()
        nodes = {name: node.state for name, node in self.nodes.items()}
        losses = {node: loss.state for node, loss in self.losses.items()}
        signals, costates = signals_of(self._outward), costates_of(self._inward)
        return copied(PartitionState(self.tick, nodes, losses, signals, costates))

    def restore(self, state: PartitionState, source: SourceState) -> None:
        """Goes on from a cut of the whole network, or of a part in which is all that this one hosts and will hear; the
        cut stays as it is.

        Raises RunError where something is missing.
        """
        state = own_part(state, source, self._nodes, self.losses, self._inward, self._outward)
        self.broken_off = None
        self.tick, nodes, losses, signals, costates = copied(state, self._device)
        for name, node in self._nodes.items():
            node.state = nodes[name]
        for bearing, loss in self.losses.items():
            loss.state = losses[bearing]
        refill(self._inward, self._outward, signals, costates)
        self._watch.restart(self.tick)
        if self._fused is not None:
            self._fused.resume(self.tick, source.recent)

    # Ticks

    def advance(self, ticks: int = 1) -> list[Prediction]:
        """So many ticks; what left the network in them, at its first loss, if that is here.

        Raises RunError naming the node and the tick, DivergenceError, StreamError; none follows then.
        """
        left, end = [], self.tick + ticks
        while self.tick < end:
            left += self.go(end - self.tick)
        return left

    @torch.no_grad()
    def go(self, most: int) -> list[Prediction]:
        """A chunk of ticks, at most so many, where they are regular; else one. As `advance`."""
        self._require_whole()
        together = 0 if self._fused is None else self._fused.possible(self.tick, most)
        left = self._steps(together) if together else self._step()
        self._watch.after(self.tick, self._carries)
        return left

    def _carries(self) -> Mapping[str, Carry]:
        """Of every layer, wherever it is now."""
        held = {} if self._fused is None else self._fused.carries
        return held or {name: node.carry for name, node in self._nodes.items()}

    def _steps(self, together: int) -> list[Prediction]:
        """So many ticks, in one go."""
        assert self._fused is not None
        try:
            left = self._fused.run(self.tick, together)
        except BaseException as error:
            self._break_off_chunk(together, error)
            raise
        self.tick += together
        return left

    def _require_whole(self) -> None:
        """Raises RunError after a tick that broke off."""
        if self.broken_off is not None:
            tick, _, error = self.broken_off
            raise RunError(
                f"tick {tick} broke off and cannot be gone on from ({str(error) or type(error).__name__}); the "
                "weights of all layers can still be read"
            )

    def _break_off_chunk(self, ticks: int, error: BaseException) -> None:
        """What failed is ticks in one go, of which some may be in the weights, or a look back at those before."""
        assert self._fused is not None
        more = 0 if self._fused.reached > self.tick else ticks
        self.tick = max(self.tick, self._fused.reached)
        reached = dict.fromkeys(self._nodes, (self.tick, self.tick + more))
        self.broken_off = BrokenTick(self.tick, reached, error)

    def _break_off(self, turn: int, error: BaseException) -> None:
        """What failed is a turn of this tick; one that was interrupted may have moved its layer, or not."""
        failed = None if isinstance(error, Exception) else self.order[turn]
        reached = {
            name: (self.tick + (Turn("react", name) in self.order[:turn]),) * 2 for name in self._nodes
        }
        if failed is not None and failed.half == "react" and failed.node in reached:
            reached[failed.node] = (self.tick, self.tick + 1)
        self.broken_off = BrokenTick(self.tick, reached, error)

    def _step(self) -> list[Prediction]:
        """One tick, node by node."""
        if self._fused is not None:
            self._fused.release(self.tick)
            self._fused.watch()
        self._timeline.begin(self.tick)
        turn = 0
        try:
            for turn, (half, node) in enumerate(self.order):  # noqa: B007 - how far it came
                if node in self._nodes:
                    self._evaluate(node) if half == "evaluate" else self._react(node)
                else:
                    self._judge(node) if half == "evaluate" else self._answer(node)
        except BaseException as error:
            self._break_off(turn, error)
            raise
        self.tick += 1
        first = self.losses.get(next(iter(self.outline.losses)))
        return [] if first is None or first.prediction is None else [first.prediction]

    def _evaluate(self, name: str) -> None:
        signals = [way.signals.popleft() for way in self._into[name]]
        try:
            shown = self._nodes[name].evaluate(self.tick, signals)
        except BaseException as error:
            raise self._failed(f"layer {name!r}", error)  # noqa: B904 - it has its cause
        for way in self._out_of[name]:
            way.signals.append(shown)

    def _judge(self, node: str) -> None:
        output, target = (way.signals.popleft() for way in self._into[node])
        loss = self.losses[node]
        try:
            with self._judging:
                loss.evaluate(self.tick, output, target)
        except BaseException as error:
            raise self._failed(loss.described(output, target), error)  # noqa: B904 - it has its cause
        if loss.loss is not None:
            with self._judging:  # before any layer reacts in this tick
                check_judged(self.tick, loss, output, target, self._nodes)

    def _react(self, name: str) -> None:
        costates = [way.costates.popleft() for way in self._out_of[name]]
        try:
            returned = self._nodes[name].react(self.tick, costates)
        except BaseException as error:
            raise self._failed(f"layer {name!r}", error)  # noqa: B904 - it has its cause
        for way, costate in zip(self._into[name], returned, strict=True):
            way.costates.append(costate)

    def _answer(self, node: str) -> None:
        """The costate to the layer; along the target's edge nothing returns."""
        for way, costate in zip(self._into[node], self.losses[node].react(), strict=True):
            way.costates.append(costate)

    def _failed(self, what: str, error: BaseException) -> BaseException:
        """What a module raised, with where and when; what hamdist itself raised says so already, and a
        KeyboardInterrupt may be the user's own.
        """
        if isinstance(error, RunError | KeyboardInterrupt):
            return error
        said = str(error) if isinstance(error, Exception) else repr(error)
        named = RunError(f"{what} failed at tick {self.tick}: {said}")
        named.__cause__ = error
        return named


def _timed(spec: NodeSpec, timeline: Timeline) -> NodeSpec:
    """With spans of the timeline around what takes time."""
    computing, integrating = (timeline.span(kind, spec.name) for kind in ("compute", "integrate"))
    return replace(spec, computing=computing, integrating=integrating)


def initial_value(outline: Outline, edge: Edge, plan: NodeSpec) -> Tensor | None:
    """Valid zeros in a layer's forward edge under `warmup: zeros`, else nothing."""
    if not outline.warm(edge):
        return None
    return plan.facts.hears[plan.into.index(edge)].zeros()


def _loss_node(outline: Outline, node: str, plan: NodeSpec, targets: Tensor | None) -> LossNode:
    assert targets is not None
    example = (plan.facts.output, targets)
    spec, gamma = outline.losses[node], outline.learning.gamma
    skips = outline.learning.skips
    return LossNode(node, spec, gamma, outline.locality, example, outline.absence.ignored, skips)
