"""The loop of one actor, without Ray: it builds its layers, joins its neighbours, and goes from tick to tick.

Several workers may be threads of one process. All methods belong to one thread, except `progress` and `stop`. What an
actor is given at its start travels between processes.
"""

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch

from hamdist.cluster.breakable import Breakable, LoopBrokenError
from hamdist.cluster.cut_keeper import CutKeeper, Write, moved_to
from hamdist.cluster.hosted_layers import HostedLayers, WorkerSpec
from hamdist.cluster.layout import Layout
from hamdist.cluster.outcome import Advance, Outcome, Progress, Spent, attributed, outcome_of
from hamdist.cluster.prediction_box import PredictionBox
from hamdist.engine.channel import Channel, InChannel, OutChannel
from hamdist.engine.loss_node import Prediction
from hamdist.engine.partition import Partition, initial_value
from hamdist.engine.prediction_lines import lines_of
from hamdist.engine.profiler import timeline_of
from hamdist.engine.state import PartitionState, Said, SourceState
from hamdist.report.metrics import Windows
from hamdist.transport.base import ClosedError, Link, Wiring
from hamdist.transport.remote_channel import IncomingChannel, OutgoingChannel, Traffic


class UnderWay(NamedTuple):
    """What was under way along edges at a cut: signals and costates, by edge, the oldest first."""

    signals: Said
    costates: Said


class Worker(HostedLayers):
    """One actor at work, step by step: made, `examine` for each of its layers, `make_plans`,
    `listen`, `connect`, `run`, `tensors`.

    A later generation begins with `listen` again; `go_back`, or `restore`, takes its layers to a cut before it runs.

    Raises NetworkError for layers that cannot be made, ConfigError for a device that is not there.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        super().__init__(spec)
        self._wiring: Wiring | None = None
        self._layout: Layout | None = None
        self._timeline = timeline_of(spec.profile)
        self._traffic = Traffic(timeline=self._timeline)
        self._cuts = CutKeeper()
        self._windows: Windows | None = None
        self._box: PredictionBox | None = None
        self._stopped = False
        self._breakable = Breakable()

    # Before the first tick of a generation

    def listen(self, layout: Layout, make_wiring: Callable[[], Wiring]) -> dict[int, str]:
        """The addresses at which neighbours find this actor, by edge; a generation begins."""
        if self._wiring is not None:
            self._wiring.close()
        self._stopped, self._traffic = False, Traffic(timeline=self._timeline)
        self._layout, self._wiring = layout, make_wiring()
        return self._wiring.listen(layout.endpoints(self.spec.actor))

    def connect(self, addresses: Mapping[int, str]) -> None:
        """Joins the neighbours at their addresses; the worker is ready to run then."""
        assert self._wiring is not None
        into, out_of = self._ways(self._wiring.connect(addresses))
        chunk = self._layout_of.chunk
        self.partition = Partition(
            self.spec.outline,
            self._builder.plans,
            into,
            out_of,
            self._builder.targets,
            chunk,
            self._timeline,
        )
        first = next(iter(self.spec.outline.losses))
        if first in self.partition.losses:
            hold, batch = self.spec.outline.locality.hold, self._layout_of.inputs.shape[0]
            scores = self.partition.losses[first].prequential
            self._windows = Windows(scores, batch, hold, self.spec.metrics_every)
            if self.spec.labels is not None:
                self._box = PredictionBox(lines_of(self.partition.losses[first], self.spec.labels))

    def write_cuts(self, write: Write | None) -> None:
        """What writes its parts of the cuts to come; None: nothing does, and they are kept in memory only."""
        self._cuts.write = write

    # Back to a cut, before the first tick of a generation

    def keeps(self, tick: int) -> bool:
        """Whether it keeps the cut of this tick."""
        return self._cuts.keeps(tick)

    def said(self, tick: int) -> UnderWay:
        """What its layers had said at a cut that it keeps. Raises RunError for one that it does not."""
        state = self._cuts.at(tick)
        return UnderWay(state.signals, state.costates)

    def go_back(self, tick: int, heard: UnderWay, source: SourceState) -> None:
        """To a cut that it keeps. heard: what was said everywhere. Raises RunError."""
        own = self._cuts.at(tick)
        self.restore(own._replace(signals=heard.signals, costates=heard.costates), source)

    def begin_anew(self) -> None:
        """At the start; no cut that it keeps ever was."""
        self._cuts.go_back(-1)

    def restore(self, state: PartitionState, source: SourceState) -> None:
        """To a cut of the whole network, or of what is needed here: its layers, and what they will hear."""
        self._cuts.go_back(state.tick)
        self._ready.restore(moved_to(self.device, state), moved_to(self.device, source))
        if self._windows is not None:
            self._windows.go_on(state.tick)

    def cut(self) -> PartitionState:
        """All that moves here, as it is now, between two ticks; in host memory."""
        return moved_to(torch.device("cpu"), self._ready.cut())

    @property
    def _layout_of(self) -> Layout:
        assert self._layout is not None, "listen comes first"
        return self._layout

    def _ways(self, links: Mapping[int, Link]) -> tuple[list[InChannel], list[OutChannel]]:
        """Every edge of this actor's nodes: a channel where both ends are here, else a remote one."""
        outline, hosts, me = self.spec.outline, self._layout_of.hosts, self.spec.actor
        into: list[InChannel] = []
        out_of: list[OutChannel] = []
        for index, edge in enumerate(outline.graph.edges):
            plan = self._builder.plans.get(edge.target)
            initial = None if plan is None else initial_value(outline, edge, plan)
            if hosts[edge.source] == hosts[edge.target] == me:
                channel = Channel(edge, initial)
                into.append(channel)
                out_of.append(channel)
            elif hosts[edge.target] == me:
                into.append(IncomingChannel(edge, links[index], self._traffic, initial))
            elif hosts[edge.source] == me:
                out_of.append(OutgoingChannel(edge, links[index], self._traffic, warm=outline.warm(edge)))
        return into, out_of

    # The loop

    def run(self) -> Outcome:
        """Goes on until the final tick, which a neighbour tells; whatever stops it is in the outcome."""
        started = time.perf_counter()
        self._timeline.start()
        return self._outcome(started, *self._guarded(self._loop))

    def advance(self, until: int) -> Advance:
        """Goes on to the tick `until`, which must have been said by the source, or be said meanwhile; no further."""
        predictions: list[Prediction] = []

        def loop(partition: Partition) -> None:
            while not self._stopped and partition.tick < until:
                predictions.extend(partition.go(min(self._layout_of.chunk, until - partition.tick)))

        error, details = self._guarded(loop)
        left = tuple(replace(p, output=p.output.cpu(), loss=p.loss.cpu()) for p in predictions)
        return Advance(self._ready.tick, left, error, details)

    def _guarded(self, loop: Callable[[Partition], None]) -> tuple[Exception | None, str]:
        """What stopped the loop, and its traceback; nothing at its regular end, or where it was stopped."""
        partition = self._ready
        torch.set_num_threads(self.spec.threads)
        try:
            with self._breakable:
                loop(partition)
        except BaseException as error:
            if isinstance(error, ClosedError | LoopBrokenError) and self._stopped:
                return None, ""
            self.stop()
            return attributed(error, self.spec.name, partition.tick), traceback.format_exc()
        return None, ""

    def _loop(self, partition: Partition) -> None:
        traffic, windows = self._traffic, self._windows
        while not self._stopped and (traffic.final < 0 or partition.tick <= traffic.final):
            if traffic.cut == partition.tick:
                self._keep_cut(partition)
            left = partition.go(self._most(partition.tick))
            if self._box is not None:
                self._box.put(left)
            if windows is not None:
                windows.after(partition.tick)
        _ = partition.nodes  # what runs in one go gives everything back, and looks at its last losses

    def _most(self, tick: int) -> int:
        """How many ticks may go before there is a cut."""
        chunk, cut = self._layout_of.chunk, self._traffic.cut
        return min(chunk, cut - tick) if cut > tick else chunk

    def _keep_cut(self, partition: Partition) -> None:
        started = time.perf_counter()
        state = partition.cut()
        self._cuts.keep(state, time.perf_counter() - started)

    def _outcome(self, started: float, error: Exception | None = None, details: str = "") -> Outcome:
        waited, sent = self._traffic.wait_seconds, self._traffic.send_seconds
        spent = Spent(time.perf_counter() - started, waited, sent)
        return outcome_of(
            self._ready, self.spec.actor, spent, self._windows, self._timeline, (error, details)
        )

    # From any thread

    def alive(self) -> bool:
        """It is, if it answers."""
        return True

    def progress(self) -> Progress:
        """How far it is, and the cuts and the windows of metrics closed since the last call; all windows that closed
        before a cut come no later than it.
        """
        ticks = 0 if self.partition is None else self.partition.tick
        cuts = self._cuts.take()
        return Progress(
            ticks, windows=() if self._windows is None else tuple(self._windows.take()), cuts=cuts
        )

    def whole(self, tick: int) -> None:
        """The cut of this tick is whole."""
        self._cuts.whole(tick)

    def given_up(self, tick: int) -> None:
        """The cut of this tick will not be whole."""
        self._cuts.give_up(tick)

    def predicted(self) -> list[str]:
        """Lines of predictions that have left since the last call, where they are wanted and the first loss lives."""
        return [] if self._box is None else self._box.take()

    def stop(self) -> None:
        """Ends the loop at once, also where it waits, or soon, where it computes; the links are gone then."""
        self._stopped = True
        if self._box is not None:
            self._box.close()
        if self._wiring is not None:
            self._wiring.close()
        self._breakable.break_soon()
