"""Rows without a target: they drive nothing and are in no score, against a plain loop that judges the others alone."""

from dataclasses import replace

import pytest
import torch
from support.actors import Ensemble
from support.inline import learning, run_through, runtime_of, weights
from support.networks import residual_net
from support.samples import samples
from support.timelines import Together
from torch import nn
from torch.nn import functional as F

from hamdist.engine.spec import PLAIN, Execution
from hamdist.network.locality import Horizon, Locality
from hamdist.network.network import Network
from hamdist.physics.losses import CrossEntropy
from hamdist.physics.modules import Residual

pytestmark = pytest.mark.usefixtures("one_fitter")

TOLERANCE = 1e-12  # float64, some hundred additions
NONE = -100


def thinned(batches, seed=3):
    """About half of the targets are missing; of every fourth batch all, of every fifth none."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number, (x, y) in enumerate(batches):
        missing = torch.rand(len(y), generator=generator) < 0.5
        missing = missing | (number % 4 == 2) if number % 5 else torch.zeros_like(missing)
        gone = torch.full_like(y, torch.nan if y.is_floating_point() else NONE)
        found.append((x, torch.where(missing.reshape(-1, *[1] * (y.dim() - 1)), gone, y)))
    return found


def known(y):
    """The rows that have a target."""
    gone = torch.isnan(y) if y.is_floating_point() else y == NONE
    return ~gone.reshape(len(y), -1).all(1)


def plain_loop(layers, batches, loss, lr=0.1):
    """The weights, and the mean loss over the rows that have a target, after a loop that skips batches without any."""
    model = nn.Sequential(*layers)
    optimiser = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    total = rows = 0
    for x, y in batches:
        output, kept = model(x), known(y)
        if not kept.any():
            continue
        value = loss(output[kept], y[kept])
        total, rows = total + value.item() * int(kept.sum()), rows + int(kept.sum())
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    return dict(model.named_parameters()), total / rows


def regression(count, width=3):
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.randn(4, 8, generator=generator).double(), torch.randn(4, width, generator=generator).double())
        for _ in range(count)
    ]


def own(output, target):
    """A loss of the user's own: its mean is over what it is given."""
    return (output - F.one_hot(target, 3)).square().sum(1).mean()


@pytest.mark.parametrize(
    ("batches", "loss"),
    [
        (samples(20, (8,)), F.cross_entropy),
        (samples(20, (8,)), nn.CrossEntropyLoss(label_smoothing=0.1)),
        (samples(20, (8,)), own),
        (regression(20), F.mse_loss),
    ],
    ids=["classes", "a module", "own", "numbers"],
)
def test_as_a_plain_loop_over_the_rows_that_have_a_target(batches, loss):
    batches = thinned(batches)
    rule = learning(0.1, weight_dissipation=0.1)  # momentum 0.9
    runtime = runtime_of(residual_net(3), batches, loss=loss, mode="nonlocal", rule=rule)
    predictions = run_through(runtime, batches)
    expected, mean = plain_loop(residual_net(3), batches, loss)
    found = weights(runtime)
    for name, value in expected.items():
        assert (found[name] - value).abs().max() < TOLERANCE
    total, missing = runtime.loss.prequential.total(), [int((~known(y)).sum()) for _, y in batches]
    assert total["loss"] == pytest.approx(mean, abs=TOLERANCE)
    assert total["unlabelled"] == sum(missing)
    assert [p.unlabelled for p in predictions] == missing
    assert [bool(p.loss.isnan()) for p in predictions] == [count == 4 for count in missing]
    assert runtime.seen_once()


def test_one_target_among_many_rows_weighs_as_it_would_alone():
    (x, y), other = samples(2, (8,), batch=64)
    y = torch.where(torch.arange(64) == 7, y, NONE)
    many = runtime_of(residual_net(2), [(x, y), other], mode="nonlocal")
    (prediction,) = many.present(x, y)
    alone = runtime_of(residual_net(2), [(x[7:8], y[7:8])], mode="nonlocal")
    (expected,) = alone.present(x[7:8], y[7:8])
    assert prediction.loss.item() == pytest.approx(expected.loss.item(), abs=TOLERANCE)
    for name, value in weights(alone).items():
        assert (weights(many)[name] - value).abs().max() < TOLERANCE


def test_the_accuracy_is_that_of_the_rows_with_a_target():
    batches = thinned(samples(12, (8,)))
    runtime = runtime_of(residual_net(2), batches, rule=learning(0.0), mode="nonlocal")
    predictions = run_through(runtime, batches)
    right = [
        p.output.argmax(1)[known(y)] == y[known(y)] for p, (_, y) in zip(predictions, batches, strict=True)
    ]
    assert runtime.loss.prequential.total()["accuracy"] == pytest.approx(
        torch.cat(right).double().mean().item()
    )


def test_nothing_moves_where_no_row_has_a_target():
    batches = samples(3, (8,))
    runtime = runtime_of(
        residual_net(3), batches, rule=learning(0.1, weight_dissipation=0.1), mode="nonlocal"
    )
    list(runtime.present(*batches[0]))
    before = weights(runtime)
    list(runtime.present(batches[1][0], torch.full((4,), NONE)))
    assert all(torch.equal(before[name], value) for name, value in weights(runtime).items())
    assert {node.ledger.drives for node in runtime.nodes.values()} == {1}
    list(runtime.present(*batches[2]))
    assert any(not torch.equal(before[name], value) for name, value in weights(runtime).items())


PLACES = {
    "nonlocal": {"mode": "nonlocal"},
    "local": {},
    "current": {"pairing": "current"},
    "settled": {"pairing": "current", "gate": "settled", "hold": 8},
}


@pytest.mark.parametrize("place", ["local", "current", "settled"])
def test_with_delays_a_sample_without_a_target_is_one_that_never_drives(place):
    batches = thinned(regression(12))
    runtime = runtime_of(residual_net(3), batches, loss=F.mse_loss, rule=learning(0.05), **PLACES[place])
    run_through(runtime, batches)
    driven = sum(bool(known(y).any()) for _, y in batches)
    assert {node.ledger.drives for node in runtime.nodes.values()} == {driven}
    assert runtime.seen_once()
    assert runtime.loss.prequential.total()["unlabelled"] == sum(int((~known(y)).sum()) for _, y in batches)


def test_with_delays_the_gradients_are_those_of_the_rows_with_a_target():
    """At β = 0 ω without momentum is the last drive: that of the last batch that has a target."""
    batches = thinned(samples(12, (8,)))
    runtime = runtime_of(residual_net(3), batches, rule=learning(0.0))
    run_through(runtime, batches)
    model = nn.Sequential(*residual_net(3))
    x, y = next((x, y) for x, y in reversed(batches) if known(y).any())
    F.cross_entropy(model(x)[known(y)], y[known(y)]).backward()
    drives = {
        f"{name}.{key}": value
        for name, node in runtime.nodes.items()
        for key, value in node.carry.weight_costate.items()
    }
    for name, parameter in model.named_parameters():
        assert (drives[name] - parameter.grad).abs().max() < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("place", ["nonlocal", "local"])
@pytest.mark.parametrize("chunk", [1, 4])
def test_stacked_ticks_give_way_to_ticks_node_by_node_and_come_back(place, chunk):
    batches = samples(80, (8,))
    for number in (30, 31, 50):
        batches[number] = thinned(batches)[number]
    runs, heard = [], Together()
    for execution in (PLAIN, Execution(stacked=True, chunk=chunk)):
        runtime = runtime_of(residual_net(4), batches, execution=execution, timeline=heard, **PLACES[place])
        runtime.present_all(batches)
        list(runtime.drain())
        runs.append(runtime)
    assert heard.lengths(runs[1].tick)
    plain, stacked = runs
    for name, value in weights(plain).items():
        assert (weights(stacked)[name] - value).abs().max() < TOLERANCE
    assert stacked.loss.prequential.total() == pytest.approx(plain.loss.prequential.total(), abs=TOLERANCE)
    assert "unlabelled" in plain.loss.prequential.total()
    assert stacked.execution["ticks_with_missing_targets"] == sum(not known(y).all() for _, y in batches)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["nonlocal", "local"])
@pytest.mark.parametrize("execution", [PLAIN, Execution(stacked=True)], ids=["plain", "stacked"])
def test_over_actors_bit_for_bit_as_in_one_process(place, execution):
    batches = thinned(samples(24, (8,)))
    layers = residual_net(4)
    one = runtime_of(layers, batches, rule=learning(0.05), execution=execution, **PLACES[place])
    run_through(one, batches)
    network, locality = Network.of(layers, F.cross_entropy), replace(Locality(), **PLACES[place])
    parts = [["0", "1"], ["2", "3"]]
    with Ensemble(network, locality, learning(0.05), batches, parts, execution=execution) as several:
        outcomes, streamed = several.run()
        assert all(o.error is None for o in (*outcomes, streamed))
        for name, node in several.nodes.items():
            for key, value in node.carry.parameters.items():
                assert torch.equal(value, one.nodes[name].carry.parameters[key])
            assert node.ledger == one.nodes[name].ledger
        told = next(o.prequential["loss"] for o in outcomes if o.prequential)
        assert told == one.loss.prequential.total()


# Positions of a sequence


def sequences(count, classes=5, seed=2):
    """[B, T, 8] with a class a position; some positions have none, and some rows no position."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        x = torch.randn(4, 6, 8, generator=generator).double()
        y = torch.randint(0, classes, (4, 6), generator=generator)
        y[torch.rand(4, 6, generator=generator) < 0.3] = NONE
        y[number % 4] = NONE
        found.append((x, y))
    return found


def heads(classes=5):
    torch.manual_seed(0)
    return [
        Residual(nn.Sequential(nn.Linear(8, 8), nn.Tanh())).double(),
        nn.Linear(8, classes).double(),
    ]


@pytest.mark.parametrize("classes", [5, 6], ids=["", "as many classes as positions"])
def test_classes_along_the_last_dimension(classes):
    batches = sequences(15, classes)
    rule = learning(0.1, weight_dissipation=0.1)
    runtime = runtime_of(heads(classes), batches, loss=CrossEntropy(class_dim=-1), mode="nonlocal", rule=rule)
    predictions = run_through(runtime, batches)

    def flat(output, target):
        return F.cross_entropy(output.reshape(-1, classes), target.reshape(-1))

    expected, _ = plain_loop(heads(classes), batches, flat)
    for name, value in expected.items():
        assert (weights(runtime)[name] - value).abs().max() < TOLERANCE
    scores = [
        ((p.output.argmax(-1) == y) & (y != NONE)).double().sum(1)[known(y)] / (y != NONE).sum(1)[known(y)]
        for p, (_, y) in zip(predictions, batches, strict=True)
    ]
    assert runtime.loss.prequential.total()["accuracy"] == pytest.approx(torch.cat(scores).mean().item())
    assert runtime.loss.prequential.total()["unlabelled"] == 15


@pytest.mark.slow
def test_positions_without_a_class_do_not_keep_ticks_from_running_as_one():
    """Every row has some that have one."""
    batches = [(x, torch.where(known(y)[:, None], y, 1)) for x, y in sequences(30)]
    runs, heard = [], Together()
    for execution in (PLAIN, Execution(stacked=True)):
        loss = CrossEntropy(class_dim=-1)
        runtime = runtime_of(heads(), batches, loss, execution=execution, timeline=heard, mode="nonlocal")
        run_through(runtime, batches)
        runs.append(runtime)
    plain, stacked = runs
    assert heard.lengths(stacked.tick)
    for name, value in weights(plain).items():
        assert (weights(stacked)[name] - value).abs().max() < TOLERANCE
    assert stacked.loss.prequential.total() == pytest.approx(plain.loss.prequential.total(), abs=TOLERANCE)


def test_a_loss_that_ignores_another_class():
    batches = [(x, torch.where(y == NONE, 0, y + 1)) for x, y in thinned(samples(15, (8,), classes=2))]
    loss = nn.CrossEntropyLoss(ignore_index=0)
    runtime = runtime_of(residual_net(2), batches, loss=loss, mode="nonlocal")
    run_through(runtime, batches)
    missing = sum(int((y == 0).sum()) for _, y in batches)
    assert runtime.loss.prequential.total()["unlabelled"] == missing
    model = nn.Sequential(*residual_net(2))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in batches:
        if (y != 0).any():
            optimiser.zero_grad()
            loss(model(x), y).backward()
            optimiser.step()
    for name, value in model.named_parameters():
        assert (weights(runtime)[name] - value).abs().max() < TOLERANCE


# Windows of time


def recurrent():
    torch.manual_seed(0)
    return [nn.RNNCell(8, 8).double(), nn.Linear(8, 3).double()]


def drives(runtime):
    """ω of every weight, which without momentum is the last drive."""
    return {
        f"{name}.{key}": value.clone()
        for name, node in runtime.nodes.items()
        for key, value in node.carry.weight_costate.items()
    }


def test_a_label_at_the_end_of_a_block_reaches_back_over_the_ticks_without_one():
    """One label in four ticks, in every third block none: as backpropagation through the block, at β = 0."""
    batches = [
        (x, y if tick % 4 == 3 and tick // 4 % 3 != 2 else torch.full_like(y, NONE))
        for tick, (x, y) in enumerate(samples(24, (8,)))
    ]
    rule = learning(0.0)
    runtime = runtime_of(recurrent(), batches, mode="nonlocal", horizon=Horizon(4, False), rule=rule)
    model = nn.Sequential(*recurrent())
    weights_of_model = dict(model.named_parameters())
    h, expected = torch.zeros(4, 8).double(), None
    for tick, (x, y) in enumerate(batches):
        list(runtime.present(x, y))
        h = model[0](x, h.detach() if tick % 4 == 0 else h)
        if known(y).any():
            loss = F.cross_entropy(model[1](h), y)
            gradients = torch.autograd.grad(loss, list(weights_of_model.values()))
            expected = dict(zip(weights_of_model, gradients, strict=True))
        if expected is not None:
            for name, gradient in expected.items():
                assert (drives(runtime)[name] - gradient).abs().max() < TOLERANCE
    list(runtime.drain())
    assert runtime.seen_once()
    assert {node.ledger.drives for node in runtime.nodes.values()} == {4}


def test_in_slid_windows_only_ticks_with_a_target_drive():
    batches = thinned(samples(12, (8,)))
    rule = learning(0.0)
    runtime = runtime_of(recurrent(), batches, mode="nonlocal", horizon=Horizon(4, True), rule=rule)
    before, driven = drives(runtime), []
    for x, y in batches:
        list(runtime.present(x, y))
        after = drives(runtime)
        driven.append(any(not torch.equal(before[name], after[name]) for name in after))
        before = after
    assert driven == [bool(known(y).any()) for _, y in batches]
    list(runtime.drain())
    assert runtime.seen_once()


def test_a_memory_goes_on_over_ticks_without_a_target():
    """Its state is that of a plain loop, which reads every input; the weights stay meanwhile."""
    batches = [(x, torch.full_like(y, NONE) if tick else y) for tick, (x, y) in enumerate(samples(8, (8,)))]
    runtime = runtime_of(recurrent(), batches, mode="nonlocal", rule=learning(0.0))
    predictions = run_through(runtime, batches)
    cell, head = recurrent()
    h = torch.zeros(4, 8).double()
    for prediction, (x, _) in zip(predictions, batches, strict=True):
        h = cell(x, h)
        assert (prediction.output - head(h)).abs().max() < TOLERANCE
