"""Random networks spread over actors, with a stream: which messages go where, in which order."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from hamdist.engine.message import Form
from hamdist.network.graph import SOURCE, Edge, Graph
from hamdist.network.tick_order import Crossing, crossings, islands, turns_of
from hamdist.transport.base import Endpoint

ROWS = 1  # of a batch
AHEAD = 6  # ticks that a stream may be ahead, beyond the delay


@dataclass(frozen=True)
class Plan:
    """Nodes in the order of evaluation, who hosts each, and the edges with their delays."""

    nodes: tuple[str, ...]
    hosts: dict[str, int]
    edges: tuple[Edge, ...]

    @property
    def actors(self) -> list[int]:
        return sorted(set(self.hosts.values()))

    @property
    def crossings(self) -> tuple[Crossing, ...]:
        return crossings(turns_of(self.islands), self.edges)

    @property
    def islands(self) -> tuple[tuple[str, ...], ...]:
        return islands(Graph(tuple(n for n in self.nodes if n != SOURCE), (), self.edges, {}))

    def endpoints(self, me: int, device: str = "cpu") -> list[Endpoint]:
        """Forms of one dimension, all of different lengths; nothing returns to the source."""
        endpoints = []
        for index, edge in enumerate(self.edges):
            here, there = self.hosts[edge.source], self.hosts[edge.target]
            if here == there or me not in (here, there):
                continue
            signal = (Form((2 * index + 1,), torch.float64),)
            costate = () if edge.source == SOURCE else (Form((2 * index + 2,), torch.float64),)
            forward = me == here
            sends, receives = (signal, costate) if forward else (costate, signal)
            peer = there if forward else here
            capacity = 2 * edge.ticks + 1 + AHEAD * (edge.source == SOURCE)
            endpoints.append(
                Endpoint(
                    index,
                    edge.name,
                    forward,
                    peer,
                    f"actor {peer}",
                    capacity,
                    ROWS,
                    sends,
                    receives,
                    device=torch.device(device),
                )
            )
        return endpoints

    def order(self, me: int) -> Iterator[tuple[str, int, bool, int]]:
        """What an actor does in one tick, in order: "send" or "receive", edge, forward, and the ticks before which
        nothing is to be received."""
        mine = {end.edge for end in self.endpoints(me)}
        crossing = [(index, edge) for index, edge in enumerate(self.edges) if index in mine]
        for island in self.islands:
            hosted = [node for node in island if self.hosts.get(node) == me]
            for node in hosted:
                yield from (("receive", i, True, e.ticks) for i, e in crossing if e.target == node)
                if node == SOURCE:
                    ahead = ((i, e.ticks + AHEAD) for i, e in crossing if e.source == node)
                    yield from (("receive", i, False, ticks) for i, ticks in ahead)
                yield from (("send", i, True, 0) for i, e in crossing if e.source == node)
            for node in reversed(hosted):
                if node != SOURCE:
                    yield from (("receive", i, False, e.ticks) for i, e in crossing if e.source == node)
                yield from (("send", i, False, 0) for i, e in crossing if e.target == node)


def random_plan(seed: int) -> Plan:
    """Two or three actors and a stream; forward edges with delays 0 to 3, feedback with 1 to 3."""
    chance = random.Random(seed)
    actors = chance.choice([2, 2, 3])
    layers = [f"n{i}" for i in range(chance.randint(2, 6))]
    hosts = {name: chance.randrange(actors) for name in layers} | {SOURCE: actors}
    edges = [Edge(SOURCE, name, chance.randint(0, 1)) for name in layers if chance.random() < 0.5]
    for i, source in enumerate(layers):
        for j, target in enumerate(layers):
            if i < j and chance.random() < 0.7:
                edges.append(Edge(source, target, chance.randint(0, 3)))
            elif i >= j and chance.random() < 0.3:
                edges.append(Edge(source, target, chance.randint(1, 3), feedback=True))
    chance.shuffle(edges)
    return Plan((SOURCE, *layers), hosts, tuple(edges))
