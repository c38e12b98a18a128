"""The loop of one actor, without Ray: it builds its layers, joins its neighbours, and goes from tick to tick.

Several workers may be threads of one process. All methods belong to one thread, except `progress` and `stop`.
"""

import time
import traceback
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hamdist.runtime.builder import Builder, Examined
from hamdist.runtime.channel import Channel, InWay, OutWay
from hamdist.runtime.devices import local_device
from hamdist.runtime.divergence import Extent, extents
from hamdist.runtime.doors import FromSource, Journey, ToTarget
from hamdist.runtime.ends import Layout
from hamdist.runtime.links.contract import ClosedError, Form, Link, Wiring
from hamdist.runtime.memory import peak_memory_bytes
from hamdist.runtime.part import Part, initial_value
from hamdist.runtime.share import Outcome, Progress, Share, Spent, attributed
from hamdist.runtime.timeline import timeline_of
from hamdist.runtime.windows import Windows


class Worker:
    """One actor at work, step by step: made, `examine` for each of its layers, `listen`, `connect`, `run`, `tensors`.

    Raises NetworkError for layers that cannot be made, ConfigError for a device that is not there.
    """

    def __init__(self, share: Share) -> None:
        self.share = share
        self.part: Part | None = None
        self._builder = Builder(share.outline, share.layers, local_device(share.device))
        self._wiring: Wiring | None = None
        self._layout: Layout | None = None
        self._timeline = timeline_of(share.profile)
        self._journey = Journey(timeline=self._timeline)
        self._windows: Windows | None = None
        self._stopped = False

    # Before the first tick

    @property
    def device(self) -> torch.device:
        return self._builder.device

    def examine(self, name: str, heard: Mapping[str, Tensor | Form]) -> Examined:
        """As Builder.examine."""
        return self._builder.examine(name, heard)

    def check_losses(self, targets: Tensor) -> None:
        """As Builder.check_losses."""
        self._builder.check_losses(targets)

    def listen(self, layout: Layout, make_wiring: Callable[[], Wiring]) -> dict[int, str]:
        """The addresses at which neighbours find this actor, by edge."""
        self._layout, self._wiring = layout, make_wiring()
        return self._wiring.listen(layout.ends(self.share.actor))

    def connect(self, addresses: Mapping[int, str]) -> None:
        """Joins the neighbours at their addresses; the worker is ready to run then."""
        assert self._wiring is not None
        links = self._layout_of.bundled(self.share.actor, self._wiring.connect(addresses))
        into, out_of = self._ways(links)
        chunk = self._layout_of.chunk
        self.part = Part(
            self.share.outline,
            self._builder.plans,
            into,
            out_of,
            self._builder.targets,
            chunk,
            self._timeline,
        )
        first = next(iter(self.share.outline.losses))
        if first in self.part.losses:
            hold, batch = self.share.outline.locality.hold, self._layout_of.inputs.shape[0]
            scores = self.part.losses[first].prequential
            self._windows = Windows(scores, batch, hold, self.share.metrics_every)

    @property
    def _layout_of(self) -> Layout:
        assert self._layout is not None, "listen comes first"
        return self._layout

    def _ways(self, links: Mapping[int, Link]) -> tuple[list[InWay], list[OutWay]]:
        """Every edge of this actor's nodes: a channel where both ends are here, else a door."""
        outline, hosts, me = self.share.outline, self._layout_of.hosts, self.share.actor
        into: list[InWay] = []
        out_of: list[OutWay] = []
        for index, edge in enumerate(outline.graph.edges):
            plan = self._builder.plans.get(edge.target)
            initial = None if plan is None else initial_value(outline, edge, plan)
            if hosts[edge.source] == hosts[edge.target] == me:
                channel = Channel(edge, initial)
                into.append(channel)
                out_of.append(channel)
            elif hosts[edge.target] == me:
                places = len(self._layout_of.costate(edge))
                into.append(FromSource(edge, links[index], self._journey, places, initial))
            elif hosts[edge.source] == me:
                places = len(self._layout_of.costate(edge))
                out_of.append(ToTarget(edge, links[index], self._journey, places))
        return into, out_of

    # The loop

    def run(self) -> Outcome:
        """Goes on until the final tick, which a neighbour tells; whatever stops it is in the outcome."""
        assert self.part is not None, "connect comes first"
        torch.set_num_threads(self.share.threads)
        self._timeline.start()
        started = time.perf_counter()
        try:
            self._loop(self.part)
            return self._outcome(started)
        except Exception as error:
            if isinstance(error, ClosedError) and self._stopped:
                return self._outcome(started)
            self.stop()
            return self._outcome(
                started, attributed(error, self.share.name, self.part.tick), traceback.format_exc()
            )

    def _loop(self, part: Part) -> None:
        journey, windows = self._journey, self._windows
        while not self._stopped and (journey.final < 0 or part.tick <= journey.final):
            part.go(self._layout_of.chunk)
            if windows is not None:
                windows.after(part.tick)

    def _outcome(self, started: float, error: Exception | None = None, details: str = "") -> Outcome:
        assert self.part is not None
        if self._windows is not None:
            self._windows.close(self.part.tick)
        losses = self.part.losses
        return Outcome(
            actor=self.share.actor,
            ticks=self.part.tick,
            error=error,
            details=details,
            ledgers={name: cell.ledger for name, cell in self.part.cells.items()},
            energies={name: cell.energies for name, cell in self.part.cells.items()},
            prequential={node: loss.prequential.total() for node, loss in losses.items()},
            holdout={node: loss.holdout.total() for node, loss in losses.items()},
            windows=() if self._windows is None else tuple(self._windows.take()),
            spent=Spent(
                time.perf_counter() - started, self._journey.wait_seconds, self._journey.send_seconds
            ),
            peak_memory_bytes=peak_memory_bytes(),
            profile=self._timeline.profile(self.part.tick),
            execution=self.part.told,
        )

    # From any thread

    def progress(self) -> Progress:
        """How far it is, and the windows of metrics closed since the last call."""
        ticks = 0 if self.part is None else self.part.tick
        return Progress(ticks, windows=() if self._windows is None else tuple(self._windows.take()))

    def stop(self) -> None:
        """Ends the loop at once, also where it waits; the links are gone then."""
        self._stopped = True
        if self._wiring is not None:
            self._wiring.close()

    # After the last tick

    def extents(self) -> list[Extent]:
        """How far off each of its layers is."""
        assert self.part is not None
        return extents(self.part.cells)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The state_dict of one of its layers, on the CPU."""
        assert self.part is not None
        return {key: tensor.cpu() for key, tensor in self.part.cells[name].tensors().items()}
