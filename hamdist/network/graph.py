"""The graph of a network: which node hears which, in which order, and the delay of every edge.

Nodes are named: "source", the layers, and the losses. An edge carries the state signal forward with a delay of
d ticks and the costate signal backward with the same delay.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from itertools import pairwise

from hamdist.errors import NetworkError
from hamdist.network.wording import all_of

SOURCE = "source"
LOSS = "loss"


@dataclass(frozen=True)
class Edge:
    """From one node to another. delay None: left to the locality.

    feedback: it leads to the same or an earlier listed layer.  shape: of one row of its signal, where it
    cannot be found out otherwise.
    """

    source: str
    target: str
    delay: int | None = None
    feedback: bool = False
    shape: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        return f"{self.source}->{self.target}"

    @property
    def ticks(self) -> int:
        """The delay, once it is set."""
        assert self.delay is not None, f"the delay of {self.name} is not set"
        return self.delay

    def delayed(self, ticks: int) -> "Edge":
        return replace(self, delay=ticks)


@dataclass(frozen=True)
class Graph:
    """Layers in the order listed, losses, and edges in the order given, which is the order of every sum.

    latencies: per layer, the ticks between an input and the first output that shows it (0 unless relaxing).
    """

    layers: tuple[str, ...]
    losses: tuple[str, ...]
    edges: tuple[Edge, ...]
    latencies: Mapping[str, int]

    @property
    def nodes(self) -> tuple[str, ...]:
        return (SOURCE, *self.layers, *self.losses)

    @property
    def forward(self) -> tuple[Edge, ...]:
        return tuple(edge for edge in self.edges if not edge.feedback)

    @property
    def has_feedback(self) -> bool:
        return any(edge.feedback for edge in self.edges)

    def into(self, node: str) -> tuple[Edge, ...]:
        """The in-edges of a node, in edge order."""
        return self._ends[1].get(node, ())

    def out_of(self, node: str) -> tuple[Edge, ...]:
        """The out-edges of a node, in edge order."""
        return self._ends[0].get(node, ())

    @cached_property
    def _ends(self) -> tuple[dict[str, tuple[Edge, ...]], dict[str, tuple[Edge, ...]]]:
        """Edges by their source, and by their target."""
        ends: tuple[dict[str, list[Edge]], dict[str, list[Edge]]] = ({}, {})
        for edge in self.edges:
            ends[0].setdefault(edge.source, []).append(edge)
            ends[1].setdefault(edge.target, []).append(edge)
        out_of, into = ({node: tuple(edges) for node, edges in side.items()} for side in ends)
        return out_of, into

    def latency(self, node: str) -> int:
        return self.latencies.get(node, 0)

    def with_edges(self, edges: Iterable[Edge]) -> "Graph":
        return replace(self, edges=tuple(edges))

    def order(self) -> tuple[str, ...]:
        """The graph-wide order of evaluation: topological along the edges of delay 0, else as listed.

        Raises NetworkError where a cycle has a total delay of 0: it would have to know its own future.
        """
        instant = [edge for edge in self.edges if edge.delay == 0]
        return sorted_nodes(
            self.nodes,
            instant,
            "has a total delay of 0 ticks, so it cannot run: give one of its edges a delay",
        )


def sorted_nodes(nodes: Iterable[str], edges: Iterable[Edge], complaint: str) -> tuple[str, ...]:
    """Nodes in topological order of the edges, ties in the order given; NetworkError names a cycle."""
    rank = {node: index for index, node in enumerate(nodes)}
    sorter: TopologicalSorter[str] = TopologicalSorter({node: set() for node in rank})
    for edge in edges:
        sorter.add(edge.target, edge.source)
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise NetworkError(f"the cycle {cycle} {complaint}") from None
    names = tuple(rank)
    order: list[str] = []
    ready: list[int] = []
    while sorter.is_active():
        for node in sorter.get_ready():
            heappush(ready, rank[node])
        order.append(names[heappop(ready)])
        sorter.done(order[-1])
    return tuple(order)


def chain(layers: Iterable[str]) -> tuple[Edge, ...]:
    """Each layer to the next."""
    return tuple(Edge(a, b) for a, b in pairwise(layers))


def connect(
    layers: tuple[str, ...], losses: Mapping[str, str], edges: Iterable[Edge], latencies: Mapping[str, int]
) -> Graph:
    """The whole graph from the edges between layers.

    layers: as listed.  losses: loss node → the layer that bears it.  A layer without a forward in-edge reads the
    source; every loss hears its layer, by an edge that need not be given, and, last, the source, which sends it the
    target. Raises NetworkError with every edge that names no layer, leads to another layer's loss, stands twice, or
    leaves a layer without a way to a loss.
    """
    edges = tuple(edges)
    check_ends(layers, losses, edges)
    judged = {edge.target: edge for edge in edges if edge.target in losses}
    edges = tuple(edge for edge in edges if edge.target not in losses)
    rank = {name: index for index, name in enumerate(layers)}
    marked = [replace(e, feedback=e.source != SOURCE and rank[e.target] <= rank[e.source]) for e in edges]
    fed = {edge.target for edge in marked if not edge.feedback}
    inputs = [Edge(SOURCE, name) for name in layers if name not in fed]
    to_loss = [judged.get(loss, Edge(layer, loss)) for loss, layer in losses.items()]
    targets = [Edge(SOURCE, loss) for loss in losses]
    graph = Graph(layers, tuple(losses), (*inputs, *marked, *to_loss, *targets), dict(latencies))
    check_reach(graph)
    return graph


def check_ends(layers: tuple[str, ...], losses: Mapping[str, str], edges: tuple[Edge, ...]) -> None:
    """Every edge joins layers that exist (or starts at the source, or ends at its layer's loss), once, with a delay of
    0 or more."""
    problems, seen = [], set()
    sources, targets, known = {*layers, SOURCE}, {*layers, *losses}, all_of(layers)
    for edge in edges:
        for end, allowed in ((edge.source, sources), (edge.target, targets)):
            if end not in allowed:
                problems.append(f"edge {edge.name}: there is no layer {end!r}; the layers are {known}")
        bearer = losses.get(edge.target, edge.source)
        if edge.source != bearer:
            problems.append(f"edge {edge.name}: {edge.target!r} judges layer {bearer!r}, not {edge.source!r}")
        if edge.delay is not None and edge.delay < 0:
            problems.append(f"edge {edge.name}: its delay is {edge.delay}, but a delay is 0 ticks or more")
        if edge.name in seen:
            problems.append(f"edge {edge.name} is listed twice")
        seen.add(edge.name)
    if problems:
        raise NetworkError(*problems)


def check_reach(graph: Graph) -> None:
    """Every layer leads to a loss along forward edges: without one it would never hear a costate."""
    reaching = set(graph.losses)
    rank = {node: index for index, node in enumerate(graph.nodes)}
    for edge in sorted(graph.forward, key=lambda e: rank[e.source], reverse=True):
        if edge.target in reaching:
            reaching.add(edge.source)
    lost = [name for name in graph.layers if name not in reaching]
    if lost:
        raise NetworkError(
            *(f"layer {name!r} leads to no loss: add an edge from it, or a loss on it" for name in lost)
        )
