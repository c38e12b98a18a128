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
    ends: dict[Turn, list[int]] = {}
    for index, edge in enumerate(edges):
        ends.setdefault(Turn("evaluate", edge.source), []).append(index)
        ends.setdefault(Turn("react", edge.target), []).append(index)
    return tuple(Crossing(index, turn.half == "evaluate") for turn in order for index in ends.get(turn, ()))


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
    joined = [(edge.source, edge.target) for edge in graph.edges if edge.delay == 0 and edge.source != SOURCE]
    groups = joint(graph.order(), [*joined, *((graph.losses[0], loss) for loss in graph.losses)])
    losses = set(graph.losses)
    return tuple(sorted(groups, key=lambda group: (group[0] != SOURCE, losses.isdisjoint(group))))


def joint(nodes: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    """The nodes in the groups that the pairs make of them; groups and their nodes in the order of the nodes."""
    group = {node: [node] for node in nodes}
    for one, other in pairs:
        kept, merged = sorted((group[one], group[other]), key=len, reverse=True)
        if kept is not merged:
            kept += merged
            group |= dict.fromkeys(merged, kept)
    rank = {node: index for index, node in enumerate(nodes)}
    each = {id(members): members for members in group.values()}
    return sorted(
        (tuple(sorted(members, key=rank.__getitem__)) for members in each.values()), key=lambda m: rank[m[0]]
    )
