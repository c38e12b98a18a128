"""A partition whose regular ticks run as one: it sees when they are, takes over from nodes and channels, gives back.

A tick is regular if every token that any of the partition's nodes meets in it is valid, learns, and speaks of a full
batch. Where all samples that entered for the longest way through the network and back were so, that holds for all
within. The operations of such ticks are made when they first come: traced, and compiled if asked for.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from hamdist.compiler.trace import Traced
from hamdist.engine.channel import InChannel, OutChannel
from hamdist.engine.divergence import diagnosis
from hamdist.engine.extent import extents
from hamdist.engine.failed_loss import FailedLoss
from hamdist.engine.fused.boundary import Boundary
from hamdist.engine.fused.chunk import fused_chunk
from hamdist.engine.fused.handover import Handover
from hamdist.engine.fused.plan import FusedPlan
from hamdist.engine.fused.ready_ticks import ChunkPattern, ReadyTicks
from hamdist.engine.fused.state import At, Chunk, Entering
from hamdist.engine.fused.tokens import Episodes
from hamdist.engine.layer_node import LayerNode
from hamdist.engine.loss_node import LossNode, Prediction
from hamdist.engine.message import Token
from hamdist.engine.profiler import Timeline
from hamdist.engine.spec import Outline
from hamdist.errors import DivergenceError, RunError
from hamdist.network.losses import LossSpec
from hamdist.network.timing import Times, regular_ticks
from hamdist.physics.step import Carry
from hamdist.report.wording import listed

Told = tuple[int, LossSpec, Sequence[Token], Tensor]
"""Losses [ticks], from which tick on, whose, and of which samples."""


def _told(losses: Sequence[Told]) -> list[tuple[int, LossSpec, Token, float]]:
    """Each by its tick."""
    return [
        (tick + k, spec, token, value)
        for tick, spec, tokens, each in losses
        for k, (token, value) in enumerate(zip(tokens, each.tolist(), strict=True))
    ]


TICKS_BETWEEN_CHECKS = 16  # of whether losses are finite
TICKS_BETWEEN_COUNTS = 256  # of who has learnt from what


class FusedExecutor:
    """into, out_of: the ways of the partition.  chunk: ticks in one go."""

    def __init__(
        self,
        outline: Outline,
        nodes: Mapping[str, LayerNode],
        losses: Mapping[str, LossNode],
        into: Sequence[InChannel],
        out_of: Sequence[OutChannel],
        chunk: int,
        timeline: Timeline,
    ) -> None:
        self._timeline, self._computing = timeline, timeline.span("compute", "all layers")
        self.chunk = chunk
        self._ticks = ReadyTicks(outline.execution.compiled, chunk, listed(list(nodes)))
        self._nodes, self._losses = nodes, losses
        self._device = next(iter(nodes.values())).spec.facts.says.device
        self._plan = FusedPlan(outline, {name: node.spec for name, node in nodes.items()}, losses)
        self._times = Times(outline.graph)
        self._needed = regular_ticks(outline.graph)
        kept = 2 * self._needed + TICKS_BETWEEN_COUNTS + chunk
        batch = next(iter(nodes.values())).spec.facts.says.shape[0]
        self._boundary = Boundary(outline, self._times, into, out_of, batch, kept)
        self._episodes = Episodes(self._plan, self._times, self._boundary.passage)
        self._handover = Handover(self._plan, self._times, nodes, losses, self._boundary.inner, chunk)
        self._steady = 0  # regular ticks in a row until now
        self._flow: list[Tensor] | None = None  # the leaves of it, while it is here
        self._next = 0  # the tick after those done here
        self._origin = 0  # the tick at which chunks begin
        self._counted = 0  # the tick until which the ledgers are up to date
        self._unchecked: list[Told] = []
        self._checked: list[Told] = []  # those before
        self._unlabelled = 0  # ticks in which samples without a target came in
        self._latest: tuple[dict[int, At], list[Tensor]] = {}, []  # of the last tick: places, and leaves

    @property
    def execution(self) -> dict[str, Any]:
        """How its ticks ran, for the summary; those in which targets were missing ran node by node, and so did the
        ticks after them until all samples within were regular again.
        """
        missing = {"ticks_with_missing_targets": self._unlabelled} if self._unlabelled else {}
        return self._ticks.execution | missing

    @property
    def reached(self) -> int:
        """The tick after the last that was done here."""
        return self._next

    @property
    def carries(self) -> dict[str, Carry]:
        """Of every layer, in the memory in which ticks compute; none while they are done elsewhere."""
        if self._flow is None:
            return {}
        flow = tree_unflatten(self._flow, self._shape)
        return {
            plan.name: tree_map(lambda leaf, k=k: leaf[k], carry) if unit.stacks else carry
            for unit, carry in zip(self._plan.units, flow.carries, strict=True)
            for k, plan in enumerate(unit.plans)
        }

    # Watching

    def possible(self, tick: int, most: int) -> int:
        """How many ticks, from `tick` on and at most so many, can run here in one go: a chunk, one, or none.

        Chunks begin at multiples of their length after the first tick, or that of the cut that was restored, so that no
        actor waits for the rest of another's.
        """
        if self._steady < self._needed:
            return 0
        if (
            most >= self.chunk > 1
            and (tick - self._origin) % self.chunk == 0
            and self._boundary.regular(self.chunk)
        ):
            return self.chunk
        return int(self._boundary.regular(1))

    def watch(self) -> None:
        """The next tick will be done elsewhere."""
        latest = self._boundary.latest()
        self._unlabelled += not latest.labelled
        if self._boundary.full(latest):
            self._steady += 1
            self._boundary.enter(1)
        else:
            self._steady = 0
            self._boundary.passage.restart()

    def resume(self, tick: int, recent: Sequence[Token]) -> None:
        """Cells and channels are now those of a cut at this tick; what it holds itself is dropped.

        recent: what the source gave in the ticks before, one token each. Where nothing but full batches is under way,
        it goes on at once, as it would have without a cut.
        """
        self._flow, self._latest = None, ({}, [])
        self._unchecked, self._checked = [], []
        self._next = self._counted = self._origin = tick
        self._steady = self._boundary.recall(recent)

    # Running

    def run(self, tick: int, ticks: int) -> list[Prediction]:
        """The ticks from `tick` on; what left the network at the first loss, if it is in this partition."""
        self._timeline.begin(tick)
        if self._flow is None:
            self._flow, self._shape = tree_flatten(self._handover.take(tick))
            self._counted = tick
        self._boundary.enter(ticks)
        self._boundary.check(tick, ticks)
        begins = self._episodes.begin(tick, ticks)
        entering = self._boundary.look(ticks, self._episodes.heard(tick, ticks) if begins else {})
        judged = self._boundary.passage.told(self._times.judged(tick), ticks)
        scored = tuple(token.repeat == 0 for token in judged)
        returned = self._episodes.returned(tick, ticks) if begins else {}
        stashed = {
            unit: self._at(unit, stash.get(tick, ticks), returned)
            for unit, stash in self._handover.stashes.items()
        }
        self._share_scores()
        tensors = [*self._flow, *entering.leaves()]
        tensors += [leaf for at in stashed.values() for leaf in (*at.inputs, *at.state, *at.restarts)]
        ticked = self._ticks.of(
            ChunkPattern(scored, begins), self._traced(scored, entering, stashed), tensors
        )
        try:
            with self._computing:
                leaves = ticked.flat(tensors)
        except Exception as error:
            raise RunError(f"the layers failed at tick {tick}: {error}") from error
        self._boundary.take(ticks)
        self._flow = leaves[: len(self._flow)]
        return self._finish(tick, ticked.places, leaves, judged)

    def _at(self, unit: int, met: tuple[Tensor, ...], restarts: Mapping[int, Tensor]) -> At:
        """What a unit's costates meet.  restarts: of the units that remember, if episodes begin."""
        slots = self._plan.units[unit].slots
        return At(met[:slots], met[slots:], (restarts[unit],) if unit in restarts else ())

    def _traced(
        self, scored: tuple[bool, ...], entering: Entering, stashed: Mapping[int, At]
    ) -> Callable[[bool], Traced]:
        """Makes the operations of such ticks, to run one by one or not."""

        def make(eager: bool) -> Traced:
            assert self._flow is not None
            flow = tree_unflatten(self._flow, self._shape)
            return Traced(partial(fused_chunk, self._plan, scored), flow, entering, stashed, eager=eager)

        return make

    def _share_scores(self) -> None:
        """The sums, which are the last leaves of a flow, may have been cut since the last tick."""
        assert self._flow is not None
        sums = [
            total
            for judge in self._plan.judges
            for total in self._losses[judge.node].prequential.sums(self._device)
        ]
        self._flow[len(self._flow) - len(sums) :] = sums

    def _finish(
        self, tick: int, places: Chunk, leaves: list[Tensor], judged: Sequence[Token]
    ) -> list[Prediction]:
        """Sends what goes out, stashes, judges, counts; the predictions of the first loss."""
        ticks = len(judged)
        self._boundary.give(tick, ticks, places.left, leaves)
        for unit, at in places.met.items():
            met = tuple(leaves[place] for place in (*at.inputs, *at.state))
            self._handover.stashes[unit].put(tick, ticks, met)
        predictions = self._judged(tick, places, leaves, judged)
        self._latest = places.latest, leaves
        self._next = tick + ticks
        if self._next - self._counted >= TICKS_BETWEEN_COUNTS:
            self._count(self._next)
        if len(self._unchecked) * ticks >= TICKS_BETWEEN_CHECKS:
            self._check()
        return predictions

    def _judged(
        self, tick: int, places: Chunk, leaves: list[Tensor], judged: Sequence[Token]
    ) -> list[Prediction]:
        """judged: the samples of each tick; their first tick counts."""
        predictions: list[Prediction] = []
        for judge, verdict in zip(self._plan.judges, places.verdicts, strict=True):
            outputs, losses = leaves[verdict.output].unbind(), leaves[verdict.loss].unbind()
            self._unchecked.append((tick, judge.loss.spec, judged, leaves[verdict.loss]))
            judge.loss.prequential.count(sum(token.rows for token in judged if token.repeat == 0))
            judge.loss.prediction, judge.loss.loss = None, losses[-1]
            if judge.first:
                predictions = [
                    Prediction(output, token.first, token.rows, loss)
                    for output, token, loss in zip(outputs, judged, losses, strict=True)
                    if token.repeat == 0
                ]
        return predictions

    def _count(self, until: int) -> None:
        """Brings the ledgers up to date: what drove every layer before the tick `until`."""
        for name, node in self._nodes.items():
            first, last = (self._times.returned(name, tick) for tick in (self._counted, until - 1))
            ledger = self._boundary.passage.drove(node.ledger, first, last)
            node.state = node.state._replace(ledger=ledger)
        self._counted = until

    def _check(self) -> None:
        """Raises DivergenceError for the first tick whose loss is not finite."""
        before, unchecked = self._checked, self._unchecked
        self._checked, self._unchecked = unchecked, []
        if not unchecked or torch.isfinite(torch.cat([losses for *_, losses in unchecked])).all():
            return
        self.release(self._next)
        told = _told(unchecked)
        place = next(place for place, (*_, value) in enumerate(told) if not math.isfinite(value))
        tick, spec, token, value = told[place]
        known = [each for _, of, _, each in (*_told(before), *told[:place]) if of is spec]
        failed = FailedLoss.after(spec, value, known, token)
        raise DivergenceError(diagnosis(tick, failed, extents(self._nodes)), failed)

    # Giving back

    def release(self, tick: int) -> None:
        """Cells and channels hold everything again, as it is before a tick."""
        if self._flow is None:
            return
        flow = tree_unflatten(self._flow, self._shape)
        self._count(tick)
        self._flow = None
        places, leaves = self._latest
        latest = tree_map(lambda place: leaves[place], places)
        self._handover.give_back(flow, tick, self._boundary.passage, latest)
        self._check()
