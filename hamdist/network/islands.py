"""Islands: the nodes that hear each other within one tick, since edges of delay 0 join them.

A tick goes island by island: each evaluates its nodes and then lets them react, before the next one begins. What
crosses from one island to another is from earlier ticks, so nothing depends on the order of the islands, and only one
of them holds its activations at a time: fully local, those of one layer.
"""

from hamdist.network.graph import SOURCE, Graph


def islands(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """The islands in the order of a tick, each in the order of evaluation; the source first, alone.

    Next come all nodes that a loss must wait for within the tick, as one island, so that no layer reacts in a tick
    before every loss was judged; then the others, as listed. Raises NetworkError as Graph.order.
    """
    order = graph.order()
    island = {node: node for node in order}  # node → the first of its island
    joined = [(edge.source, edge.target) for edge in graph.edges if edge.delay == 0 and edge.source != SOURCE]
    for one, other in (*joined, *((graph.losses[0], loss) for loss in graph.losses)):
        kept, merged = island[one], island[other]
        island = {node: kept if first == merged else first for node, first in island.items()}
    judged = {island[loss] for loss in graph.losses}
    firsts = dict.fromkeys(island[node] for node in order)
    ranked = sorted(firsts, key=lambda first: (first != SOURCE, first not in judged))
    return tuple(tuple(node for node in order if island[node] == first) for first in ranked)
