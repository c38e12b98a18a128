"""When a sample reaches a node and when its costate returns: arrival A, depth D, settling time S; balancing.

A(v) = max over forward in-edges u→v of A(u) + latency(u) + d          the sample's arrival, in ticks
D(v) = 2 (A(sink) − A(v))                                             from evaluation to the costate's return
S(v) = latency(v) + max over forward out-edges v→w of S(w) + d        when a held sample's costate is settled

A node hears at tick t what entered at t − A, and its costate is of what entered at t − 2A(sink) + A.
"""

from hamdist.network.graph import SOURCE, Graph, sorted_nodes


def arrivals(graph: Graph) -> dict[str, int]:
    """A of every node: the longest way from the source, in ticks."""
    arrival: dict[str, int] = {SOURCE: 0}
    for node in _forward_order(graph):
        for edge in graph.into(node):
            if not edge.feedback:
                reached = arrival[edge.source] + graph.latency(edge.source) + edge.ticks
                arrival[node] = max(arrival.get(node, 0), reached)
    return arrival


def depths(graph: Graph) -> dict[str, int]:
    """D of every layer: how many ticks after its evaluation a layer's costate returns."""
    arrival = arrivals(graph)
    last = sink(graph, arrival)
    return {name: 2 * (last - arrival[name]) for name in graph.layers}


def sink(graph: Graph, arrival: dict[str, int]) -> int:
    """A of the virtual sink that all losses join."""
    return max(arrival[loss] for loss in graph.losses)


def shortest_hold(graph: Graph) -> int:
    """1 + max S: the fewest ticks to hold a sample so that `settled` is exact."""
    arrival = arrivals(graph)
    settled = {loss: arrival[loss] for loss in graph.losses}
    for node in reversed(_forward_order(graph)):
        out = [edge for edge in graph.out_of(node) if not edge.feedback and edge.target in settled]
        if node not in settled and out:
            settled[node] = graph.latency(node) + max(settled[e.target] + e.ticks for e in out)
    return 1 + max(settled[name] for name in graph.layers)


def drain_ticks(graph: Graph) -> int:
    """How many ticks after the last sample entered its costate has reached every layer."""
    arrival = arrivals(graph)
    return 2 * sink(graph, arrival) - min(arrival[name] for name in graph.layers)


def regular_ticks(graph: Graph) -> int:
    """How many ticks the longest way takes through the network and back: after so many in a row in which full batches
    entered, nothing else is under way.
    """
    feedback = [edge.ticks for edge in graph.edges if edge.feedback]
    last = sink(graph, arrivals(graph))
    return 2 * last + max([0, *feedback]) + max([1, *graph.latencies.values()]) + 1


def recent_ticks(graph: Graph) -> int:
    """Of how many ticks the source must tell what entered, so that every node that goes on from a cut knows whether
    nothing else is under way: some hear of a sample as late as the sink.
    """
    return regular_ticks(graph) + sink(graph, arrivals(graph))


def feedback_lag(graph: Graph) -> dict[str, int]:
    """For each feedback edge u→v, by how many samples it mixes: d + A(u) + latency(u) − A(v)."""
    arrival = arrivals(graph)
    return {
        edge.name: edge.ticks + arrival[edge.source] + graph.latency(edge.source) - arrival[edge.target]
        for edge in graph.edges
        if edge.feedback
    }


def balanced(graph: Graph, joins: bool = True) -> Graph:
    """The graph with delays raised so that one sample meets itself: d(u→v) = A(v) − A(u) − latency(u).

    Losses and their targets are always balanced, to one common sink; joins of layers only if `joins`.
    """
    arrival = arrivals(graph)
    meeting = arrival | dict.fromkeys(graph.losses, sink(graph, arrival))
    return graph.with_edges(
        edge.delayed(meeting[edge.target] - arrival[edge.source] - graph.latency(edge.source))
        if not edge.feedback and (joins or edge.target in graph.losses)
        else edge
        for edge in graph.edges
    )


def is_balanced(graph: Graph) -> bool:
    return balanced(graph).edges == graph.edges


def _forward_order(graph: Graph) -> list[str]:
    complaint = "runs forward only: list its layers in the order of computation"
    return [node for node in sorted_nodes(graph.nodes, graph.forward, complaint) if node != SOURCE]


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
