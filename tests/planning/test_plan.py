"""The plan: rows against counts by hand, notes word for word, and a picture in which nothing lies on anything else."""

import io
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from rich.console import Console
from support.inline import learning, runtime_of, weights
from support.networks import mlp, residual_net
from support.random_networks import random_network
from support.samples import samples
from torch import nn

from hamdist.engine.spec import STACKED
from hamdist.errors import MissingExtraError, UserError
from hamdist.network.graph import LOSS, Edge
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.losses import LossSpec
from hamdist.network.network import Network
from hamdist.physics.modules import Coupling, Residual
from hamdist.physics.rates import Adam
from hamdist.planning.build_plan import plan_of
from hamdist.planning.plan import Plan, arrows, boxes, instants
from hamdist.report.layout import COLUMNS_PER_LINE, GraphDrawing, gutters
from hamdist.report.picture import BOX_HEIGHT, Sheet, rounded
from hamdist.report.tables import edges_table, layers_table

BATCH, DOUBLE = 4, 8  # rows; bytes of a float64


def planned(layers, batches=None, **kwargs) -> Plan:
    return plan_of(runtime_of(layers, batches or samples(1, (8,)), **kwargs).program)


def column(rows, attribute):
    return [getattr(row, attribute) for row in rows]


def note(plan: Plan, topic: str) -> list[str]:
    return [line.removeprefix(f"{topic}: ") for line in plan.notes if line.startswith(f"{topic}: ")]


def test_layers_of_a_local_chain():
    layers = planned(residual_net(6)).layers
    assert column(layers, "name") == ["0", "1", "2", "3", "4", "5"]
    assert column(layers, "kind") == ["Residual(Linear+Tanh)"] * 5 + ["Linear"]
    assert column(layers, "parameters") == [72] * 5 + [27]
    assert column(layers, "arrival") == [0, 1, 2, 3, 4, 5]
    assert column(layers, "depth_delay") == [10, 8, 6, 4, 2, 0]
    assert column(layers, "stash_bytes") == [d * BATCH * 8 * DOUBLE for d in (10, 8, 6, 4, 2, 0)]
    assert (layers[5].inputs_shape, layers[5].output_shape) == ((8,), (3,))
    assert {(row.device, row.actor) for row in layers} == {("cpu", 0)}


def test_layers_that_are_not_traced_or_stacked_are_told_with_the_reason():
    layers = [*residual_net(3)[:1], nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 3).double()]
    told = planned(layers, execution=STACKED)
    assert note(told, "not traced") == ["1, since it draws random numbers"]
    assert note(told, "not stacked") == ["2, since it has no weights"]
    assert note(planned(layers), "not traced") == []


def test_edges_of_a_local_chain():
    edges = planned(mlp(3)).edges
    assert [(e.source, e.target, e.delay, e.kind, e.lag) for e in edges] == [
        ("source", "0", 0, "forward", None),
        ("0", "1", 1, "forward", None),
        ("1", "2", 1, "forward", None),
        ("2", "loss", 0, "forward", None),
        ("source", "loss", 2, "forward", None),
    ]
    classes, signals = BATCH * 8, BATCH * 8 * DOUBLE  # targets are int64
    assert column(edges, "signal_bytes") == [signals, signals, signals, BATCH * 3 * DOUBLE, classes]


HIDDEN, HEAD = (
    2 * BATCH * 8 * 8,
    2 * BATCH * 8 * 3,
)  # one forward: a multiplication and an addition a weight and row


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        # forward and two reverse products; to the source no costate returns
        ({"pairing": "current"}, [2 * HIDDEN, 3 * HIDDEN, 3 * HEAD]),
        # the forward of today, and again with the reverse at the stashed point
        ({"pairing": "stashed"}, [3 * HIDDEN, 4 * HIDDEN, 3 * HEAD]),
        ({"pairing": "stashed", "stash": "graph"}, [2 * HIDDEN, 3 * HIDDEN, 3 * HEAD]),
    ],
)
def test_operations(place, expected):
    assert column(planned(mlp(3), **place).layers, "flops") == expected


def test_a_stash_of_graphs_is_inputs_activations_and_weights():
    """For each of D ticks: the input, what tanh gave (saved), the output where it is another, and the weights."""
    signal = BATCH * 8 * DOUBLE
    assert column(planned(mlp(3), stash="graph").layers, "stash_bytes") == [
        d * (2 * signal + 72 * DOUBLE) for d in (4, 2, 0)
    ]
    assert column(planned(residual_net(3), stash="graph").layers, "stash_bytes") == [
        d * (3 * signal + 72 * DOUBLE) for d in (4, 2, 0)
    ]


@pytest.mark.parametrize("place", [{"mode": "nonlocal"}, {"pairing": "current"}])
def test_nothing_is_noted_of_a_stash_where_there_is_none(place):
    assert note(planned(residual_net(3), **place), "stash") == []


def test_operations_of_a_reversible_layer():
    """Its two halves forward, their inverse, and forward and reverse at what it reconstructs."""
    half = 2 * BATCH * 4 * 4
    layers = [nn.Linear(8, 8), Coupling(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Linear(8, 3)]
    plan = planned([layer.double() for layer in layers], pairing="reversible")
    assert plan.layers[1].kind == "Coupling"
    assert plan.layers[1].flops == (1 + 1 + 3) * 2 * half
    assert column(plan.layers, "stash_bytes") == [4 * BATCH * 8 * DOUBLE, 0, 0]


def test_several_inputs_have_several_shapes():
    layers = planned(residual_net(4), edges=["0->1", "1->2", "2->3", "0->3"]).layers
    assert layers[3].inputs_shape == ((8,), (8,))


def test_a_plan_moves_nothing():
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).double(), nn.Linear(8, 3).double()]
    runtime = runtime_of(layers, samples(1, (8,)))
    before = {**weights(runtime), **runtime.program.nodes["0"].layer.pure.buffers()}
    plan_of(runtime.program)
    after = {**weights(runtime), **runtime.program.nodes["0"].layer.pure.buffers()}
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_tables_take_it():
    plan = planned(residual_net(3), edges=["0->1", "1->2", "1->1"])
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(layers_table(plan.layers), edges_table(plan.edges))
    rows = [" ".join(line.replace("│", " ").split()) for line in console.export_text().splitlines()]
    assert "0 Residual(Linear+Tanh) 8 → 8 72 0 4 1 kB 1.5 k" in rows
    assert "1 1 feedback 1 256 B 1" in rows


def test_devices_and_actors_are_shown_where_they_differ_and_names_are_never_cut():
    first, *others = planned(residual_net(3)).layers
    first.actor, first.name = 1, "a-rather-long-name-of-a-layer"
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(layers_table([first, *others]))
    text = console.export_text()
    assert first.name in text
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(layers_table([first, *others]))
    text = console.export_text()
    assert "actor" in text
    assert "device" not in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["missing/plan.png", "plan.jpgx"])
def test_a_picture_that_cannot_be_written_is_the_users_error(name, tmp_path):
    with pytest.raises(UserError, match=r"cannot be drawn"):
        planned(residual_net(2)).draw(tmp_path / name)


# Notes


def test_notes_of_a_local_chain():
    assert planned(residual_net(6), rule=learning(rate="auto")).notes == (
        "drain: after the last sample 10 ticks go on until every layer has learnt from it",
        "rates: beta is scaled by the delay in 5 of 6 layers (0, 1, 2 and 2 more); the smallest factor is 0.15, of 0, "
        "whose costate returns after 10 ticks",
        "stash: 'inputs' keeps 7.7 kB, for two forward passes a tick; 'graph' keeps 40 kB, weights included, for one",
        "units: stash, signals and flops are those of a batch of 4 rows; flops are those of matrix products, "
        "convolutions and attention, forward and reverse",
    )


def test_nothing_is_noted_of_a_nonlocal_chain_but_the_units():
    assert len(planned(residual_net(6), mode="nonlocal", rule=learning(rate="auto")).notes) == 1


def test_the_hold_that_settles():
    plan = planned(residual_net(6), pairing="current", gate="settled", hold=13)
    assert note(plan, "settled") == [
        "every sample is held for 13 ticks; this network needs 11 to settle exactly"
    ]
    assert note(plan, "drain") == []


def test_layers_that_move_in_turn():
    plan = planned(residual_net(4), mode="cyclic", pairing="current", hold=4)
    assert note(plan, "cyclic") == [
        "every sample is held for 4 ticks, in which each layer moves once, in turn; its prediction leaves in tick 4 of "
        "these, and costates and weights move at every tick"
    ]
    assert column(plan.layers, "stash_bytes") == [0] * 4


def test_where_no_hold_settles_exactly():
    edges = ["0->1", "1->2", "2->3", "2->1", "2->0"]
    plan = planned(residual_net(4), edges=edges, pairing="current", gate="settled", hold=9, tolerance=1e-9)
    assert note(plan, "settled") == [
        "with feedback no hold settles exactly; a layer learns at the end of a hold of 9 ticks if nothing it hears "
        "changed by more than 1e-09 (relative) for 3 ticks"
    ]
    assert note(plan, "feedback") == [
        "2->1 brings what its layer said of an input 2 ticks older",
        "2->0 brings what its layer said of an input 3 ticks older",
    ]
    assert column([e for e in plan.edges if e.kind == "feedback"], "lag") == [2, 3]


def test_feedback_returns_no_costate_when_it_is_cut():
    plan = planned(residual_net(3), edges=["0->1", "1->2", "1->1"])
    assert note(plan, "feedback") == [
        "1->1 brings what its layer said of an input 1 tick older, and returns no costate"
    ]


def test_relaxing_layers():
    network = Network.of(residual_net(3), nn.functional.cross_entropy)
    network = replace(network, layers=(replace(network.layers[0], relaxing=2.5), *network.layers[1:]))
    stashed = planned(network, mode="nonlocal").layers[0]
    assert stashed.kind == "relaxing Residual(Linear+Tanh), T = 2.5"
    assert stashed.stash_bytes == 2 * BATCH * (8 + 8) * DOUBLE, "the input and the state of two ticks"
    graphs = planned(network, mode="nonlocal", stash="graph").layers[0]
    # tanh's value, the drift and the weights beside them; (φ − ξ)/T saves nothing
    assert graphs.stash_bytes == 2 * (BATCH * (8 + 8 + 8 + 8) + 72) * DOUBLE
    settled = planned(network, mode="nonlocal", pairing="current", gate="settled", hold=50)
    (line,) = note(settled, "settled")
    assert line.startswith("with a relaxing layer with T ≠ τ no hold settles exactly")
    assert line.endswith("by more than 1e-06 (relative) for 1 tick")


def test_joins_out_of_balance():
    edges = ["0->1", "1->2", "2->3", "0->3"]
    assert note(planned(residual_net(4), edges=edges), "unbalanced") == []
    plan = planned(residual_net(4), edges=edges, balance=False, pairing="current")
    assert note(plan, "unbalanced") == [
        "3 hears a sample from 2 after 3 and 0 after 1 ticks, so that samples mix there"
    ]


@pytest.mark.parametrize(("step", "late", "bound"), [("semi-implicit", 4, "0.25"), ("explicit", 5, "0.2")])
def test_a_rate_above_what_momentum_and_delay_bear(step, late, bound):
    plan = planned(residual_net(3), rule=learning(weight_dissipation=0.1, step=step))
    assert note(plan, "rates") == [
        f"beta·tau/dissipation.weight is 1 in 0, whose drives are {late} updates old: at unit curvature that is stable "
        f"up to {bound}, which 2 of 3 layers exceed (0 and 1): set learning.rate: delay-scaled, or lower learning.beta"
    ]


@pytest.mark.parametrize(
    ("rule", "mode"),
    [
        (learning(0.3), "local"),
        (learning(0.1, adaptive=Adam()), "local"),
        (learning(0.1, weight_dissipation=0.1), "nonlocal"),
        (learning(0.9, rate="delay-scaled", weight_dissipation=0.1), "local"),
    ],
    ids=["below the bound", "adaptive", "no delay", "scaled"],
)
def test_rates_that_a_delay_bears(rule, mode):
    assert [
        line for line in note(planned(residual_net(3), rule=rule, mode=mode), "rates") if "exceed" in line
    ] == []


def test_deep_residual_networks_want_a_scale():
    """Not shallow ones, scaled ones, or where nothing comes late."""
    told = "13 residual blocks add up as they are, which makes the loss steep where costates come late"
    (line,) = note(planned(residual_net(14)), "depth")
    assert line.startswith(told)
    scaled = [Residual(block.body, "auto") for block in residual_net(14)[:-1]]
    for layers, mode in (
        (residual_net(12), "local"),
        ([*scaled, nn.Linear(8, 3)], "local"),
        (residual_net(14), "nonlocal"),
    ):
        assert note(planned(layers, mode=mode), "depth") == []


def delayed_quadratic(momentum, delay, rate):
    """|x| after 4000 steps of gradient descent on x²/2 with gradients `delay` steps old."""
    path, velocity = [1.0] * (delay + 1), 0.0
    for _ in range(4000):
        velocity = momentum * velocity + path[-1 - delay]
        path.append(path[-1] - rate * velocity)
    return max(map(abs, path[-50:]))


@pytest.mark.parametrize("delay", [2, 5, 12])
@pytest.mark.parametrize("momentum", [0.3, 0.9, 0.98])
def test_the_bound_that_the_momentum_note_states(momentum, delay):
    """βτ/η = lr/(1 − a) ≤ 1/D suffices, and is not far from necessary: π/2 times as much never does."""
    assert delayed_quadratic(momentum, delay, 0.95 * (1 - momentum) / delay) < 1
    assert delayed_quadratic(momentum, delay, 1.6 * (1 - momentum) / delay) > 10


def test_random_layers_and_batch_statistics():
    layers = [
        nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)),
        nn.BatchNorm1d(8),
        nn.Sequential(nn.Dropout(0.1), nn.Linear(8, 3)),
    ]
    plan = planned([layer.double() for layer in layers])
    assert note(plan, "random") == [
        "0 and 2 draw from the seed, the layer and the sample, so that a held sample or a recomputation "
        "repeats the draw"
    ]
    assert note(plan, "batch statistics") == ["1 sees the rows of a short last batch only"]


# Picture


def crossing_network() -> Network:
    """Two branches, a long skip, feedback over and around, two losses, a long name."""
    names = ["embed", "left", "right", "a-layer-with-a-very-long-name", "head"]
    edges = [
        ("embed", "left"),
        ("embed", "right"),
        ("left", names[3]),
        ("right", names[3]),
        (names[3], "head"),
    ]
    edges += [("embed", "head"), ("head", "left"), (names[3], "right"), ("left", "left")]
    torch.manual_seed(0)
    specs = [LayerSpec(name, lambda: Residual(nn.Linear(8, 8)).double()) for name in names]
    losses = {
        node: LossSpec(nn.functional.cross_entropy, layer)
        for node, layer in [(LOSS, "head"), ("aux", "right")]
    }
    return Network(tuple(specs), losses, tuple(Edge(a, b) for a, b in edges))


def cases():
    chain = [f"{i}->{i + 1}" for i in range(23)]
    yield "chain", residual_net(6), {}
    yield "nonlocal", residual_net(6), {"mode": "nonlocal"}
    yield "long chain", residual_net(20), {}
    yield "long chain with skips", residual_net(24), {"edges": [*chain, "3->15", "20->2", "5->5", "0->7"]}
    yield "crossing", crossing_network(), {}
    yield "unbalanced", crossing_network(), {"balance": False, "pairing": "current"}
    for seed in range(6):
        yield f"random {seed}", random_network(seed)[0], {"batches": samples(1, (6,))}


@pytest.fixture(params=list(cases()), ids=lambda case: case[0])
def layout(request) -> GraphDrawing:
    _, layers, kwargs = request.param
    graph = planned(layers, **kwargs).graph
    return GraphDrawing(boxes(graph), arrows(graph))


@pytest.mark.slow
def test_time_runs_to_the_right(layout):
    ticks = {box.name: box.tick for box in layout.boxes}
    for arrow in layout.arrows:
        if arrow.kind != "feedback":
            assert layout.column[arrow.source] < layout.column[arrow.target]
    by_column = sorted(layout.boxes, key=lambda box: layout.column[box.name])
    assert [ticks[box.name] for box in by_column] == sorted(ticks.values())
    assert layout.per_line <= COLUMNS_PER_LINE


@pytest.mark.slow
def test_every_box_has_a_place_and_every_lane_one_arrow_at_a_time(layout):
    places = [(layout.column[box.name], layout.row[box.name]) for box in layout.boxes]
    assert len(set(places)) == len(places)
    taken = [
        (lane, gutter)
        for arrow, lane in zip(layout.arrows, layout.lane, strict=True)
        for gutter in gutters(layout.column, arrow)
        if lane
    ]
    assert len(set(taken)) == len(taken)
    for arrow, lane in zip(layout.arrows, layout.lane, strict=True):
        assert (lane < 0) == (arrow.kind == "feedback")


@pytest.mark.slow
def test_no_edge_runs_through_a_box(layout):
    """Of every polyline each segment, which is upright, level, or stays in a gutter, keeps clear of all boxes."""
    sheet = Sheet(layout)
    for arrow, lane in zip(layout.arrows, layout.lane, strict=True):
        pieces = sheet.pieces(arrow, lane)
        assert pieces[0][0] == sheet.port(arrow.source, 1, lane)
        assert pieces[-1][-1] == sheet.port(arrow.target, -1, lane)
        for piece in pieces:
            for (x1, y1), (x2, y2) in pairwise(piece):
                for box in layout.boxes:
                    x, y = sheet.middle(box.name)
                    beside = (
                        max(x1, x2) <= x - sheet.box_width / 2 + 1e-9
                        or min(x1, x2) >= x + sheet.box_width / 2 - 1e-9
                    )
                    assert beside or min(y1, y2) > y + BOX_HEIGHT / 2 or max(y1, y2) < y - BOX_HEIGHT / 2


@pytest.mark.slow
def test_everything_lies_on_the_sheet(layout):
    sheet = Sheet(layout)
    for box in layout.boxes:
        x, y = sheet.middle(box.name)
        assert sheet.box_width / 2 < x < sheet.width - sheet.box_width / 2
        assert BOX_HEIGHT < -y < sheet.height - BOX_HEIGHT
    for arrow, lane in zip(layout.arrows, layout.lane, strict=True):
        assert all(
            0 <= x <= sheet.width and -sheet.height < y < 0 for p in sheet.pieces(arrow, lane) for x, y in p
        )
    spans = [range(first, last + 1) for _, first, last in sheet.bands()]
    assert [c for span in spans for c in span] == list(range(layout.width))


def test_one_colour_is_one_instant():
    groups = [["0", "1"], ["2"], ["3", "4", "5"]]
    graph = planned(residual_net(6), mode="groups", groups=groups).graph
    assert instants(graph) == {"0": 0, "1": 0, "3": 1, "4": 1, "5": 1}
    assert instants(planned(residual_net(4)).graph) == {}


def test_rounded_corners_start_and_end_where_the_polyline_does():
    path = rounded([(0, 0), (1, 0), (1, 2), (3, 2)])
    assert tuple(path.vertices[0]) == (0, 0)
    assert tuple(path.vertices[-1]) == (3, 2)
    assert [tuple(v) for v in path.vertices[1:4]] == [(0.9, 0), (1, 0), (1, 0.1)]


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_it_draws_a_file(tmp_path, ending, start):
    path = tmp_path / f"network.{ending}"
    planned(crossing_network()).draw(path)
    assert path.read_bytes().startswith(start)


def test_without_matplotlib_it_says_what_to_install(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    plan = planned(mlp(2))
    with pytest.raises(MissingExtraError) as caught:
        plan.draw(tmp_path / "network.png")
    assert str(caught.value) == "drawing a network needs an optional package: pip install 'hamdist[plots]'"
