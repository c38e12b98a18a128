"""The order of a tick: one list for the whole network, on which it rests that nobody waits for anybody in a circle.

Edges of delay 0 join nodes that hear each other within one tick: an island. A tick goes island by island: each
evaluates its nodes and then lets them react in reverse, before the next one begins. What crosses from one island to
another is from earlier ticks, so nothing depends on the order of the islands, and only one of them holds its
activations at a time: fully local, those of one layer. Every partition does a subsequence of this one list, and back-
pressure reaches only earlier ticks; so of all partitions the one that has come least far can always go on.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from hamdist.network.graph import SOURCE, Edge, Graph


class Turn(NamedTuple):
    """One node's half of a tick: it evaluates, and speaks along its out-edges, or it reacts, along its in-edges."""

    half: Literal["evaluate", "react"]
    node: str


class Crossing(NamedTuple):
    """What passes along an edge in a tick, by the edge's index in the graph: a signal (forward), or a costate."""

    edge: int
    forward: bool


def tick_order(graph: Graph) -> tuple[Turn, ...]:
    """The turns of all nodes, the source's first. Raises NetworkError as Graph.order."""
    return turns_of(islands(graph))


def turns_of(islands: Iterable[Sequence[str]]) -> tuple[Turn, ...]:
    """Island by island, each evaluates and then reacts."""
    turns: list[Turn] = []
    for island in islands:
        turns += [Turn("evaluate", node) for node in island]
        turns += [Turn("react", node) for node in reversed(island)]
    return tuple(turns)


def crossings(order: Sequence[Turn], edges: Sequence[Edge]) -> tuple[Crossing, ...]:
    """What passes along the edges, all of the graph's in its order, in a tick of this order.

    Signals as their sources are evaluated, costates as their targets react, each node's in edge order.
    """
    return tuple(
        Crossing(index, half == "evaluate")
        for half, node in order
        for index, edge in enumerate(edges)
        if node == (edge.source if half == "evaluate" else edge.target)
    )


def described(order: Sequence[Turn], graph: Graph) -> list[str]:
    """The turns, a line each: what a node hears, and along which edges it speaks; nothing returns to the source."""
    turns = [turn for turn in order if turn != Turn("react", SOURCE)]
    return [
        f"{number:4}  {turn.half:8}  {turn.node}{_ends(turn, graph)}" for number, turn in enumerate(turns, 1)
    ]


def _ends(turn: Turn, graph: Graph) -> str:
    """The edges of one turn: "← a->b of 1 tick ago  → b->c"."""
    into, out_of = graph.into(turn.node), graph.out_of(turn.node)
    backward = tuple(edge for edge in into if edge.source != SOURCE)
    heard, spoken = (into, out_of) if turn.half == "evaluate" else (out_of, backward)
    ways = [", ".join(f"{e.name} of {_ago(e)}" for e in heard), ", ".join(e.name for e in spoken)]
    return "".join(f"  {sign} {names}" for sign, names in zip("←→", ways, strict=True) if names)


def _ago(edge: Edge) -> str:
    return "this tick" if edge.ticks == 0 else f"{edge.ticks} tick{'s' * (edge.ticks != 1)} ago"


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
