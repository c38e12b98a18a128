"""Of which samples a node speaks at a tick, by the tick at which they entered; in a balanced network that is known.

A node hears at tick t what entered at t − A, and its costate is of what entered at t − 2A(sink) + A.
"""

from hamdist.network.arrival import arrivals, sink
from hamdist.network.graph import Graph


class Times:
    """sink: A of the sink, at which every loss judges."""

    def __init__(self, graph: Graph) -> None:
        self._arrival, self._latency = arrivals(graph), graph.latency
        self.sink = sink(graph, self._arrival)

    def heard(self, node: str, tick: int) -> int:
        """What reaches a node."""
        return tick - self._arrival[node]

    def said(self, node: str, tick: int) -> int:
        """What a node says."""
        return self.heard(node, tick) - self._latency(node)

    def returned(self, node: str, tick: int) -> int:
        """What drives a node, and what it returns a costate of."""
        return tick - 2 * self.sink + self._arrival[node]

    def judged(self, tick: int) -> int:
        """What the losses judge."""
        return tick - self.sink
