"""Which links join the actors of a run, and what each actor needs to make its own.

auto     torch.distributed with NCCL between different GPUs, ZeroMQ everywhere else
torch    the same, and torch.distributed with gloo between actors on CPUs
zeromq   ZeroMQ's sockets everywhere
But for `zeromq`, signals that are large go through shared memory where ZeroMQ joins two actors of one host.
The stream's edges always go over ZeroMQ: the stream is on no device, and where it lives only the driver knows.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from hamdist.cluster.actor import Location
from hamdist.cluster.layout import Layout
from hamdist.cluster.setup import MakeWiring
from hamdist.network.graph import Edge
from hamdist.network.tick_order import Crossing, crossings
from hamdist.transport.base import Patience
from hamdist.transport.process_group import nccl_obstacle
from hamdist.transport.security import KeyPair, Station, fresh_keys
from hamdist.transport.segment import POSSIBLE
from hamdist.transport.torch_distributed import TorchWiring
from hamdist.transport.zeromq import ZeroMQWiring

SHARED_BYTES = 256 * 1024  # from here on copying to and fro costs less than a socket (benchmarks/links.py)


class Carrier(NamedTuple):
    """What carries an edge between two actors.  name: in words.

    by_torch: whether torch.distributed does.  shared: whether ZeroMQ does, with tensors in shared memory.
    """

    name: str
    by_torch: bool = False
    shared: bool = False


def carriers_of(
    layout: Layout, places: Sequence[Location], link: str, shared_bytes: int = SHARED_BYTES
) -> dict[str, Carrier]:
    """By the name of the edge, for all edges between actors. shared_bytes: of what size a signal is large."""
    return {edge.name: _carrier(layout, edge, places, link, shared_bytes) for _, edge in layout.crossing()}


def _carrier(layout: Layout, edge: Edge, places: Sequence[Location], link: str, shared_bytes: int) -> Carrier:
    actors = layout.hosts[edge.source], layout.hosts[edge.target]
    one, other = (places[actor] for actor in actors)
    large = POSSIBLE and link != "zeromq" and layout.signal(edge).size >= shared_bytes
    plain = _by_zeromq(one.host == other.host, large)
    if layout.stream in actors or link == "zeromq":
        return plain
    if one.nccl.gpu and other.nccl.gpu:
        obstacle = nccl_obstacle(one.nccl, other.nccl)
        staged = plain._replace(name=f"{plain.name}, staged through host memory: {obstacle}")
        return staged if obstacle else Carrier("torch.distributed, NCCL", by_torch=True)
    if link == "torch" and not (one.nccl.gpu or other.nccl.gpu):
        return Carrier("torch.distributed, gloo", by_torch=True)
    return plain


def _by_zeromq(near: bool, large: bool) -> Carrier:
    if near and large:
        return Carrier("ZeroMQ, ipc, tensors through shared memory", shared=True)
    return Carrier("ZeroMQ, ipc" if near else "ZeroMQ, tcp with CURVE")


def wirings_of(
    layout: Layout,
    places: Sequence[Location],
    carriers: Mapping[str, Carrier],
    patience: Patience,
    ports: tuple[int, int] | None,
    generation: int = 0,
) -> list[MakeWiring]:
    """What makes the links of every actor, by number, the stream's last.

    Each gets its own keys, made for this generation, and its neighbours' addresses and public keys only.
    """
    graph = layout.outline.graph
    by_torch = {index for index, edge in layout.crossing() if carriers[edge.name].by_torch}
    shared = {index for index, edge in layout.crossing() if carriers[edge.name].shared}
    passing = tuple(c for c in crossings(layout.outline.order, graph.edges) if c.edge in by_torch)
    keys = [fresh_keys() for _ in places]
    stations = [
        Station(actor, place.host, pair.public)
        for actor, (place, pair) in enumerate(zip(places, keys, strict=True))
    ]
    return [
        partial(
            make_wiring,
            stations[actor],
            {end.peer: stations[end.peer] for end in layout.endpoints(actor)},
            keys[actor],
            passing if any(end.edge in by_torch for end in layout.endpoints(actor)) else (),
            patience,
            ports,
            shared,
            generation,
        )
        for actor in range(len(places))
    ]


def make_wiring(
    me: Station,
    peers: Mapping[int, Station],
    keys: KeyPair,
    passing: Sequence[Crossing],
    patience: Patience,
    ports: tuple[int, int] | None,
    shared: Collection[int],
    generation: int,
) -> ZeroMQWiring | TorchWiring:
    """One actor's wiring, made where it lives.

    passing: the crossings of the edges that torch.distributed carries.  shared: the edges with tensors in shared
    memory.
    """
    heads = ZeroMQWiring(me, peers, keys, generation, patience, ports, shared)
    return TorchWiring(heads, me, peers, passing, generation, patience) if passing else heads
