"""The nodes of a network that one process hosts, and what they do in one tick.

What every partition does is a subsequence of one order that is the same everywhere (network/tick_order.py), so that
partitions never wait for each other in a circle.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hamdist.engine.channel import Channel, InWay, OutWay
from hamdist.engine.divergence import diagnosis, extents
from hamdist.engine.fused.executor import Region
from hamdist.engine.fused.obstacles import obstacle, slow_layers
from hamdist.engine.layer_node import LayerNode
from hamdist.engine.loss_node import LossNode, Prediction
from hamdist.engine.node_spec import NodeSpec
from hamdist.engine.profiler import SILENT, Timeline
from hamdist.engine.spec import Outline
from hamdist.engine.state import ChannelState, PartitionState, copied
from hamdist.errors import DivergenceError, RunError
from hamdist.network.graph import Edge
from hamdist.report.wording import listed


class Part:
    """Cells and losses of one process, joined by ways: channels inside it, and doors to other parts.

    tick: the number of ticks done.  order: the turns of hosted nodes.  into, out_of: the ways to and
    from hosted nodes, in edge order; a channel is in both.  targets: an example of those to come, where a loss is
    hosted.  chunk: regular ticks that run in one go.  timeline: of all that is done here.
    """

    def __init__(
        self,
        outline: Outline,
        plans: Mapping[str, NodeSpec],
        into: Sequence[InWay],
        out_of: Sequence[OutWay],
        targets: Tensor | None,
        chunk: int = 1,
        timeline: Timeline = SILENT,
    ) -> None:
        self.outline = outline
        self._timeline, self._judging = timeline, timeline.span("compute", "loss")
        self.tick = 0
        self._cells = {name: LayerNode(_timed(plan, timeline)) for name, plan in plans.items()}
        self.losses = {
            node: _loss_node(outline, node, plans[spec.layer], targets)
            for node, spec in outline.losses.items()
            if spec.layer in plans
        }
        hosted = {*self._cells, *self.losses}
        self.order = tuple(turn for turn in outline.order if turn.node in hosted)
        self._into: dict[str, list[InWay]] = {node: [] for node in hosted}
        self._out_of: dict[str, list[OutWay]] = {node: [] for node in hosted}
        for inward in into:
            self._into[inward.edge.target].append(inward)
        for outward in out_of:
            self._out_of[outward.edge.source].append(outward)
        self._channels = [way for way in into if isinstance(way, Channel)]
        self._obstacle, self._region = "", None
        if outline.execution.stacked:
            self._obstacle = obstacle(outline, self._cells, self.losses, into, out_of)
            if not self._obstacle:
                self._region = Region(outline, self._cells, self.losses, into, out_of, chunk, timeline)

    @property
    def told(self) -> dict[str, Any]:
        """How regular ticks ran, and which layers were not traced or stacked and why, for the summary.

        Nothing where all were to run node by node.
        """
        slow = slow_layers(cell.spec for cell in self._cells.values())
        if self._region is not None:
            return self._region.told | slow
        told: dict[str, Any] = {"node_by_node": self._obstacle, **slow} if self._obstacle else {}
        seconds = sum(cell.compile_seconds for cell in self._cells.values())
        return told | ({"compile_seconds": round(seconds, 3)} if seconds else {})

    @property
    def cells(self) -> dict[str, LayerNode]:
        """The layers at work, by name, as they are now."""
        if self._region is not None:
            self._region.release(self.tick)
        return self._cells

    # All that moves

    def cut(self) -> PartitionState:
        """A copy of all that moves, as it is before the next tick."""
        nodes = {name: cell.state for name, cell in self.cells.items()}
        losses = {node: loss.state for node, loss in self.losses.items()}
        channels = {
            channel.edge.name: ChannelState(channel.signals.content, channel.costates.content)
            for channel in self._channels
        }
        return copied(PartitionState(self.tick, nodes, losses, channels))

    def restore(self, state: PartitionState) -> None:
        """Goes on from a cut of a partition that hosts the same nodes; the cut stays as it is.

        Raises RunError for that of another.
        """
        self._require_same(state)
        if self._region is not None:
            self._region.restart(self.tick)
        self.tick, nodes, losses, channels = copied(state)
        for name, cell in self._cells.items():
            cell.state = nodes[name]
        for node, loss in self.losses.items():
            loss.state = losses[node]
        for channel in self._channels:
            channel.signals.refill(channels[channel.edge.name].signals)
            channel.costates.refill(channels[channel.edge.name].costates)

    def _require_same(self, state: PartitionState) -> None:
        hosted = {*self._cells, *self.losses, *(channel.edge.name for channel in self._channels)}
        strange = hosted ^ {*state.nodes, *state.losses, *state.channels}
        if strange:
            raise RunError(f"a state of another partition: only one of the two has {listed(sorted(strange))}")

    # Ticks

    def advance(self, ticks: int = 1) -> list[Prediction]:
        """So many ticks; what left the network in them, at its first loss, if that is here.

        Raises RunError naming the node and the tick, DivergenceError, StreamError.
        """
        left, end = [], self.tick + ticks
        while self.tick < end:
            left += self.go(end - self.tick)
        return left

    @torch.no_grad()
    def go(self, most: int) -> list[Prediction]:
        """A chunk of ticks, at most so many, where they are regular; else one. As `advance`."""
        together = 0 if self._region is None else self._region.possible(self.tick, most)
        if self._region is None or not together:
            return self._step()
        left = self._region.run(self.tick, together)
        self.tick += together
        return left

    def _step(self) -> list[Prediction]:
        """One tick, node by node."""
        if self._region is not None:
            self._region.release(self.tick)
            self._region.watch()
        self._timeline.begin(self.tick)
        for half, node in self.order:
            if node in self._cells:
                self._evaluate(node) if half == "evaluate" else self._react(node)
            else:
                self._judge(node) if half == "evaluate" else self._answer(node)
        self.tick += 1
        first = self.losses.get(next(iter(self.outline.losses)))
        return [] if first is None or first.prediction is None else [first.prediction]

    def _evaluate(self, name: str) -> None:
        signals = [way.signals.popleft() for way in self._into[name]]
        with self._named(f"layer {name!r}"):
            shown = self._cells[name].evaluate(self.tick, signals)
        for way in self._out_of[name]:
            way.signals.append(shown)

    def _judge(self, node: str) -> None:
        output, target = (way.signals.popleft() for way in self._into[node])
        loss = self.losses[node]
        try:
            with self._judging:
                loss.evaluate(self.tick, output, target)
        except RunError:
            raise
        except Exception as error:
            refused = loss.refused(output, target)
            raise refused or RunError(
                f"the loss {loss.spec.name} failed at tick {self.tick}: {error}"
            ) from error
        self._check(node)

    def _react(self, name: str) -> None:
        costates = [way.costates.popleft() for way in self._out_of[name]]
        with self._named(f"layer {name!r}"):
            returned = self._cells[name].react(self.tick, costates)
        for way, costate in zip(self._into[name], returned, strict=True):
            way.costates.append(costate)

    def _answer(self, node: str) -> None:
        """The costate to the layer; along the target's edge nothing returns."""
        for way, costate in zip(self._into[node], self.losses[node].react(), strict=True):
            way.costates.append(costate)

    def _check(self, node: str) -> None:
        """Stops at the first tick whose loss is not finite, before any layer reacts in it."""
        loss = self.losses[node].loss
        if loss is not None and not self._finite(loss):
            value = loss.item()
            raise DivergenceError(diagnosis(self.tick, value, extents(self._cells)), value)

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        """What a module raises becomes a RunError that says where and when."""
        try:
            yield
        except RunError:
            raise
        except Exception as error:
            raise RunError(f"{what} failed at tick {self.tick}: {error}") from error

    def _finite(self, loss: Tensor) -> bool:
        """Whether it is. On a GPU this is where the tick's work so far is awaited."""
        with self._judging:
            return bool(torch.isfinite(loss))


def _timed(spec: NodeSpec, timeline: Timeline) -> NodeSpec:
    """With spans of the timeline around what takes time."""
    computing, integrating = (timeline.span(kind, spec.name) for kind in ("compute", "integrate"))
    return replace(spec, computing=computing, integrating=integrating)


def initial_value(outline: Outline, edge: Edge, plan: NodeSpec) -> Tensor | None:
    """Valid zeros in a layer's forward edge under `warmup: zeros`, else nothing."""
    if outline.locality.warmup != "zeros" or edge.feedback:
        return None
    return plan.facts.hears[plan.into.index(edge)].zeros()


def _loss_node(outline: Outline, node: str, plan: NodeSpec, targets: Tensor | None) -> LossNode:
    assert targets is not None
    example = (plan.facts.output, targets)
    return LossNode(node, outline.losses[node], outline.learning.gamma, outline.locality, example)
