"""Graphs: order, delays, balancing, and the numbers of ticks that follow, against a simulation of bare tokens."""

import random
from collections import deque
from itertools import pairwise

import pytest
from support.inline import run_through, runtime_of
from support.networks import network_of
from support.seeds import over_seeds
from torch import nn, ones, tensor, zeros

from hamdist.errors import NetworkError
from hamdist.network.graph import LOSS, SOURCE, Edge, Graph, chain, connect
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.locality import Locality, apply_locality
from hamdist.network.network import Network
from hamdist.network.tick_order import islands
from hamdist.network.timing import (
    arrivals,
    balanced,
    depths,
    drain_ticks,
    feedback_lag,
    is_balanced,
    shortest_hold,
    sink,
)

ABC = ("a", "b", "c")


def graph_of(layers, edges=None, losses=None, latencies=None, **locality) -> Graph:
    edges = chain(layers) if edges is None else [Edge(*e) if isinstance(e, tuple) else e for e in edges]
    raw = connect(tuple(layers), losses or {LOSS: layers[-1]}, edges, latencies or {})
    return apply_locality(raw, Locality(**locality))


def random_graph(seed: int, **locality) -> Graph:
    """4 to 9 layers, each hearing one to three earlier ones; some delays set, some layers with latency."""
    chance = random.Random(seed)
    names = [f"n{i}" for i in range(chance.randint(4, 9))]
    edges = [
        Edge(source, names[target], chance.choice([None, None, 0, 1, 2, 5]))
        for target in range(1, len(names))
        for source in sorted(chance.sample(names[:target], min(target, chance.randint(1, 3))))
    ]
    heard = {edge.source for edge in edges}
    losses = {f"loss-of-{name}": name for name in names if name not in heard or chance.random() < 0.2}
    latencies = {name: 1 for name in names if chance.random() < 0.25}
    return graph_of(names, edges, losses, latencies, **locality)


def simulate(graph: Graph, ticks: int, present) -> dict[str, list[int]]:
    """Bare tokens in queues: at which ticks every layer hears a costate that everything it depends on has reached.

    The source sends True where present(tick). A layer with latency shows, and hears, one tick late.
    """
    forward = {edge: deque([False] * edge.ticks) for edge in graph.forward}
    backward = {edge: deque([False] * edge.ticks) for edge in graph.forward}
    shown, held = dict.fromkeys(graph.layers, False), dict.fromkeys(graph.layers, False)
    driven = {name: [] for name in graph.layers}
    order = graph.order()
    for tick in range(ticks):
        heard, answer = {}, {}
        for node in order:
            arrived = [forward[e].popleft() for e in graph.into(node) if not e.feedback]
            heard[node] = all(arrived)
            output = present(tick) if node == SOURCE else heard[node]
            if graph.latency(node):
                output, shown[node] = shown[node], output
            for edge in graph.out_of(node):
                if not edge.feedback:
                    forward[edge].append(output)
        for node in reversed(order):
            returned = [backward[e].popleft() for e in graph.out_of(node) if not e.feedback]
            answer[node] = all(returned)
            if node in graph.losses:
                answer[node] = heard[node]
            if graph.latency(node):
                answer[node], held[node] = held[node], answer[node]
            if node in driven and answer[node]:
                driven[node].append(tick)
            for edge in graph.into(node):
                if not edge.feedback:
                    backward[edge].append(answer[node])
    return driven


# Order


def test_order_of_a_chain_is_as_listed():
    for mode in ("local", "nonlocal"):
        assert graph_of(ABC, mode=mode).order() == (SOURCE, "a", "b", "c", LOSS)


@over_seeds(20)
def test_order_is_topological_along_edges_of_delay_0_and_holds_every_node_once(seed):
    graph = random_graph(seed, mode="groups", groups=_random_groups(seed))
    place = {node: index for index, node in enumerate(graph.order())}
    assert sorted(place) == sorted(graph.nodes)
    assert all(place[e.source] < place[e.target] for e in graph.edges if e.delay == 0)


def _random_groups(seed):
    chance = random.Random(seed)
    names = [f"n{i}" for i in range(chance.randint(4, 9))]
    cut = chance.randint(1, len(names) - 1)
    return [names[:cut], names[cut:]]


def test_order_of_free_nodes_is_as_listed_even_against_the_edges():
    """With all d = 1 nothing must wait, so the order is the listing's."""
    graph = graph_of(ABC, [("a", "b"), ("b", "c"), ("a", "c")])
    assert [n for n in graph.order() if n in ABC] == ["a", "b", "c"]


# Islands


def test_islands_of_a_chain_the_one_with_the_loss_before_the_others():
    assert islands(graph_of(ABC, mode="nonlocal")) == ((SOURCE,), (*ABC, LOSS))
    assert islands(graph_of(ABC)) == ((SOURCE,), ("c", LOSS), ("a",), ("b",))
    groups = [["a", "b"], ["c"]]
    assert islands(graph_of(ABC, mode="groups", groups=groups)) == ((SOURCE,), ("c", LOSS), ("a", "b"))


def test_all_losses_are_judged_before_any_layer_reacts():
    graph = graph_of(ABC, losses={"early": "a", "late": "c"})
    assert islands(graph) == ((SOURCE,), ("c", "early", "late"), ("a",), ("b",))


@over_seeds(20)
def test_islands_are_what_edges_of_delay_0_join_and_hold_every_node_once_in_order(seed):
    graph = random_graph(seed, mode="groups", groups=_random_groups(seed))
    found, order = islands(graph), graph.order()
    assert sorted(node for island in found for node in island) == sorted(graph.nodes)
    assert all(sorted(island, key=order.index) == list(island) for island in found)
    at = {node: number for number, island in enumerate(found) for node in island}
    assert {at[loss] for loss in graph.losses} == {1}
    assert all(at[e.source] == at[e.target] for e in graph.edges if e.delay == 0 and e.source != SOURCE)
    for number, island in enumerate(found[2:], 2):
        reached = {island[0]}
        for _ in island:
            reached |= {
                end
                for e in graph.edges
                if e.delay == 0 and e.source != SOURCE
                for end in (e.source, e.target)
                if {e.source, e.target} & reached
            }
        assert reached == set(island), number


# Edges


def test_a_layer_that_hears_nobody_reads_the_source_and_several_inputs_stay_in_edge_order():
    graph = graph_of(ABC, [("b", "c"), ("a", "c")])
    assert {e.name for e in graph.edges if e.source == SOURCE} == {
        "source->a",
        "source->b",
        f"source->{LOSS}",
    }
    assert [e.name for e in graph.into("c")] == ["b->c", "a->c"]


def test_edges_to_the_same_or_an_earlier_layer_are_feedback():
    graph = graph_of(ABC, [("a", "b"), ("b", "c"), ("c", "a"), ("b", "b")])
    assert [e.name for e in graph.edges if e.feedback] == ["c->a", "b->b"]
    assert [e.name for e in graph.into("a")] == ["source->a", "c->a"]
    assert graph.has_feedback
    assert arrivals(graph) == {SOURCE: 0, "a": 0, "b": 1, "c": 2, LOSS: 2}


def test_an_edge_from_the_source_may_be_listed():
    graph = graph_of(ABC, [(SOURCE, "a"), ("a", "b"), ("b", "c"), (SOURCE, "c")])
    assert [e.name for e in graph.into("c")] == ["b->c", "source->c"]
    assert {e.name: e.ticks for e in graph.edges}["source->c"] == 2


def test_every_mistake_in_the_edges_is_reported_at_once():
    edges = [("a", "zz"), ("yy", "b"), ("a", "b", -2), ("b", "c"), ("b", "c")]
    with pytest.raises(NetworkError) as caught:
        graph_of(ABC, edges)
    assert [str(p) for p in caught.value.problems] == [
        "edge a->zz: there is no layer 'zz'; the layers are a, b, c",
        "edge yy->b: there is no layer 'yy'; the layers are a, b, c",
        "edge a->b: its delay is -2, but a delay is 0 ticks or more",
        "edge b->c is listed twice",
    ]


@pytest.mark.parametrize("edge", [("a", SOURCE), (LOSS, "a")])
def test_the_source_hears_nobody_and_losses_tell_nobody(edge):
    with pytest.raises(NetworkError, match="there is no layer"):
        graph_of(ABC, [*chain(ABC), edge])


def test_the_edge_to_a_loss_may_be_listed_with_a_delay_and_from_its_layer_only():
    assert graph_of(ABC, [*chain(ABC), ("c", LOSS)]) == graph_of(ABC)
    slow = graph_of(ABC, [*chain(ABC), Edge("c", LOSS, 2)])
    assert slow == graph_of(ABC, delays={"c->loss": 2})
    with pytest.raises(NetworkError, match="edge a->loss: 'loss' judges layer 'c', not 'a'"):
        graph_of(ABC, [*chain(ABC), ("a", LOSS)])


def test_a_layer_that_leads_to_no_loss_is_refused_by_name():
    with pytest.raises(
        NetworkError, match="layer 'b' leads to no loss: add an edge from it, or a loss on it"
    ):
        graph_of(ABC, [("a", "b"), ("a", "c")])


def test_feedback_alone_leads_to_no_loss():
    with pytest.raises(NetworkError, match="layer 'c' leads to no loss"):
        graph_of(ABC, [("a", "b"), ("c", "a")], {LOSS: "b"})


@pytest.mark.parametrize(
    ("edges", "mode", "members"),
    [
        ([("a", "b"), ("b", "c"), ("c", "b", 0)], "nonlocal", {"b", "c"}),
        ([("a", "b"), ("b", "c"), ("c", "a", 0)], "nonlocal", {"a", "b", "c"}),
        ([("a", "b"), ("b", "c"), ("b", "b", 0)], "local", {"b"}),
    ],
)
def test_a_cycle_of_total_delay_0_is_refused_by_name(edges, mode, members):
    with pytest.raises(
        NetworkError, match=r"has a total delay of 0 ticks.*give one of its edges a delay"
    ) as caught:
        graph_of(ABC, edges, mode=mode)
    cycle = str(caught.value).split(" has ")[0].removeprefix("the cycle ").split(" -> ")
    assert set(cycle) == members
    assert cycle[0] == cycle[-1]
    assert all((u, v) in {edge[:2] for edge in edges} for u, v in pairwise(cycle))


def test_the_same_cycle_runs_where_some_edge_takes_a_tick():
    edges = [("a", "b"), ("b", "c"), ("c", "b", 0)]
    assert feedback_lag(graph_of(ABC, edges, mode="local")) == {"c->b": 1}


# Names


def test_names_that_mean_something_else_are_refused():
    with pytest.raises(NetworkError, match="a layer cannot be called 'source'"):
        network_of({"source": nn.Identity, "b": nn.Identity})
    with pytest.raises(NetworkError, match="a layer cannot be called 'loss-a'"):
        network_of({"a": nn.Identity, "loss-a": nn.Identity}, losses={LOSS: "loss-a", "loss-a": "a"})


def test_two_layers_of_one_name_are_refused_and_none_is_lost():
    twice = [LayerSpec("a", nn.Identity), LayerSpec("a", nn.Identity)]
    with pytest.raises(NetworkError, match="layer 'a' is listed twice"):
        Network.of(twice, nn.functional.cross_entropy)
    with pytest.raises(NetworkError, match="layer '1' is listed twice"):
        Network.of([LayerSpec("1", nn.Identity), nn.Identity()], nn.functional.cross_entropy)


def test_a_loss_on_a_layer_that_does_not_exist():
    with pytest.raises(NetworkError, match="layer 'zz' bears a loss but does not exist; the layers are a, b"):
        network_of({"a": nn.Identity, "b": nn.Identity}, losses={LOSS: "zz"})


# Arrival, depth, balancing


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_local_chain(count):
    names = [f"n{i}" for i in range(count)]
    graph = graph_of(names)
    assert arrivals(graph) == {SOURCE: 0, LOSS: count - 1} | {f"n{i}": i for i in range(count)}
    assert depths(graph) == {f"n{i}": 2 * (count - 1 - i) for i in range(count)}
    assert shortest_hold(graph) == 2 * (count - 1) + 1
    assert drain_ticks(graph) == 2 * (count - 1)


def test_nonlocal_needs_no_tick_at_all():
    graph = graph_of(ABC, mode="nonlocal")
    assert set(arrivals(graph).values()) == set(depths(graph).values()) == {0}
    assert (shortest_hold(graph), drain_ticks(graph)) == (1, 0)


def test_groups_and_explicit_delays():
    names = ["a", "b", "c", "d"]
    grouped = graph_of(names, mode="groups", groups=[["a", "b"], ["c", "d"]])
    assert depths(grouped) == {"a": 2, "b": 2, "c": 0, "d": 0}
    slow = graph_of(names, delays={"b->c": 3, "source->a": 2, "d->loss": 1})
    assert arrivals(slow) == {SOURCE: 0, "a": 2, "b": 3, "c": 6, "d": 7, LOSS: 8}
    assert depths(slow) == {"a": 12, "b": 10, "c": 4, "d": 2}
    assert drain_ticks(slow) == 14


def test_a_delay_of_an_edge_itself_yields_to_that_of_the_locality():
    edges = [("a", "b", 2), ("b", "c", 4)]
    graph = graph_of(ABC, edges, mode="nonlocal", delays={"b->c": 1})
    assert {e.name: e.ticks for e in graph.edges if e.target in ABC} == {"source->a": 0, "a->b": 2, "b->c": 1}


def path_delays(graph: Graph, start: str) -> dict[str, set[int]]:
    """The delays of every forward path from a node, the slow way."""
    found: dict[str, set[int]] = {}

    def walk(node, ticks):
        found.setdefault(node, set()).add(ticks)
        for edge in graph.out_of(node):
            if not edge.feedback:
                walk(edge.target, ticks + graph.latency(node) + edge.ticks)

    walk(start, 0)
    return found


@pytest.mark.parametrize("mode", ["local", "nonlocal"])
@over_seeds(40)
def test_balanced_every_path_between_two_nodes_takes_equally_long(seed, mode):
    graph, raw = (
        random_graph(seed, mode=mode),
        random_graph(seed, mode=mode, balance=False, pairing="current"),
    )
    for node in graph.nodes:
        assert all(len(ticks) == 1 for ticks in path_delays(graph, node).values())
    assert is_balanced(graph)
    assert balanced(graph) == graph
    after, before = arrivals(graph), arrivals(raw)
    assert all(after[name] == before[name] for name in graph.layers), "balancing only fills slack"
    assert all(b.ticks >= a.ticks for a, b in zip(raw.edges, graph.edges, strict=True))
    assert len({after[loss] for loss in graph.losses}) == 1, "losses share one sink"
    assert sink(graph, after) == max(after.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "place", [{"mode": "local"}, {"mode": "nonlocal"}, {"balance": False, "pairing": "current"}]
)
@over_seeds(40)
def test_the_shortest_hold_is_what_bare_tokens_take(seed, place):
    graph = random_graph(seed, **place)
    driven = simulate(graph, 200, lambda tick: True)
    assert shortest_hold(graph) == 1 + max(ticks[0] for ticks in driven.values())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["local", "nonlocal"])
@over_seeds(40)
def test_depth_and_drain_are_what_a_single_token_takes(seed, mode):
    graph = random_graph(seed, mode=mode)
    driven = simulate(graph, 200, lambda tick: tick == 0)
    arrival, depth = arrivals(graph), depths(graph)
    assert driven == {name: [arrival[name] + depth[name]] for name in graph.layers}
    assert drain_ticks(graph) == max(ticks[0] for ticks in driven.values())


def test_joins_out_of_balance_are_refused_where_the_pairing_needs_them():
    edges = [("a", "b"), ("b", "c"), ("a", "c")]
    with pytest.raises(
        NetworkError, match=r"locality.balance: pairing 'stashed' needs balanced joins.*balance: true"
    ):
        graph_of(ABC, edges, balance=False)
    graph = graph_of(ABC, edges, balance=False, pairing="current")
    assert {e.name: e.ticks for e in graph.edges}["a->c"] == 1


def test_settled_needs_todays_activations():
    with pytest.raises(
        NetworkError, match=r"locality.gate: 'settled'.*needs pairing: current, not 'stashed'"
    ):
        graph_of(ABC, gate="settled", hold=5)


# Feedback


@pytest.mark.parametrize(
    ("place", "lag"),
    [({"mode": "nonlocal"}, 1), ({}, 3), ({"delays": {"2->0": 4}}, 6), ({"delays": {"0->1": 3}}, 5)],
)
def test_feedback_mixes_samples_that_far_apart(place, lag):
    """Identities and a pulse: what leaves is the pulse, again after every lag. The plan says the same."""
    batches = [((ones if n == 0 else zeros)(1, 3).double(), tensor([0])) for n in range(14)]
    edges = ["0->1", "1->2", "2->0"]
    runtime = runtime_of([nn.Identity()] * 3, batches, edges=edges, **place)
    heard = [p.first for p in run_through(runtime, batches) if p.output.any()]
    assert heard == list(range(0, 14, lag))
    assert feedback_lag(runtime.program.graph) == {"2->0": lag}


# The dial's own mistakes


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([["a", "b"], ["b", "c"]], "layer 'b' is in more than one group: groups must not overlap"),
        ([["a", "b"]], "layer 'c' is in no group: every layer needs one"),
        ([["a", "b"], ["c", "zz"]], "there is no layer 'zz'; the layers are a, b, c"),
        ([], "layer 'a' is in no group"),
    ],
)
def test_groups_that_do_not_partition_the_layers(groups, message):
    with pytest.raises(NetworkError, match=f"locality.groups: {message}"):
        graph_of(ABC, mode="groups", groups=groups)


@pytest.mark.parametrize(
    ("delays", "message"),
    [
        ({"a->bb": 1}, r"locality.delays.a->bb: there is no edge 'a->bb'; did you mean 'a->b'\?"),
        (
            {"qqqqqq": 1},
            "there is no edge 'qqqqqq'; the edges are source->a, a->b, b->c, c->loss, source->loss",
        ),
        ({"a->b": -1}, "locality.delays.a->b: the delay is -1, but a delay is 0 ticks or more"),
    ],
)
def test_delays_of_edges_that_do_not_exist_or_below_0(delays, message):
    with pytest.raises(NetworkError, match=message):
        graph_of(ABC, delays=delays)
