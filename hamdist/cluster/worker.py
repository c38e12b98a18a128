"""The loop of one actor, without Ray: it builds its layers, joins its neighbours, and goes from tick to tick.

Several workers may be threads of one process. All methods belong to one thread, except `progress` and `stop`. What an
actor is given at its start, and what it reports, travels between processes.
"""

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from hamdist.cluster.layout import Layout
from hamdist.engine.aligned import aligned
from hamdist.engine.build import LocalBuilder
from hamdist.engine.channel import Channel, InWay, OutWay
from hamdist.engine.device import local_device, peak_memory_bytes
from hamdist.engine.divergence import Extent, extents
from hamdist.engine.free_run import FreeLayer
from hamdist.engine.layer_node import LayerNode
from hamdist.engine.layer_view import LayerView
from hamdist.engine.ledger import Ledger
from hamdist.engine.loss_node import LossNode, Prediction
from hamdist.engine.partition import Part, initial_value
from hamdist.engine.profiler import SILENT, Timeline, timeline_of
from hamdist.engine.spec import Outline
from hamdist.errors import RunError, UserError
from hamdist.network.network import LayerSpec
from hamdist.network.survey import Facts, Heard
from hamdist.report.metrics import Window, Windows
from hamdist.report.profile import Profile
from hamdist.transport.base import ClosedError, Link, LinkError, Wiring
from hamdist.transport.remote_channel import IncomingChannel, OutgoingChannel, Traffic


@dataclass(frozen=True)
class WorkerSpec:
    """One actor's part of a run. It builds `layers` and knows of the others only what `outline` says.

    actor: its number.  name: what errors call it.  device: as in placement.device.  threads: within one operation.
    metrics_every: samples between two windows of metrics.  profile: whether to record where its time goes.
    """

    actor: int
    name: str
    outline: Outline
    layers: tuple[LayerSpec, ...]
    device: str = "cpu"
    threads: int = 1
    metrics_every: int = 1000
    profile: bool = False


@dataclass(frozen=True)
class Spent:
    """Where an actor's time went: seconds in all, waiting for neighbours, and handing messages to the links."""

    seconds: float = 0.0
    wait_seconds: float = 0.0
    send_seconds: float = 0.0

    def told(self) -> dict[str, float]:
        """As the summary tells it."""
        return {
            "seconds": round(self.seconds, 3),
            "wait_seconds": round(self.wait_seconds, 3),
            "send_seconds": round(self.send_seconds, 3),
        }


@dataclass(frozen=True)
class Outcome:
    """How an actor's part ended.

    ticks: how many it did.  error: what stopped it, None at the regular end or when it was stopped.  details: the
    error's traceback.  ledgers, energies: by layer.  scores: of a loss, by node: prequential and hold-out means.
    profile: if one was wanted.
    """

    actor: int
    ticks: int
    error: Exception | None = None
    details: str = ""
    ledgers: Mapping[str, Ledger] = field(default_factory=dict)
    energies: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    prequential: Mapping[str, dict[str, float]] = field(default_factory=dict)
    holdout: Mapping[str, dict[str, float]] = field(default_factory=dict)
    windows: tuple[Window, ...] = ()
    spent: Spent = Spent()
    peak_memory_bytes: int = 0
    execution: Mapping[str, Any] = field(default_factory=dict)
    profile: Profile | None = None


class Ticking(Protocol):
    """Nodes at work, as a partition has them."""

    @property
    def tick(self) -> int: ...

    @property
    def cells(self) -> Mapping[str, LayerNode]: ...

    @property
    def losses(self) -> Mapping[str, LossNode]: ...

    @property
    def told(self) -> dict[str, Any]: ...


def outcome_of(
    nodes: Ticking,
    actor: int = 0,
    spent: Spent | None = None,
    windows: Windows | None = None,
    timeline: Timeline = SILENT,
    failure: tuple[Exception | None, str] = (None, ""),
) -> Outcome:
    """What is to be told of nodes that have stopped.  failure: what stopped them, and its traceback."""
    if windows is not None:
        windows.close(nodes.tick)
    error, details = failure
    return Outcome(
        actor=actor,
        ticks=nodes.tick,
        error=error,
        details=details,
        ledgers={name: cell.ledger for name, cell in nodes.cells.items()},
        energies={name: cell.energies for name, cell in nodes.cells.items()},
        prequential={node: loss.prequential.total() for node, loss in nodes.losses.items()},
        holdout={node: loss.holdout.total() for node, loss in nodes.losses.items()},
        windows=() if windows is None else tuple(windows.take()),
        spent=spent or Spent(),
        peak_memory_bytes=peak_memory_bytes(),
        execution=nodes.told,
        profile=timeline.profile(nodes.tick),
    )


def attributed(error: Exception, name: str, tick: int) -> Exception:
    """What stopped an actor, as its outcome tells it: with its name and the tick, unless the error has its own."""
    if isinstance(error, LinkError):
        return type(error)(f"{name} at tick {tick}: {error}")
    if isinstance(error, RunError | UserError):
        return error
    return RunError(f"{name} failed at tick {tick}: {error!r}")


@dataclass(frozen=True)
class Advance:
    """What came of ticks that were released.

    ticks: done so far.  predictions: what left the network in those released last, where the first loss lives.
    error, details: as an outcome's.
    """

    ticks: int
    predictions: tuple[Prediction, ...] = ()
    error: Exception | None = None
    details: str = ""


@dataclass(frozen=True)
class StreamOutcome:
    """How the stream ended.

    samples: how many entered.  entered_ticks: in which they did.  ticks: of learning, drain included.
    error: what the stream raised; what had entered before was learnt all the same.
    """

    samples: int
    entered_ticks: int
    ticks: int
    error: Exception | None = None
    details: str = ""
    peak_memory_bytes: int = 0
    profile: Profile | None = None


@dataclass(frozen=True)
class Progress:
    """How far an actor is.

    samples: that have entered, of the stream.  entered_ticks: in which they did, once nothing more enters to be learnt.
    windows: of metrics, closed since the last time.
    """

    ticks: int
    samples: int = 0
    entered_ticks: int | None = None
    windows: tuple[Window, ...] = ()


class Worker:
    """One actor at work, step by step: made, `examine` for each of its layers, `make_plans`,
    `listen`, `connect`, `run`, `tensors`.

    Raises NetworkError for layers that cannot be made, ConfigError for a device that is not there.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.part: Part | None = None
        self._builder = LocalBuilder(spec.outline, spec.layers, local_device(spec.device))
        self._wiring: Wiring | None = None
        self._layout: Layout | None = None
        self._timeline = timeline_of(spec.profile)
        self._traffic = Traffic(timeline=self._timeline)
        self._windows: Windows | None = None
        self._free: dict[str, FreeLayer] = {}
        self._stopped = False

    # Before the first tick

    @property
    def device(self) -> torch.device:
        return self._builder.device

    def examine(self, name: str, heard: Mapping[str, Heard]) -> Facts:
        """As a LayerBuilder's."""
        return self._builder.examine(name, heard)

    def check_losses(self, targets: Tensor) -> None:
        """As a LayerBuilder's."""
        self._builder.check_losses(targets)

    def make_plans(self) -> None:
        """As a LayerBuilder's."""
        self._builder.make_plans()

    def listen(self, layout: Layout, make_wiring: Callable[[], Wiring]) -> dict[int, str]:
        """The addresses at which neighbours find this actor, by edge."""
        self._layout, self._wiring = layout, make_wiring()
        return self._wiring.listen(layout.endpoints(self.spec.actor))

    def connect(self, addresses: Mapping[int, str]) -> None:
        """Joins the neighbours at their addresses; the worker is ready to run then."""
        assert self._wiring is not None
        into, out_of = self._ways(self._wiring.connect(addresses))
        chunk = self._layout_of.chunk
        self.part = Part(
            self.spec.outline,
            self._builder.plans,
            into,
            out_of,
            self._builder.targets,
            chunk,
            self._timeline,
        )
        first = next(iter(self.spec.outline.losses))
        if first in self.part.losses:
            hold, batch = self.spec.outline.locality.hold, self._layout_of.inputs.shape[0]
            scores = self.part.losses[first].prequential
            self._windows = Windows(scores, batch, hold, self.spec.metrics_every)

    @property
    def _layout_of(self) -> Layout:
        assert self._layout is not None, "listen comes first"
        return self._layout

    def _ways(self, links: Mapping[int, Link]) -> tuple[list[InWay], list[OutWay]]:
        """Every edge of this actor's nodes: a channel where both ends are here, else a remote one."""
        outline, hosts, me = self.spec.outline, self._layout_of.hosts, self.spec.actor
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
                into.append(IncomingChannel(edge, links[index], self._traffic, initial))
            elif hosts[edge.source] == me:
                out_of.append(OutgoingChannel(edge, links[index], self._traffic))
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

        def loop(part: Part) -> None:
            while not self._stopped and part.tick < until:
                predictions.extend(part.go(min(self._layout_of.chunk, until - part.tick)))

        error, details = self._guarded(loop)
        left = tuple(replace(p, output=p.output.cpu(), loss=p.loss.cpu()) for p in predictions)
        return Advance(self._ready.tick, left, error, details)

    def _guarded(self, loop: Callable[[Part], None]) -> tuple[Exception | None, str]:
        """What stopped the loop, and its traceback; nothing at its regular end, or where it was stopped."""
        part = self._ready
        torch.set_num_threads(self.spec.threads)
        try:
            loop(part)
        except Exception as error:
            if isinstance(error, ClosedError) and self._stopped:
                return None, ""
            self.stop()
            return attributed(error, self.spec.name, part.tick), traceback.format_exc()
        return None, ""

    @property
    def _ready(self) -> Part:
        assert self.part is not None, "connect comes first"
        return self.part

    def _loop(self, part: Part) -> None:
        traffic, windows = self._traffic, self._windows
        while not self._stopped and (traffic.final < 0 or part.tick <= traffic.final):
            part.go(self._layout_of.chunk)
            if windows is not None:
                windows.after(part.tick)
        _ = part.cells  # what runs in one go gives everything back, and looks at its last losses

    def _outcome(self, started: float, error: Exception | None = None, details: str = "") -> Outcome:
        waited, sent = self._traffic.wait_seconds, self._traffic.send_seconds
        spent = Spent(time.perf_counter() - started, waited, sent)
        return outcome_of(
            self._ready, self.spec.actor, spent, self._windows, self._timeline, (error, details)
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

    # Between ticks, and after the last

    def extents(self) -> list[Extent]:
        """How far off each of its layers is."""
        return extents(self._ready.cells)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The state_dict of one of its layers, on the CPU."""
        return {key: tensor.cpu() for key, tensor in self._ready.cells[name].tensors().items()}

    def view(self, name: str) -> LayerView:
        """One of its layers as it is now, on the CPU."""
        return LayerView.of(name, self._ready.cells[name].carry).cpu()

    def seen_once(self, samples: int) -> bool:
        """Whether each of so many samples drove each of its layers exactly once."""
        return all(cell.ledger.seen_once(samples) for cell in self._ready.cells.values())

    def prequential(self, node: str) -> dict[str, float]:
        """The means of a loss since the start."""
        return self._ready.losses[node].prequential.total()

    def holdout(self, node: str) -> dict[str, float]:
        """The means of a loss over the hold-out samples that came since the last time."""
        return self._ready.losses[node].holdout.window()

    # The network on its own

    def begin_free_run(self) -> None:
        """Its layers, with the weights that they have now, begin anew, apart from those that learn."""
        self._free = {name: FreeLayer.of(cell) for name, cell in self._ready.cells.items()}

    def free_step(self, name: str, inputs: tuple[Tensor, ...]) -> Tensor:
        """What one of these layers says; its state moves on."""
        return self._free[name](tuple(aligned(x.to(self.device)) for x in inputs)).cpu()

    def end_free_run(self) -> None:
        """They are dropped."""
        self._free = {}
