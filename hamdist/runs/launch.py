"""From a config to actors that stand ready: Ray, the actors with their layers, the stream, the links between them."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

import torch
from torch import Tensor

from hamdist.runs.assembly import (
    dtype_of,
    execution_of,
    learning_of,
    locality_of,
    network_keys,
    network_of,
    placement_of,
    stream_worker_of,
)
from hamdist.config.schema import RunConfig
from hamdist.errors import RunError
from hamdist.network.loss_fit import check_targets
from hamdist.network.network import Network
from hamdist.network.placement import Placement
from hamdist.report.wording import listed
from hamdist.cluster.resources import Bundle, bundles_of, device_count
from hamdist.cluster.actor import Whereabouts
from hamdist.cluster.session import Node, Session, cluster_address, ray_session, this_machine
from hamdist.cluster.worker_group import STARTED_SECONDS, Troupe, troupe_of
from hamdist.cluster.transports import Carrier, carriers_of, wirings_of
from hamdist.planning.cost import layer_costs, warm_up
from hamdist.cluster.layout import Layout, hosts_of
from hamdist.transport.base import Patience
from hamdist.engine.spec import Outline, outline_of
from hamdist.planning.build_plan import Place
from hamdist.cluster.setup import layout_of, survey_actors, wire
from hamdist.cluster.worker import Share
from hamdist.cluster.worker import Worker

STREAM = "the stream"
LIVES_HERE = ("stdin",)  # sources that only the process has in which the run was started


@dataclass(frozen=True)
class Script:
    """What is to be run, before anything has been started or built.  profile: whether actors record their time."""

    config: RunConfig
    network: Network
    outline: Outline
    profile: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of the layers."""
        return self.network.names

    def placement(self, devices: int, costs: dict[str, float] | None = None) -> Placement:
        return placement_of(self.config.placement, self.names, devices, costs)

    def needs_costs(self, devices: int) -> bool:
        """Whether the config leaves open which layers share an actor."""
        count = len(self.placement(devices).actors)
        return isinstance(self.config.placement.actors, str | int) and 1 < count < len(self.names)

    def placed(self, devices: int, inputs: Tensor) -> Placement:
        """Layers packed by their cost for inputs like these, where that is open."""
        if not self.needs_costs(devices):
            return self.placement(devices)
        with network_keys():
            return self.placement(devices, layer_costs(self.outline, self.network.layers, inputs))


@dataclass
class Laps:
    """Where the time of a start went: seconds by part, in order."""

    seconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=perf_counter)

    def lap(self, part: str) -> None:
        now = perf_counter()
        self.seconds[part] = round(now - self._since, 3)
        self._since = now


@dataclass(frozen=True)
class Stage:
    """Actors that stand ready to run."""

    script: Script
    troupe: Troupe
    layout: Layout
    placement: Placement
    carriers: Mapping[str, Carrier]
    laps: Laps

    @property
    def bearer(self) -> int:
        """The actor that hosts the first loss."""
        return self.layout.hosts[next(iter(self.script.outline.losses))]


def script_of(config: RunConfig, profile: bool = False) -> Script:
    """Raises NetworkError for what is wrong with the network as a whole; its layers are built elsewhere."""
    with network_keys():
        network = network_of(config.network, config.seed)
    locality = locality_of(config.locality, network.names, config.stream.hold)
    with network_keys("network.edges"):
        outline = outline_of(
            network,
            locality,
            learning_of(config.learning),
            config.seed,
            dtype_of(config.network),
            execution_of(config.placement),
        )
    return Script(config, network, outline, profile)


@contextmanager
def staged(script: Script) -> Iterator[Stage]:
    """Within it the actors stand ready; afterwards nothing of them is left. Raises UserError, RunError."""
    laps = Laps()
    config = script.config
    with ray_session(config.placement.address) as session:
        laps.lap("ray")
        nodes = session.nodes()
        devices = device_count(nodes, config.placement.device, config.placement.threads)
        bundles = _bundles(script, session, nodes, devices)
        names = [f"actor {number}" for number in range(len(bundles) - 1)]
        here = config.stream.source in LIVES_HERE
        with troupe_of(bundles[:-1] if here else bundles, [*names, STREAM]) as troupe:
            yield _ready(script, troupe, devices, here, laps)


def _bundles(script: Script, session: Session, nodes: Sequence[Node], devices: int) -> list[Bundle]:
    placement = script.config.placement
    (own,) = [node for node in nodes if node.id == session.own_node()]
    return bundles_of(script.placement(devices), nodes, placement.device, placement.threads, own.host)


def _ready(script: Script, troupe: Troupe, devices: int, here: bool, laps: Laps) -> Stage:
    """The stream first, whose first batch tells the shapes; then the layers, everywhere at once; then the links."""
    stream_place, first = _opened(script, troupe, devices, here)
    laps.lap("stream")
    placement = script.placed(devices, first[0])
    troupe.names = (*map(_named, range(len(placement.actors)), placement.actors), STREAM)
    shares = _shares(script, placement, troupe.names)
    places = troupe.made([troupe.begin(share.actor, partial(Worker, share)) for share in shares])
    troupe.places = [*places, stream_place]
    laps.lap("layers")
    layout = _surveyed(script, troupe, placement, first)
    laps.lap("shapes")
    config = script.config.placement
    patience = Patience(config.heartbeat_seconds, config.progress_seconds)
    carriers = carriers_of(layout, troupe.places, config.link)
    wirings = wirings_of(layout, troupe.places, carriers, patience, config.ports)
    troupe.addresses = wire(troupe, layout, wirings, STARTED_SECONDS)
    laps.lap("links")
    return Stage(script, troupe, layout, placement, carriers, laps)


def _opened(
    script: Script, troupe: Troupe, devices: int, here: bool
) -> tuple[Whereabouts, tuple[Tensor, Tensor]]:
    """Where the stream lives, and its first batch. Raises what is wrong with the stream."""
    config, stream = script.config, len(troupe.names) - 1
    idle_seconds = config.placement.progress_seconds / 4  # long before anybody who hears it gives up
    make_stream = partial(stream_worker_of, config, STREAM, idle_seconds, script.profile)
    if here:
        place = troupe.host_here(make_stream())
    else:
        beginning = troupe.begin(stream, make_stream)
        if script.needs_costs(devices):
            warm_up()
        (place,) = troupe.made([beginning])
    opening, seconds = troupe.call(stream, "first_batch"), config.placement.progress_seconds
    if wait([opening], seconds).not_done:
        raise RunError(
            f"the stream gave no first batch for {seconds:g} s; where that is no mistake, raise "
            "placement.progress_seconds"
        )
    inputs, targets = troupe.answer(opening)
    check_targets(next(iter(script.outline.losses.values())), targets)
    return place, (inputs, targets)


def _surveyed(script: Script, troupe: Troupe, placement: Placement, first: tuple[Tensor, Tensor]) -> Layout:
    hosts = hosts_of(script.outline, placement.actors)
    with network_keys():
        outputs = survey_actors(troupe, script.outline, hosts, first, STARTED_SECONDS)
    devices = [torch.device(place.device) for place in troupe.places]
    return layout_of(script.outline, hosts, troupe.names, devices, outputs, first)


def planned_places(config: RunConfig, inputs: Tensor) -> dict[str, Place]:
    """Where every layer would live: on this machine, or on the nodes of the cluster that would be joined.

    Raises ConfigError for what the nodes lack, NetworkError for a placement that does not fit the network.
    """
    script, placement = script_of(config), config.placement
    if cluster_address(placement.address) is None:
        nodes = [this_machine()]
    else:
        with ray_session(placement.address) as session:
            nodes = session.nodes()
    devices = device_count(nodes, placement.device, placement.threads)
    placed = script.placed(devices, inputs)
    bundles = bundles_of(placed, nodes, placement.device, placement.threads, nodes[0].host)
    return {
        name: Place(number, placed.requests[number].device or bundles[number].device(placement.device))
        for number, layers in enumerate(placed.actors)
        for name in layers
    }


def _named(number: int, layers: Sequence[str]) -> str:
    """ "actor 1 (block2, block3 and 3 more)"."""
    return f"actor {number} ({listed(layers)})"


def _shares(script: Script, placement: Placement, names: Sequence[str]) -> list[Share]:
    config = script.config
    specs = {spec.name: spec for spec in script.network.layers}
    return [
        Share(
            actor=number,
            name=names[number],
            outline=script.outline,
            layers=tuple(specs[name] for name in layers),
            device=placement.requests[number].device or config.placement.device,
            threads=config.placement.threads,
            metrics_every=config.metrics_every,
            profile=script.profile,
        )
        for number, layers in enumerate(placement.actors)
    ]
