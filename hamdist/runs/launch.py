"""From a setup to actors that stand ready: Ray, the actors with their layers, the stream, the links between them."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Generic

import torch
from torch import Tensor

from hamdist.cluster.actor import Location
from hamdist.cluster.handle import Handle, ThreadHandle
from hamdist.cluster.hosted_layers import WorkerSpec
from hamdist.cluster.layout import Layout, hosts_of
from hamdist.cluster.ray_workers import (
    STARTED_SECONDS,
    RayHandle,
    RayWorkers,
    location_here,
    made,
    ray_workers,
)
from hamdist.cluster.resources import Bundle, bundles_of, device_count
from hamdist.cluster.session import Node, Session, cluster_address, ray_session, this_machine
from hamdist.cluster.setup import RemoteBuilder, layout_of, wire
from hamdist.cluster.transports import Carrier, carriers_of, wirings_of
from hamdist.cluster.worker import Worker
from hamdist.cluster.worker_group import STREAM, AnyStream, StreamPeer
from hamdist.engine.build import examine_all
from hamdist.errors import RunError
from hamdist.network.loss_fit import check_targets
from hamdist.network.placement import Placement
from hamdist.network.survey import Heard
from hamdist.planning.build_plan import Host
from hamdist.planning.cost import layer_costs, warm_up
from hamdist.report.wording import counted, listed
from hamdist.runs.assembly import placement_of
from hamdist.runs.prepare import RunSetup
from hamdist.transport.base import Patience

_log = logging.getLogger(__name__)


@dataclass
class StartupClock:
    """Where the time of a start went: seconds by part, in order."""

    seconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=perf_counter)

    def done(self, part: str) -> None:
        now = perf_counter()
        self.seconds[part] = round(now - self._since, 3)
        self._since = now


@dataclass(frozen=True)
class LaunchedRun(Generic[AnyStream]):
    """Actors that stand ready to run.

    source: what opens the stream.  first: its first batch.  heard: by layer, what it was examined with.  generation:
    how often actors had to be joined anew.
    """

    setup: RunSetup
    source: "StreamSource[AnyStream]"
    group: RayWorkers[AnyStream]
    layout: Layout
    placement: Placement
    carriers: Mapping[str, Carrier]
    startup: StartupClock
    session: Session
    first: tuple[Tensor, Tensor]
    heard: Mapping[str, Mapping[str, Heard]]
    generation: int = 0

    @property
    def first_loss(self) -> int:
        """The number of the actor that hosts the first loss."""
        return self.layout.hosts[next(iter(self.setup.outline.losses))]


@dataclass(frozen=True)
class StreamSource(Generic[AnyStream]):
    """make: the worker of the stream.  here: whether it lives in this process, and not in an actor of its own.

    prompt: as of a layout.
    """

    make: Callable[[], AnyStream]
    here: bool = False
    prompt: bool = False


@contextmanager
def launched(setup: RunSetup, source: StreamSource[AnyStream]) -> Iterator[LaunchedRun[AnyStream]]:
    """Within it the actors stand ready; afterwards nothing of them is left. Raises UserError, RunError."""
    clock = StartupClock()
    address = cluster_address(setup.placement.address)
    _log.info("starting Ray" if address is None else f"joining the cluster at {address}")
    with ray_session(setup.placement.address) as session:
        clock.done("ray")
        nodes = session.nodes()
        devices = device_count(nodes, setup.placement.device, setup.placement.threads)
        bundles = _bundles(setup, session, nodes, devices)
        count = len(bundles) - 1
        _log.info("starting %s", counted(count, "actor"))
        stream = ThreadHandle(STREAM, source.make()) if source.here else None
        places = bundles[:count] if source.here else bundles
        with ray_workers(places, count, stream, setup.placement.spares) as group:
            yield _ready(setup, source, group, devices, clock, session)


def _bundles(setup: RunSetup, session: Session, nodes: Sequence[Node], devices: int) -> list[Bundle]:
    placement = setup.placement
    (own,) = [node for node in nodes if node.id == session.own_node()]
    placed = placement_of(placement, setup.network.names, devices)
    return bundles_of(placed, nodes, placement.device, placement.threads, own.host)


def _ready(
    setup: RunSetup,
    source: StreamSource[AnyStream],
    group: RayWorkers[AnyStream],
    devices: int,
    clock: StartupClock,
    session: Session,
) -> LaunchedRun[AnyStream]:
    """The stream first, whose first batch tells the shapes; then the layers, everywhere at once; then the links."""
    _log.info("waiting for the first batch of the stream")
    stream_location, first = _opened(setup, source, group, devices)
    clock.done("stream")
    placement = _placed(setup, devices, first[0])
    _log.info("building %s", counted(len(setup.network.names), "layer"))
    group.locations = [*_layers_made(setup, placement, group), stream_location]
    clock.done("layers")
    layout, heard = _examined(setup, group, placement, first, source.prompt)
    clock.done("shapes")
    carriers = joined(setup, group, layout, 0)
    clock.done("links")
    return LaunchedRun(setup, source, group, layout, placement, carriers, clock, session, first, heard)


def joined(
    setup: RunSetup, group: RayWorkers[AnyStream], layout: Layout, generation: int
) -> dict[str, Carrier]:
    """Links between all actors, of a generation; what carries each edge. Raises RunError."""
    patience = Patience(setup.placement.heartbeat_seconds, setup.placement.progress_seconds)
    carriers = carriers_of(layout, group.locations, setup.placement.link)
    wirings = wirings_of(layout, group.locations, carriers, patience, setup.placement.ports, generation)
    group.found_at(wire(group, layout, wirings, STARTED_SECONDS))
    return carriers


def _opened(
    setup: RunSetup, source: StreamSource[AnyStream], group: RayWorkers[AnyStream], devices: int
) -> tuple[Location, tuple[Tensor, Tensor]]:
    """Where the stream lives, and its first batch. Raises what is wrong with the stream."""
    location = _stream_location(setup, source, group.stream, devices)
    opening, seconds = group.stream.call(StreamPeer.first_batch), setup.placement.progress_seconds
    if wait([opening], seconds).not_done:
        raise RunError(
            f"the stream gave no first batch for {seconds:g} s; where that is no mistake, raise "
            "placement.progress_seconds"
        )
    inputs, targets = opening.result()
    check_targets(next(iter(setup.outline.losses.values())), targets)
    assert targets is not None
    return location, (inputs, targets)


def _stream_location(
    setup: RunSetup, source: StreamSource[AnyStream], stream: Handle[AnyStream], devices: int
) -> Location:
    if not isinstance(stream, RayHandle):
        return location_here()
    making = stream.make(source.make)
    if _needs_costs(setup, devices):
        warm_up()
    (location,) = made([making])
    return location


def _layers_made(setup: RunSetup, placement: Placement, group: RayWorkers[AnyStream]) -> list[Location]:
    """Every actor builds its own layers; where they are."""
    making = []
    for spec, worker in zip(worker_specs(setup, placement), group.workers, strict=True):
        worker.name = spec.name
        making.append(worker.make(partial(Worker, spec)))
    return made(making)


def _examined(
    setup: RunSetup,
    group: RayWorkers[AnyStream],
    placement: Placement,
    first: tuple[Tensor, Tensor],
    prompt: bool,
) -> tuple[Layout, Mapping[str, Mapping[str, Heard]]]:
    hosts = hosts_of(setup.outline, placement.actors)
    builder = RemoteBuilder(group, setup.outline, hosts, STARTED_SECONDS)
    facts = examine_all(setup.outline, builder, first)
    devices = [torch.device(location.device) for location in group.locations]
    return layout_of(setup.outline, hosts, group.names, devices, facts, first, prompt), builder.heard


def planned_hosts(setup: RunSetup, inputs: Tensor) -> dict[str, Host]:
    """Where every layer would live: on this machine, or on the nodes of the cluster that would be joined.

    Raises ConfigError for what the nodes lack, NetworkError for a placement that does not fit the network.
    """
    placement = setup.placement
    if cluster_address(placement.address) is None:
        nodes = [this_machine()]
    else:
        with ray_session(placement.address) as session:
            nodes = session.nodes()
    devices = device_count(nodes, placement.device, placement.threads)
    placed = _placed(setup, devices, inputs)
    bundles = bundles_of(placed, nodes, placement.device, placement.threads, nodes[0].host)
    return {
        name: Host(number, placed.requests[number].device or bundles[number].device(placement.device))
        for number, layers in enumerate(placed.actors)
        for name in layers
    }


def _needs_costs(setup: RunSetup, devices: int) -> bool:
    """Whether the config leaves open which layers share an actor."""
    names = setup.network.names
    count = len(placement_of(setup.placement, names, devices).actors)
    return isinstance(setup.placement.actors, str | int) and 1 < count < len(names)


def _placed(setup: RunSetup, devices: int, inputs: Tensor) -> Placement:
    """Layers packed by their cost for inputs like these, where that is open."""
    costs = None
    if _needs_costs(setup, devices):
        costs = layer_costs(setup.outline, setup.network.layers, inputs)
    return placement_of(setup.placement, setup.network.names, devices, costs)


def worker_specs(setup: RunSetup, placement: Placement) -> list[WorkerSpec]:
    """What every actor that hosts layers is made of."""
    layers = {spec.name: spec for spec in setup.network.layers}
    return [
        WorkerSpec(
            actor=number,
            name=f"actor {number} ({listed(names)})",
            outline=setup.outline,
            layers=tuple(layers[name] for name in names),
            device=placement.requests[number].device or setup.placement.device,
            threads=setup.placement.threads,
            metrics_every=setup.metrics_every,
            profile=setup.profile,
            labels=setup.labels,
        )
        for number, names in enumerate(placement.actors)
    ]
