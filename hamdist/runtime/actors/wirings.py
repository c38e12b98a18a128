"""Which links join the actors of a run, and what each actor needs to make its own.

auto     torch.distributed with NCCL between different GPUs, ZeroMQ everywhere else
torch    the same, and torch.distributed with gloo between actors on CPUs
zeromq   ZeroMQ everywhere
The stream's edges always go over ZeroMQ: the stream is on no device, and where it lives only the driver knows.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from hamdist.network.graph import Edge
from hamdist.runtime.actors.layer_actor import Whereabouts
from hamdist.runtime.ends import Layout
from hamdist.runtime.links.contract import Patience
from hamdist.runtime.links.lane import Turn, turns
from hamdist.runtime.links.process_pair import nccl_obstacle
from hamdist.runtime.links.security import KeyPair, Station, fresh_keys
from hamdist.runtime.links.torch_distributed import TorchWiring
from hamdist.runtime.links.zeromq import ZeroMQWiring
from hamdist.runtime.rehearsal import MakeWiring

GENERATION = 0


class Carrier(NamedTuple):
    """What carries an edge between two actors.  by_torch: whether torch.distributed does.  name: in words."""

    by_torch: bool
    name: str


def carriers_of(layout: Layout, places: Sequence[Whereabouts], link: str) -> dict[str, Carrier]:
    """By the name of the edge, for all edges between actors."""
    return {edge.name: _carrier(layout, edge, places, link) for _, edge in layout.crossing()}


def _carrier(layout: Layout, edge: Edge, places: Sequence[Whereabouts], link: str) -> Carrier:
    actors = layout.hosts[edge.source], layout.hosts[edge.target]
    one, other = (places[actor] for actor in actors)
    plain = f"ZeroMQ, {'ipc' if one.host == other.host else 'tcp with CURVE'}"
    if layout.stream in actors or link == "zeromq":
        return Carrier(False, plain)
    if one.seat.gpu and other.seat.gpu:
        obstacle = nccl_obstacle(one.seat, other.seat)
        staged = f"{plain}, staged through host memory: {obstacle}"
        return Carrier(False, staged) if obstacle else Carrier(True, "torch.distributed, NCCL")
    if link == "torch" and not (one.seat.gpu or other.seat.gpu):
        return Carrier(True, "torch.distributed, gloo")
    return Carrier(False, plain)


def wirings_of(
    layout: Layout,
    places: Sequence[Whereabouts],
    carriers: Mapping[str, Carrier],
    patience: Patience,
    ports: tuple[int, int] | None,
) -> list[MakeWiring]:
    """What makes the links of every actor, by number, the stream's last.

    Each gets its own keys, made for this run, and its neighbours' addresses and public keys only.
    """
    graph = layout.outline.graph
    by_torch = {index for index, edge in layout.crossing() if carriers[edge.name].by_torch}
    spoken = tuple(turn for turn in turns(layout.outline.islands, graph.edges) if turn.edge in by_torch)
    keys = [fresh_keys() for _ in places]
    stations = [
        Station(actor, place.host, pair.public)
        for actor, (place, pair) in enumerate(zip(places, keys, strict=True))
    ]
    return [
        partial(
            make_wiring,
            stations[actor],
            {end.peer: stations[end.peer] for end in layout.ends(actor)},
            keys[actor],
            spoken if any(end.edge in by_torch for end in layout.ends(actor)) else (),
            patience,
            ports,
        )
        for actor in range(len(places))
    ]


def make_wiring(
    me: Station,
    peers: Mapping[int, Station],
    keys: KeyPair,
    spoken: Sequence[Turn],
    patience: Patience,
    ports: tuple[int, int] | None,
) -> ZeroMQWiring | TorchWiring:
    """One actor's wiring, made where it lives. spoken: the turns of the edges that torch.distributed carries."""
    heads = ZeroMQWiring(me, peers, keys, GENERATION, patience, ports)
    return TorchWiring(heads, me, peers, spoken, GENERATION, patience) if spoken else heads
