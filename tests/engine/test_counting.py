"""Counting: every sample drives every layer once; what must stand still does; scores are plain means."""

from dataclasses import replace

import pytest
import torch
from support.comparing import changed, everything, largest_difference, same_bits
from support.delayed_gradients import delayed_gradients
from support.inline import learning, run_through, runtime_of, weights
from support.inside import silence
from support.networks import mlp, network_of, relaxed, residual_net, reversible_net
from support.samples import samples
from support.timelines import AfterEveryTick
from torch import nn

from hamdist.engine.inline import InlineRuntime
from hamdist.engine.ledger import Ledger
from hamdist.engine.message import Token
from hamdist.physics.rates import Adam

PLACES = {
    "local": {},
    "nonlocal": {"mode": "nonlocal"},
    "groups": {"mode": "groups", "groups": [["0", "1"], ["2", "3"]]},
    "slow": {"delays": {"0->1": 3, "2->3": 3, "source->0": 1}},
}
EDGES = {
    "chain": None,
    "skip": ["0->1", "1->2", "0->2", "2->3", "0->3"],
    "feedback": ["0->1", "1->2", "2->3", "2->1", "3->3"],
}


def square(depth=4):
    """Layers of one width, so that every edge fits every layer."""
    torch.manual_seed(0)
    return [nn.Sequential(nn.Linear(8, 8), nn.Tanh()).double() for _ in range(depth)]


def ragged(count=9, last=2, shape=(8,), classes=3):
    """Batches of four rows, and a short last one."""
    batches = samples(count, shape, classes)
    x, y = batches[-1]
    return [*batches[:-1], (x[:last], y[:last])]


def normed():
    torch.manual_seed(0)
    return [
        nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh()).double(),
        nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).double(),
        nn.Linear(8, 3).double(),
    ]


def noisy():
    torch.manual_seed(0)
    return [
        nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.3)).double(),
        nn.Sequential(nn.Linear(8, 8), nn.Tanh()).double(),
        nn.Linear(8, 3).double(),
    ]


# The ledger


def driven(*numbers):
    ledger = Ledger()
    for first, rows in numbers:
        ledger = ledger.drove(Token(first=first, rows=rows))
    return ledger


def test_the_ledger_counts_and_knows_a_gap_a_repetition_and_a_swap():
    assert driven((0, 4), (4, 4), (8, 1)).seen_once(9)
    assert not driven((0, 4), (4, 4)).seen_once(9), "the last is missing"
    assert not driven((0, 4), (8, 1)).seen_once(9), "a gap"
    assert not driven((0, 4), (0, 4), (4, 5)).seen_once(9), "a repetition"
    assert not driven((4, 4), (0, 4)).seen_once(8), "a swap"
    assert not driven((4, 5)).seen_once(9), "the first is missing"
    assert Ledger().seen_once(0)
    assert (driven((0, 4), (0, 4)).drives, driven((0, 4), (0, 4)).samples) == (2, 8)


# Every sample drives every layer once


@pytest.mark.parametrize("pairing", ["current", "stashed"])
@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("place", PLACES)
def test_every_sample_drives_every_layer_exactly_once(place, edges, pairing):
    batches = ragged(classes=8)
    runtime = runtime_of(square(), batches, edges=EDGES[edges], pairing=pairing, **PLACES[place])
    assert not runtime.nodes["0"].ledger.seen_once(34)
    predictions = run_through(runtime, batches)
    assert runtime.seen_once()
    for cell in runtime.nodes.values():
        assert (cell.ledger.drives, cell.ledger.samples, cell.carry.updates) == (9, 34, 9)
    assert [(p.first, p.rows, len(p.output)) for p in predictions] == [(4 * n, 4, 4) for n in range(8)] + [
        (32, 2, 2)
    ]


@pytest.mark.parametrize("place", [{}, {"mode": "nonlocal"}, {"delays": {"1->2": 3}}])
def test_reversible_layers_too(place):
    batches = ragged()
    runtime = runtime_of(reversible_net(4), batches, pairing="reversible", **place)
    run_through(runtime, batches)
    assert runtime.seen_once()
    assert [cell.carry.updates for cell in runtime.nodes.values()] == [9] * 4


@pytest.mark.parametrize("pairing", ["current", "stashed"])
@pytest.mark.parametrize("place", ["local", "nonlocal"])
def test_relaxing_layers_too(place, pairing):
    batches = ragged()
    runtime = runtime_of(relaxed(residual_net(4), 1.0), batches, pairing=pairing, **PLACES[place])
    run_through(runtime, batches)
    assert runtime.seen_once()
    assert [cell.carry.updates for cell in runtime.nodes.values()] == [9] * 4


@pytest.mark.parametrize("pairing", ["current", "stashed"])
@pytest.mark.parametrize("place", ["local", "nonlocal"])
def test_a_hold_with_the_gate_always_open_drives_every_tick_and_says_so(place, pairing):
    batches = ragged()
    runtime = runtime_of(residual_net(4), batches, pairing=pairing, hold=3, **PLACES[place])
    predictions = run_through(runtime, batches)
    assert not runtime.seen_once()
    assert [(c.ledger.drives, c.ledger.samples) for c in runtime.nodes.values()] == [(27, 3 * 34)] * 4
    assert [p.first for p in predictions] == list(range(0, 36, 4))


def test_joins_out_of_balance_lose_no_sample_of_a_stream_that_ends():
    """Under `current` a layer keeps its last valid input, so the last sample still comes through the longer way."""
    batches = samples(6, (8,))
    edges = ["0->1", "1->2", "0->2", "2->3"]
    runtime = runtime_of(residual_net(4), batches, edges=edges, pairing="current", balance=False)
    assert [p.first for p in run_through(runtime, batches)] == list(range(0, 24, 4))
    assert runtime.seen_once()


# Warm-up and drain


@pytest.mark.parametrize("pairing", ["current", "stashed"])
@pytest.mark.parametrize("relaxing", [False, True])
def test_nothing_of_a_layer_moves_before_its_first_sample_and_no_weight_before_its_first_costate(
    pairing, relaxing
):
    """Bitwise, per layer: buffers and ξ move first at A, θ, ω and the count at A + D, exactly then."""
    depth, batches = 4, samples(12, (8,))
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).double() for _ in range(depth - 1)]
    network = (
        relaxed([*layers, nn.Linear(8, 3).double()], 1.0) if relaxing else [*layers, nn.Linear(8, 3).double()]
    )
    mode = "nonlocal" if relaxing else "local"
    runtime = runtime_of(
        network, batches, pairing=pairing, mode=mode, timeline=AfterEveryTick(lambda tick: note(tick))
    )
    start = {name: everything(cell) for name, cell in runtime.nodes.items()}
    moved = {name: {} for name in start}

    def note(tick):
        for name, cell in runtime.nodes.items():
            for key in changed(start[name], everything(cell)):
                moved[name].setdefault(key.split(".")[0], tick)

    run_through(runtime, batches)
    note(runtime.tick - 1)
    for index, (name, first) in enumerate(moved.items()):
        returns = 2 * (depth - 1) - index
        assert {first["parameters"], first["weight_costate"], first["updates"]} == {returns}
        if index < depth - 1:
            assert first["buffers"] == index
            assert first.get("state", index) == index
        assert ("state" in first) == (relaxing and index < depth - 1), name


@pytest.mark.slow
@pytest.mark.parametrize("pairing", ["current", "stashed"])
@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("place", PLACES)
def test_the_drain_is_as_long_as_it_must_be_and_no_longer(place, edges, pairing):
    batches = samples(5, (8,), 8)
    runtime = runtime_of(square(), batches, edges=EDGES[edges], pairing=pairing, **PLACES[place])
    drain = runtime.program.drain
    assert (drain == 0) == (place == "nonlocal")
    if drain:
        short = runtime_of(square(), batches, edges=EDGES[edges], pairing=pairing, **PLACES[place])
        hasty = replace(short.program.outline, drain=drain - 1)
        short = InlineRuntime(replace(short.program, outline=hasty))
        run_through(short, batches)
        assert not short.seen_once()
    run_through(runtime, batches)
    assert runtime.seen_once()
    assert runtime.tick == 5 + drain


def test_after_a_drain_it_goes_on():
    batches = samples(8, (8,))
    runtime = runtime_of(residual_net(4), batches)
    run_through(runtime, batches[:4])
    run_through(runtime, batches[4:])
    assert runtime.seen_once()


# The short last batch


def plain_step(layers, batch):
    """The gradients of one batch, and the model after it."""
    plain = nn.Sequential(*layers)
    nn.functional.cross_entropy(plain(batch[0]), batch[1]).backward()
    return plain


@pytest.mark.parametrize("make", [residual_net, normed])
def test_a_short_batch_is_its_real_rows_only(make):
    """Loss, gradient (ω at β = 0) and batch statistics, against plain torch on the unpadded rows; tolerance 1e-14."""
    full, short = samples(1, (8,))[0], ragged(1, last=3)[0]
    runtime = runtime_of(make(), [full], mode="nonlocal", rule=learning(0.0))
    (prediction,) = runtime.present(*short)
    plain = plain_step(make(), short)
    ours = {f"{n}.{k}": w for n, c in runtime.nodes.items() for k, w in c.carry.weight_costate.items()}
    assert largest_difference(ours, {k: p.grad for k, p in plain.named_parameters()}) < 1e-14
    expected = nn.functional.cross_entropy(nn.Sequential(*make())(short[0]), short[1])
    assert (prediction.loss - expected).abs() < 1e-14
    buffers = {f"{n}.{k}": b for n, c in runtime.nodes.items() for k, b in c.carry.buffers.items()}
    if buffers:
        assert largest_difference(buffers, dict(plain.named_buffers())) < 1e-14


@pytest.mark.parametrize("make", [residual_net, normed])
def test_a_short_batch_through_delays(make):
    batches = ragged(12, last=3)
    runtime = runtime_of(make(), batches)
    run_through(runtime, batches)
    oracle = delayed_gradients(make(), batches, [0.1] * len(make()), 0.0)
    assert largest_difference(weights(runtime), oracle) < 1e-10


def test_a_short_batch_under_a_layer_that_looks_at_all_rows_without_being_a_batch_norm():
    class Centred(nn.Module):
        def forward(self, x):
            return torch.tanh(x - x.mean(0))

    def make():
        torch.manual_seed(0)
        return [nn.Sequential(nn.Linear(8, 8), Centred()).double(), nn.Linear(8, 3).double()]

    batches = ragged(6, last=3)
    runtime = runtime_of(make(), batches)
    run_through(runtime, batches)
    assert largest_difference(weights(runtime), delayed_gradients(make(), batches, [0.1] * 2, 0.0)) < 1e-10


def test_batches_longer_than_the_first_or_empty_are_refused_with_the_sample():
    from hamdist.errors import StreamError

    batches = samples(2, (8,))
    runtime = runtime_of(residual_net(2), batches)
    list(runtime.present(*batches[0]))
    with pytest.raises(StreamError, match="a batch of 8 rows came at sample 4, but the first had 4"):
        list(runtime.present(*(torch.cat([t, t]) for t in batches[1])))
    with pytest.raises(StreamError, match="a batch of 0 rows came at sample 4"):
        list(runtime.present(*(t[:0] for t in batches[1])))


def test_the_callers_memory_may_be_used_again():
    """A stream that fills one tensor over and over learns the same as one that makes new tensors."""
    batches = samples(8, (8,))
    runs = [runtime_of(residual_net(4), batches) for _ in range(2)]
    run_through(runs[0], batches)
    buffers = tuple(torch.empty_like(tensor) for tensor in batches[0])
    for batch in batches:
        for buffer, tensor in zip(buffers, batch, strict=True):
            buffer.copy_(tensor)
        list(runs[1].present(*buffers))
    list(runs[1].drain())
    assert same_bits(*runs)


# The closed gate


@pytest.mark.parametrize(
    "constants", [{"weight_dissipation": 0.3}, {"adaptive": Adam()}, {"adaptive": Adam(decoupled=True)}]
)
def test_where_the_gate_is_closed_nothing_of_learning_moves(constants):
    """θ, ω, moments, weight decay and the count of updates, bitwise, on every tick but the last of a hold."""
    batches = samples(4, (8,))
    rule = learning(0.05, weight_decay=0.1, **constants)
    place = {"pairing": "current", "gate": "settled", "hold": 6}
    heard = AfterEveryTick(lambda tick: note(tick))
    runtime = runtime_of(residual_net(3), batches, rule=rule, timeline=heard, **place)
    before = {name: everything(cell) for name, cell in runtime.nodes.items()}
    weight = {name: next(iter(cell.carry.parameters)) for name, cell in runtime.nodes.items()}
    opened = []

    def note(tick):
        nonlocal before
        now = {name: everything(cell) for name, cell in runtime.nodes.items()}
        moved = {name: changed(before[name], now[name]) for name in now}
        before = now
        if tick % 6 == 5:
            opened.append(tick)
            assert all({"updates", f"parameters.{weight[name]}"} <= moved[name] for name in moved)
        else:
            assert not any(moved.values())

    run_through(runtime, batches)
    note(runtime.tick - 1)
    assert opened == [5, 11, 17, 23]
    assert [cell.carry.updates for cell in runtime.nodes.values()] == [4] * 3


# Hold-out samples

UNDISTURBED = {
    "nonlocal": {"mode": "nonlocal"},
    "settled": {"pairing": "current", "gate": "settled", "hold": 5},
}


@pytest.mark.slow
@pytest.mark.parametrize("place", UNDISTURBED)
@pytest.mark.parametrize("make", [normed, noisy])
def test_a_run_with_hold_out_batches_in_the_middle_ends_with_the_same_bits(place, make):
    batches, aside = samples(8, (8,)), samples(3, (8,), seed=9)
    rule = learning(0.1, weight_dissipation=0.4, adaptive=Adam())
    runs = [runtime_of(make(), batches, rule=rule, **UNDISTURBED[place]) for _ in range(2)]
    for index, batch in enumerate(batches):
        for runtime in runs:
            list(runtime.present(*batch))
        if index in (0, 4):
            for held_out in aside:
                list(runs[1].present(*held_out, learn=False))
    assert same_bits(*runs)
    assert runs[0].samples == runs[1].samples
    assert runs[1].seen_once()
    assert runs[0].losses["loss"].prequential.total() == runs[1].losses["loss"].prequential.total()


@pytest.mark.parametrize("place", UNDISTURBED)
def test_an_evaluation_in_the_middle_leaves_the_same_bits(place):
    batches, aside = samples(8, (8,)), samples(3, (8,), seed=9)
    runs = [runtime_of(residual_net(3), batches, **UNDISTURBED[place]) for _ in range(2)]
    for index, batch in enumerate(batches):
        for runtime in runs:
            list(runtime.present(*batch))
        if index in (0, 4):
            list(runs[1].evaluate(aside))
    assert same_bits(*runs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edges", "pairing", "balance"),
    [
        *((edges, pairing, True) for edges in EDGES for pairing in ("current", "stashed")),
        ("skip", "current", False),
    ],
)
def test_what_hold_out_samples_hold_never_reaches_the_weights(edges, pairing, balance):
    """Through delays they take ticks, as a pause does; what is in them must not matter, to the last bit."""
    batches, aside = samples(8, (8,), 8), samples(2, (8,), 8, seed=9)
    runs = [
        runtime_of(square(), batches, edges=EDGES[edges], pairing=pairing, balance=balance) for _ in range(2)
    ]
    for scale, runtime in enumerate(runs):
        for batch in batches[:5]:
            list(runtime.present(*batch))
        for x, y in aside:
            list(runtime.present(x * (1 + 9 * scale), y, learn=False))
        run_through(runtime, batches[5:])
    assert same_bits(*runs)


def test_through_delays_hold_out_samples_are_a_pause():
    batches, aside = samples(8, (8,)), samples(2, (8,), seed=9)
    runs = [runtime_of(normed(), batches) for _ in range(2)]
    for runtime in runs:
        for batch in batches[:5]:
            list(runtime.present(*batch))
    for held_out in aside:
        list(runs[0].present(*held_out, learn=False))
        list(silence(runs[1], 1))
    for runtime in runs:
        run_through(runtime, batches[5:])
        assert runtime.seen_once()
    assert same_bits(*runs)


@pytest.mark.parametrize("place", [{"mode": "nonlocal"}, {}])
def test_hold_out_samples_are_predicted_in_evaluation_mode(place):
    batches, aside = samples(8, (8,)), samples(3, (8,), seed=9)
    runtime = runtime_of(noisy(), batches, **place)
    run_through(runtime, batches)
    plain = nn.Sequential(*noisy()).eval()
    carried = {
        f"{n}.{k}": t
        for n, c in runtime.nodes.items()
        for k, t in (c.carry.parameters | c.carry.buffers).items()
    }
    plain.load_state_dict(carried)
    predictions = [p for batch in aside for p in runtime.present(*batch, learn=False)] + list(runtime.drain())
    assert len(predictions) == 3
    for prediction, (x, y) in zip(predictions, aside, strict=True):
        assert (prediction.output - plain(x)).abs().max() < 1e-13
        assert (prediction.loss - nn.functional.cross_entropy(plain(x), y)).abs() < 1e-13
    right = torch.cat([(plain(x).argmax(1) == y).double() for x, y in aside]).mean()
    assert runtime.losses["loss"].holdout.total()["accuracy"] == pytest.approx(right.item(), abs=1e-15)
    assert runtime.losses["loss"].holdout.rows == 12


def test_modules_in_evaluation_mode_by_choice_stay_so_after_hold_out_samples():
    """A batch norm that its author froze: hold-out samples must not thaw it."""

    def make():
        torch.manual_seed(0)
        return [nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8).eval()).double(), nn.Linear(8, 3).double()]

    batches = samples(6, (8,))
    runs = [runtime_of(make(), batches, mode="nonlocal") for _ in range(2)]
    for index, batch in enumerate(batches):
        for runtime in runs:
            list(runtime.present(*batch))
        if index == 2:
            list(runs[1].present(*batch, learn=False))
    assert same_bits(*runs)


def test_the_last_hold_out_batch_of_a_settled_run_is_scored():
    batches, aside = samples(3, (8,)), samples(2, (8,), seed=9)
    runtime = runtime_of(residual_net(3), batches, pairing="current", gate="settled", hold=5)
    for batch in batches:
        list(runtime.present(*batch))
    predictions = list(runtime.evaluate(aside))
    assert len(predictions) == 2
    assert runtime.losses["loss"].holdout.rows == 8


# Prequential scores


def prequential(make, batches, optimiser):
    """(mean loss, accuracy) over rows, each batch predicted before the step that learns it."""
    plain = nn.Sequential(*make())
    optimise = optimiser(plain.parameters())
    losses, right, rows = 0.0, 0, 0
    for x, y in batches:
        output = plain(x)
        loss = nn.functional.cross_entropy(output, y)
        losses += loss.item() * len(x)
        right += (output.argmax(1) == y).sum().item()
        rows += len(x)
        optimise.zero_grad()
        loss.backward()
        optimise.step()
    return {"loss": losses / rows, "accuracy": right / rows}


@pytest.mark.parametrize("place", UNDISTURBED)
def test_prequential_scores_are_those_of_a_plain_loop(place):
    batches = ragged(20, last=1)
    runtime = runtime_of(residual_net(3), batches, rule=learning(0.2), **UNDISTURBED[place])
    run_through(runtime, batches)
    expected = prequential(lambda: residual_net(3), batches, lambda p: torch.optim.SGD(p, lr=0.2))
    assert runtime.losses["loss"].prequential.total() == pytest.approx(expected, abs=1e-12)


def test_prequential_scores_through_delays_are_the_means_over_the_predictions():
    batches = ragged(20, last=1)
    runtime = runtime_of(residual_net(4), batches)
    predictions = run_through(runtime, batches)
    right = sum(
        (p.output.argmax(1) == y).sum().item() for p, (_, y) in zip(predictions, batches, strict=True)
    )
    losses = sum(
        nn.functional.cross_entropy(p.output, y, reduction="sum").item()
        for p, (_, y) in zip(predictions, batches, strict=True)
    )
    expected = {"loss": losses / 77, "accuracy": right / 77}
    assert runtime.losses["loss"].prequential.total() == pytest.approx(expected, abs=1e-12)


def test_several_losses_are_scored_each_on_its_own_and_weighed_together():
    """Two heads on one trunk: gradients (ω at β = 0) are those of the weighed sum."""
    builders = {
        "trunk": lambda: nn.Linear(8, 8).double(),
        "deep": lambda: nn.Linear(8, 3).double(),
        "far": lambda: nn.Linear(3, 3).double(),
        "near": lambda: nn.Linear(8, 3).double(),
    }
    network = network_of(
        builders, ["trunk->deep", "deep->far", "trunk->near"], losses={"loss": "far", "loss-near": "near"}
    )
    weighed = {
        node: replace(spec, weight=w)
        for (node, spec), w in zip(network.losses.items(), (1.0, 0.25), strict=True)
    }
    batches = samples(1, (8,))
    runtime = runtime_of(replace(network, losses=weighed), batches, rule=learning(0.0))
    modules = {name: cell.spec.layer.pure.module for name, cell in runtime.nodes.items()}
    run_through(runtime, batches)
    ((x, y),) = batches
    h = modules["trunk"](x)
    far = nn.functional.cross_entropy(modules["far"](modules["deep"](h)), y)
    near = nn.functional.cross_entropy(modules["near"](h), y)
    (far + 0.25 * near).backward()
    for name, cell in runtime.nodes.items():
        for key, parameter in modules[name].named_parameters():
            assert (cell.carry.weight_costate[key] - parameter.grad).abs().max() < 1e-14
    assert runtime.losses["loss"].prequential.total()["loss"] == pytest.approx(far.item())
    assert runtime.losses["loss-near"].prequential.total()["loss"] == pytest.approx(near.item())
    assert runtime.seen_once()


def test_the_mlp_of_one_layer():
    """N = 1: no edge, no delay, no drain."""
    batches = samples(5, (8,))
    runtime = runtime_of(mlp(1), batches)
    assert [p.first for p in run_through(runtime, batches)] == [0, 4, 8, 12, 16]
    assert runtime.seen_once()
    assert runtime.tick == 5
