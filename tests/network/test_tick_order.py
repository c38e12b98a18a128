"""The order of a tick: one list, told as it is gone through."""

from support.random_networks import random_network

from hamdist.network.graph import LOSS, SOURCE, Edge, Graph
from hamdist.network.tick_order import Crossing, Turn, crossings, described, tick_order

CHAIN = Graph(
    ("a", "b"),
    (LOSS,),
    (Edge(SOURCE, "a", 0), Edge("a", "b", 1), Edge("b", LOSS, 0), Edge(SOURCE, LOSS, 1)),
    {},
)


def test_a_tick_is_told_turn_by_turn():
    """b first, since the loss waits for it; a hears of the tick before only."""
    assert described(tick_order(CHAIN), CHAIN) == [
        "   1  evaluate  source  → source->a, source->loss",
        "   2  evaluate  b  ← a->b of 1 tick ago  → b->loss",
        "   3  evaluate  loss  ← b->loss of this tick, source->loss of 1 tick ago",
        "   4  react     loss  → b->loss",
        "   5  react     b  ← b->loss of this tick  → a->b",
        "   6  evaluate  a  ← source->a of this tick  → a->b",
        "   7  react     a  ← a->b of 1 tick ago",
    ]


def test_in_random_graphs_every_node_has_both_turns_and_what_it_waits_for_comes_before():
    for seed in range(30):
        network, _ = random_network(seed)
        graph = network.graph
        order = tick_order(graph)
        place = {turn: number for number, turn in enumerate(order)}
        assert sorted(place) == sorted(
            Turn(half, node) for half in ("evaluate", "react") for node in graph.nodes
        )
        for edge in graph.edges:
            if edge.delay == 0 and edge.source != SOURCE:
                assert place["evaluate", edge.source] < place["evaluate", edge.target], seed
                assert place["react", edge.target] < place["react", edge.source], seed
        passing = crossings(order, graph.edges)
        both = {Crossing(index, forward) for index in range(len(graph.edges)) for forward in (True, False)}
        assert len(passing) == len(both), seed
        assert set(passing) == both, seed
