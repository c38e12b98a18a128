"""Learner: what it gives back, sample by sample, against plain loops of torch.

Tolerance 1e-10 in float64 where weights were trained over some tens of batches: the same sums in another order.
"""

import copy
import re

import numpy as np
import pytest
import torch
from support.actors import Ensemble
from support.comparing import largest_difference
from support.networks import mlp, residual_net
from support.samples import samples
from torch import nn

from hamdist import Coupling, LayerSpec, Learner, Network, Residual
from hamdist.errors import (
    ConfigError,
    DivergenceError,
    EvaluationModeWarning,
    NetworkError,
    RunError,
    StreamError,
)
from hamdist.network.graph import LOSS
from hamdist.network.learning import Learning
from hamdist.network.locality import Locality
from hamdist.network.losses import LossSpec

TOLERANCE = 1e-10
DOUBLE = {"dtype": torch.float64}


def tanh_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def sgd(model: nn.Module, batches, **settings) -> list[torch.Tensor]:
    """The plain loop; returns what was predicted before each update."""
    optimizer = torch.optim.SGD(model.parameters(), **settings)
    predictions = []
    for x, y in batches:
        output = model(x)
        optimizer.zero_grad()
        nn.functional.cross_entropy(output, y).backward()
        optimizer.step()
        predictions.append(output.detach())
    return predictions


# learning


def test_nonlocal_is_sgd_prediction_by_prediction():
    batches, model, plain = samples(30, (6,)), tanh_net(), tanh_net()
    learner = Learner(model, beta=0.3, locality="nonlocal", dissipation={"weight": 0.1}, **DOUBLE)
    ours = [learner.step(x, y) for x, y in batches]
    theirs = sgd(plain, batches, lr=0.3, momentum=0.9)
    assert all((a.output - b).abs().max() < TOLERANCE for a, b in zip(ours, theirs, strict=True))
    assert [(p.first, p.rows) for p in ours] == [(4 * i, 4) for i in range(30)]
    assert largest_difference(learner.state_dict(), plain.state_dict()) < TOLERANCE
    assert learner.drain() == []


def test_the_defaults_are_local_and_stashed():
    """None while the pipeline fills, then the predictions of the samples of two steps ago; the drain has the rest."""
    batches, layers = samples(10, (8,)), mlp(3)
    learner = Learner(layers, beta=0.0, **DOUBLE)
    given = [learner.step(x, y) for x, y in batches]
    assert given[:2] == [None, None]
    assert all(given[2:])
    rest = learner.drain()
    predictions = given[2:] + rest
    assert [p.first for p in predictions] == [4 * i for i in range(10)]
    assert len(rest) == 2
    model = nn.Sequential(*layers)
    for prediction, (x, y) in zip(predictions, batches, strict=True):
        assert (prediction.output - model(x)).abs().max() < TOLERANCE
        assert (prediction.loss - nn.functional.cross_entropy(model(x), y)).abs() < TOLERANCE


def test_settled_held_batches_learn_as_the_plain_loop():
    batches, plain = samples(20, (8,)), nn.Sequential(*residual_net(4))
    learner = Learner(
        residual_net(4), beta=0.2, pairing="current", gate="settled", hold=7, rate="constant", **DOUBLE
    )
    ours = [learner.step(x, y) for x, y in batches]
    theirs = sgd(plain, batches, lr=0.2)
    assert all((a.output - b).abs().max() < TOLERANCE for a, b in zip(ours, theirs, strict=True))
    assert learner.samples_seen_once


def test_groups_are_in_between():
    """Two groups: only the first predicts one step late, and both hear of each sample once."""
    learner = Learner(mlp(4), locality="groups", groups=[[0, 1], [2, 3]], **DOUBLE)
    given = [learner.step(x, y) for x, y in samples(5, (8,))]
    assert [p and p.first for p in given] == [None, 0, 4, 8, 12]
    assert [p.first for p in learner.drain()] == [16]
    assert learner.samples_seen_once


def test_beta_may_be_a_function_of_the_updates():
    batches, model, plain = samples(12, (6,)), tanh_net(), tanh_net()
    learner = Learner(model, locality="nonlocal", beta=lambda n: 0.5 / (1 + n), **DOUBLE)
    for n, (x, y) in enumerate(batches):
        learner.step(x, y)
        sgd(plain, [(x, y)], lr=0.5 / (1 + n))
    assert largest_difference(learner.state_dict(), plain.state_dict()) < TOLERANCE


def test_beta_may_be_a_schedule_as_in_a_config():
    batches, model, plain = samples(12, (6,)), tanh_net(), tanh_net()
    schedule = {"schedule": "linear", "start": 0.4, "end": 0.0, "over": 10}
    learner = Learner(model, locality="nonlocal", beta=schedule, **DOUBLE)
    for n, (x, y) in enumerate(batches):
        learner.step(x, y)
        sgd(plain, [(x, y)], lr=0.4 * max(0.0, 1 - n / 10))
    assert largest_difference(learner.state_dict(), plain.state_dict()) < TOLERANCE


def test_any_function_may_be_the_loss():
    def squared(output, target):
        return ((output - target) ** 2).mean()

    x, y = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    learner = Learner(tanh_net(), squared, locality="nonlocal", **DOUBLE)
    assert (learner.step(x, y).loss - squared(tanh_net()(x), y)).abs() < TOLERANCE
    assert set(learner.metrics) == {"loss", "mae"}


# what can be read from it


def test_the_state_dict_is_that_of_the_sequential():
    model = nn.Sequential()
    model.add_module("embed", nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8)))
    model.add_module("head", nn.Linear(8, 3))
    learner = Learner(model.double(), **DOUBLE)
    for x, y in samples(6, (6,)):
        learner.step(x, y)
    learner.drain()
    learnt = learner.state_dict()
    assert list(learnt) == list(model.state_dict())
    fresh = copy.deepcopy(model)
    assert not fresh.load_state_dict(learnt, strict=True).missing_keys
    assert learnt["embed.1.num_batches_tracked"] == 6
    x = torch.randn(5, 6, dtype=torch.float64)
    assert (fresh.eval()(x) - learner.predict(x)).abs().max() < TOLERANCE


def test_a_state_dict_stays_as_it_was_when_learning_goes_on():
    batches = samples(4, (6,))
    learner = Learner(tanh_net(), locality="nonlocal", **DOUBLE)
    learner.step(*batches[0])
    kept = learner.state_dict()
    before = {key: value.clone() for key, value in kept.items()}
    learner.step(*batches[1])
    assert largest_difference(kept, before) == 0
    assert largest_difference(learner.state_dict(), before) > 0


def test_weight_costates_are_the_gradients_where_nothing_is_carried_on():
    """With τη_θ = 1 and no delay, ω = ∂loss/∂θ; with less dissipation it is torch's momentum buffer."""
    batches = samples(3, (6,))
    plain = tanh_net()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.5)
    learner = Learner(tanh_net(), locality="nonlocal", beta=0.1, dissipation={"weight": 0.5}, **DOUBLE)
    for x, y in batches:
        learner.step(x, y)
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(x), y).backward()
        optimizer.step()
    layer = learner.layers[2]
    assert layer.name == "2"
    buffers = optimizer.state[plain[2].weight]
    assert (layer.weight_costate["weight"] - buffers["momentum_buffer"]).abs().max() < TOLERANCE
    assert (layer.weights["weight"] - plain[2].weight).abs().max() < TOLERANCE
    assert layer.state == layer.state_costate == ()


def test_a_relaxing_layer_shows_its_state():
    specs = [
        LayerSpec("leak", lambda: nn.Linear(6, 8), relaxing=2.0),
        LayerSpec("head", lambda: nn.Linear(8, 3)),
    ]
    learner = Learner(specs, warmup="zeros", **DOUBLE)
    ((x, y),) = samples(1, (6,))
    learner.step(x, y)
    leak, head = learner.layers
    weights = leak.weights
    (state,) = leak.state
    assert (state - nn.functional.linear(x, **weights) / 2).abs().max() < TOLERANCE  # ξ' = 0 + τ φ(a)/T
    assert (leak.name, head.state) == ("leak", ())


def test_predict_moves_nothing():
    batches = samples(5, (8,))
    one, other = (Learner(residual_net(4), **DOUBLE) for _ in range(2))
    for x, y in batches:
        one.step(x, y)
        other.step(x, y)
        one.predict(torch.randn(7, 8))
    assert largest_difference(one.state_dict(), other.state_dict()) == 0


def test_metrics_are_means_over_what_was_predicted_before_it_was_learnt_from():
    batches, plain = samples(25, (6,)), tanh_net()
    learner = Learner(tanh_net(), locality="nonlocal", beta=0.2, **DOUBLE)
    assert learner.metrics == {}
    outputs = sgd(plain, batches, lr=0.2)
    for x, y in batches:
        learner.step(x, y)
    losses = [nn.functional.cross_entropy(o, y).item() for o, (_, y) in zip(outputs, batches, strict=True)]
    right = [(o.argmax(1) == y).double().mean().item() for o, (_, y) in zip(outputs, batches, strict=True)]
    assert learner.metrics == {
        "loss": pytest.approx(np.mean(losses), abs=TOLERANCE),
        "accuracy": pytest.approx(np.mean(right), abs=TOLERANCE),
    }
    assert learner.samples == 100


def test_evaluate_learns_nothing_and_stands_apart():
    batches, held_out = samples(8, (8,)), samples(3, (8,), seed=5)
    learner = Learner(residual_net(3), **DOUBLE)
    for x, y in batches:
        learner.step(x, y)
    learner.drain()
    before, metrics = learner.state_dict(), learner.metrics
    found = learner.evaluate(held_out)
    outputs = [(learner.predict(x), y) for x, y in held_out]
    expected = np.mean([nn.functional.cross_entropy(o, y).item() for o, y in outputs])
    assert found["loss"] == pytest.approx(expected, abs=TOLERANCE)
    assert found == learner.evaluate(held_out)
    assert largest_difference(learner.state_dict(), before) == 0
    assert learner.metrics == metrics
    assert learner.samples_seen_once


def test_seen_once_is_true_only_after_the_drain():
    learner = Learner(mlp(3), **DOUBLE)
    assert not learner.samples_seen_once
    for x, y in samples(4, (8,)):
        learner.step(x, y)
    assert not learner.samples_seen_once
    learner.drain()
    assert learner.samples_seen_once


# what it takes


def test_numpy_arrays_and_lists_are_as_good_as_tensors():
    batches = samples(6, (8,))
    tensors, arrays, lists = (Learner(mlp(2), **DOUBLE) for _ in range(3))
    for x, y in batches:
        tensors.step(x, y)
        arrays.step(x.numpy(), y.numpy())
        lists.step(x.tolist(), y.tolist())
    assert largest_difference(tensors.state_dict(), arrays.state_dict()) == 0
    assert largest_difference(tensors.state_dict(), lists.state_dict()) == 0


def test_inputs_take_the_networks_dtype():
    learner = Learner([nn.Linear(2, 2)])
    learner.step(np.ones((3, 2)), np.zeros(3, dtype=np.int64))
    assert learner.predict(torch.ones(1, 2, dtype=torch.float64)).dtype == torch.float32


def test_a_batch_may_be_shorter_and_then_counts_its_own_rows():
    learner = Learner(mlp(2), locality="nonlocal", **DOUBLE)
    ((x, y),) = samples(1, (8,))
    learner.step(x, y)
    short = learner.step(x[:1], y[:1])
    assert (short.first, short.rows, short.output.shape) == (4, 1, (1, 3))
    assert learner.samples == 5


def test_skip_edges():
    """Adding what a skip edge brings is a residual connection."""
    torch.manual_seed(0)
    first, second, head = (nn.Linear(8, 8).double() for _ in range(3))
    batches = samples(10, (8,), classes=8)
    edges = ["0->1", (1, 2), {"from": 0, "to": 2}]
    graph = Learner([first, second, head], edges=edges, locality="nonlocal", beta=0.1, **DOUBLE)
    plain = nn.Sequential(*copy.deepcopy([first, Residual(second), head]))
    for x, y in batches:
        graph.step(x, y)
    sgd(plain, batches, lr=0.1)
    renamed = {key.replace("1.body.", "1."): value for key, value in plain.state_dict().items()}
    assert largest_difference(graph.state_dict(), renamed) < TOLERANCE


def test_a_network_brings_its_own_losses():
    layers = (LayerSpec("a", lambda: nn.Linear(6, 3)), LayerSpec("b", lambda: nn.Linear(3, 3)))
    losses = {
        LOSS: LossSpec(nn.functional.cross_entropy, "b", "cross_entropy"),
        "early": LossSpec(nn.functional.cross_entropy, "a", "cross_entropy", 0.5),
    }
    learner = Learner(Network(layers, losses), locality="nonlocal", beta=0.0, **DOUBLE)
    ((x, y),) = samples(1, (6,))
    prediction = learner.step(x, y)
    assert (prediction.output - learner.predict(x)).abs().max() < TOLERANCE
    assert learner.metrics["accuracy"] >= 0


def test_reversible_layers():
    torch.manual_seed(0)
    layers = [
        Coupling(nn.Linear(4, 4), nn.Linear(4, 4)),
        Coupling(nn.Linear(4, 4), nn.Linear(4, 4)),
        nn.Linear(8, 3),
    ]
    learner = Learner(layers, pairing="reversible", **DOUBLE)
    for x, y in samples(8, (8,)):
        learner.step(x, y)
    learner.drain()
    assert learner.samples_seen_once


def test_builders_depend_on_the_seed_and_on_nothing_else():
    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.rand(torch.randint(1, 9, ()).item())
        builders = {"a": lambda: nn.Linear(8, 5), "b": lambda: nn.Linear(5, 3)}
        learner = Learner(builders, beta=0.0, seed=seed, **DOUBLE)
        learner.step(*samples(1, (8,))[0])
        return learner.state_dict()

    assert largest_difference(weights(1), weights(1)) == 0
    assert largest_difference(weights(1), weights(2)) > 0.1


def test_the_global_generator_is_left_alone():
    batches = samples(4, (6,))
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    learner = Learner([nn.Sequential(nn.Dropout(0.5)), lambda: nn.Linear(6, 3)], **DOUBLE)
    for x, y in batches:
        learner.step(x, y)
    assert torch.equal(torch.rand(3), expected)


def test_the_users_modules_are_never_changed():
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    model.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.warns(EvaluationModeWarning):
        learner = Learner(model, **DOUBLE)
    for x, y in samples(5, (6,)):
        learner.step(x, y)
    assert largest_difference(model.state_dict(), before) == 0
    assert not model.training
    assert all(p.grad is None and p.requires_grad and p.dtype == torch.float32 for p in model.parameters())


def test_the_callers_tensors_are_never_changed():
    ((x, y),) = samples(1, (6,))
    kept = x.clone()
    x.requires_grad_()
    learner = Learner(tanh_net(), **DOUBLE)
    for _ in range(4):
        learner.step(x, y)
    assert torch.equal(x, kept)
    assert x.grad is None


# what it refuses

UNKNOWN = {
    "betta": "betta: unknown setting; did you mean 'beta'?",
    "looss": "looss: unknown setting; did you mean 'loss'?",
    "xyz": "xyz: unknown setting; accepted: groups, delays,",
    "lr": "lr: unknown setting; the learning rate is beta",
    "learning_rate": "learning_rate: unknown setting; the learning rate is beta",
    "optimizer": "optimizer: unknown setting; weights move by Hamilton's equations: adaptive={'type': 'adam'}",
    "momentum": "momentum: unknown setting; momentum is 1 - tau * dissipation['weight']",
    "device": "device: unknown setting; layers live where the first batch is",
    "epochs": "epochs: unknown setting; a learner hears a stream",
    "batch_size": "batch_size: unknown setting; a batch has the rows of the first one",
    "mode": "mode: unknown setting; it is called locality",
    "tolerance": "tolerance: does nothing without gate='settled'",
}


@pytest.mark.parametrize(("name", "message"), UNKNOWN.items())
def test_unknown_settings(name, message):
    with pytest.raises(ConfigError) as caught:
        Learner(tanh_net(), **{name: 1})
    assert str(caught.value).startswith(message)


REFUSED = [
    ({"loss": "cross_entrpy"}, "loss: there is no loss 'cross_entrpy'; did you mean 'cross_entropy'?"),
    ({"tau": 0}, "tau: must be greater than 0, got 0"),
    ({"beta": -0.1}, "beta: must be 0 or more, got -0.1"),
    ({"hold": 0}, "hold: a batch is presented for at least 1 tick, not 0"),
    ({"hold": 2.5}, "hold: a batch is presented for at least 1 tick, not 2.5"),
    ({"seed": "a"}, "seed: expected a whole number, got 'a'"),
    ({"dtype": torch.int64}, "dtype: expected a floating dtype such as torch.float64, got torch.int64"),
    ({"loss": 3}, "loss: 3 is no loss: give a name (cross_entropy, "),
    ({"chunk": 0}, "chunk: at least 1 tick runs in one go, not 0"),
    ({"locality": "far"}, "mode: 'far' is not accepted; accepted: local, nonlocal, groups"),
    ({"pairing": "stash"}, "pairing: 'stash' is not accepted; did you mean 'stashed'?"),
    (
        {"pairing": "current", "stash": "graph"},
        "stash: 'graph' is a form of pairing 'stashed', not of 'current'",
    ),
    ({"delays": {"0->1": -1}}, "delays.0->1: must be 0 or more, got -1"),
    ({"adaptive": {"type": "adam"}, "nesterov": True}, "nesterov: nesterov and adaptive exclude each other"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_wrong_settings(settings, message):
    with pytest.raises(ConfigError) as caught:
        Learner(tanh_net(), **settings)
    assert str(caught.value).startswith(message)


def test_what_a_network_has_already_is_refused():
    network = Network.of(tanh_net(), "mse")
    with pytest.raises(ConfigError) as caught:
        Learner(network, "cross_entropy", edges=["0->1"])
    message = "the Network has its own: leave it out, or give the layers instead of the Network"
    assert str(caught.value) == f"loss: {message}\nedges: {message}"


def test_factors_of_no_parameter():
    frozen = nn.Linear(6, 3).requires_grad_(False)
    learner = Learner([frozen, nn.Linear(3, 3)], beta_scale={"1.*": 0.5, "0.bias": 2.0, "1.wight": 2.0})
    with pytest.raises(NetworkError) as caught:
        learner.step(*samples(1, (6,))[0])
    near = "; did you mean '1.bias'?", "; did you mean '1.weight'?"
    told = "matches no parameter that learns{} (they are 1.weight, 1.bias)"
    assert str(caught.value).splitlines() == [
        f"learning.beta_scale.0.bias: {told.format(near[0])}",
        f"learning.beta_scale.1.wight: {told.format(near[1])}",
    ]


def test_factors_of_no_parameter_over_actors():
    network = Network.of([nn.Linear(6, 3), nn.Linear(3, 3)], "cross_entropy", None)
    learning = Learning(beta_scale={"1.wight": 2.0})
    with pytest.raises(NetworkError, match=r"beta_scale\.1\.wight: matches no parameter"):
        Ensemble(network, Locality(), learning, samples(1, (6,)), [["0"], ["1"]])


def test_several_wrong_settings_at_once():
    with pytest.raises(ConfigError) as caught:
        Learner(tanh_net(), tau=0, beta=-1)
    assert [problem.key for problem in caught.value.problems] == ["tau", "beta"]


def test_no_layers():
    with pytest.raises(NetworkError, match="at least one layer"):
        Learner([])


def test_shapes_are_checked_with_the_first_batch():
    learner = Learner(tanh_net(), **DOUBLE)
    with pytest.raises(NetworkError) as caught:
        learner.step(torch.randn(4, 5), torch.zeros(4, dtype=torch.long))
    assert "'source' gives [4, 5] float64, but layer '0' (Linear, in_features=6)" in str(caught.value)


def test_too_short_a_hold_says_the_length():
    learner = Learner(mlp(3), pairing="current", gate="settled", hold=2, **DOUBLE)
    with pytest.raises(NetworkError, match="needs hold: 5 or more"):
        learner.step(*samples(1, (8,))[0])


@pytest.mark.parametrize("what", ["x", "target"])
def test_values_that_are_not_finite(what):
    learner = Learner([nn.Linear(2, 2)], "mse")
    x, y = torch.ones(3, 2), torch.ones(3, 2)
    learner.step(x, y)
    (x if what == "x" else y)[1, 1] = float("nan")
    with pytest.raises(
        StreamError, match=f"^the batch at sample 3: {what} holds values that are not finite$"
    ):
        learner.step(x, y)


def test_too_many_rows():
    learner = Learner([nn.Linear(2, 2)])
    learner.step(torch.ones(3, 2), torch.zeros(3, dtype=torch.long))
    with pytest.raises(StreamError, match="a batch of 4 rows came at sample 3, but the first had 3"):
        learner.step(torch.ones(4, 2), torch.zeros(4, dtype=torch.long))


def test_what_is_no_number():
    with pytest.raises(StreamError, match=r"^the batch at sample 0: x is an array of <U4; expected numbers$"):
        Learner([nn.Linear(2, 2)]).step([["many", "more"]], [0])


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.bool_])
def test_classes_of_any_whole_type(kind):
    learner = Learner([nn.Linear(2, 2)])
    assert learner.step(np.ones((3, 2)), np.array([0, 1, 1], dtype=kind)).rows == 3


def test_a_refused_first_batch_may_be_followed_by_a_better_one():
    learner = Learner([nn.Linear(2, 2)])
    with pytest.raises(NetworkError):
        learner.step(torch.ones(3, 5), torch.zeros(3, dtype=torch.long))
    assert learner.step(torch.ones(3, 2), torch.zeros(3, dtype=torch.long)).first == 0


def test_as_many_targets_as_inputs():
    learner = Learner([nn.Linear(2, 2)])
    learner.step(torch.ones(3, 2), torch.zeros(3, dtype=torch.long))
    with pytest.raises(StreamError, match=r"^the batch at sample 3: 3 rows of x, but 2 of target$"):
        learner.step(torch.ones(3, 2), torch.zeros(2, dtype=torch.long))


def test_a_batch_of_another_shape():
    learner = Learner([nn.Linear(2, 2)])
    learner.step(torch.ones(3, 2), torch.zeros(3, dtype=torch.long))
    change = "shape (5,) and float32, where it had shape (2,) and float32 before"
    with pytest.raises(StreamError, match=f"^{re.escape('the batch at sample 3: the input has ' + change)}$"):
        learner.step(torch.ones(3, 5), torch.zeros(3, dtype=torch.long))


def test_a_single_sample_needs_a_row():
    message = (
        "the batch at sample 0: target must be a batch, its first dimension the rows, not a single number"
    )
    with pytest.raises(StreamError, match=f"^{message}$"):
        Learner([nn.Linear(2, 2)]).step(torch.ones(1, 2), 0)


def test_what_depends_on_shapes_waits_for_the_first_batch():
    learner = Learner(tanh_net())
    for ask in (learner.state_dict, lambda: learner.layers, lambda: learner.predict(torch.ones(1, 6))):
        with pytest.raises(RunError, match=r"call step\(x, target\) first"):
            ask()
    assert learner.drain() == []


def test_divergence_names_layer_tick_and_remedy():
    torch.manual_seed(0)
    learner = Learner([nn.Linear(2, 2), nn.Linear(2, 2)], "mse", beta=1e20, locality="nonlocal")
    one = torch.ones(1, 2)
    learner.step(one, one)
    with pytest.raises(
        DivergenceError, match=r"^diverged at tick 1: .* layer '\d' is .*: lower learning.beta"
    ):
        learner.step(one, one)


def test_hold_out_batches_may_be_of_any_size():
    """Larger ones are split; the means are over all rows, as plain torch has them (1e-12: another order of sums)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 3)).double()
    learner = Learner(model, "cross_entropy", locality="nonlocal", beta=0.0, dtype=torch.float64)
    learner.step(torch.randn(4, 6).double(), torch.randint(3, (4,)))
    x, y = torch.randn(11, 6).double(), torch.randint(3, (11,))
    metrics = learner.evaluate([(x, y)])
    assert abs(metrics["loss"] - nn.functional.cross_entropy(model(x), y).item()) < 1e-12
    assert abs(metrics["accuracy"] - (model(x).argmax(1) == y).double().mean().item()) < 1e-12


# several batches at a time


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"stack": True}, {"stack": True, "chunk": 4}])
def test_steps_are_as_many_times_step(settings):
    """Looks at the layers, and predictions, in the middle change nothing."""
    batches = samples(34, (6,))
    ours, theirs = Learner(tanh_net(), **DOUBLE, **settings), Learner(tanh_net(), **DOUBLE)
    told = ours.steps(iter(batches[:25]))
    expected = [p for batch in batches if (p := theirs.step(*batch)) is not None]
    assert [layer.name for layer in ours.layers] == list(ours.network.names)
    ours.predict(batches[0][0])
    told += ours.steps(batches[25:])
    assert ours.metrics == pytest.approx(theirs.metrics, abs=TOLERANCE)
    told, expected = told + ours.drain(), expected + theirs.drain()
    assert [p.first for p in told] == [p.first for p in expected] == list(range(0, 136, 4))
    assert max((a.output - b.output).abs().max() for a, b in zip(told, expected, strict=True)) < TOLERANCE
    assert largest_difference(ours.state_dict(), theirs.state_dict()) < TOLERANCE
    assert ours.samples_seen_once
    assert theirs.samples_seen_once
    assert bool(ours.execution) == ("stack" in settings)


def test_a_bad_batch_among_several_is_refused_and_those_before_it_are_learnt():
    batches = samples(4, (6,))
    learner = Learner(tanh_net(), **DOUBLE, chunk=4)
    with pytest.raises(StreamError, match="the batch at sample 8"):
        learner.steps([*batches[:2], (torch.zeros(4, 7), batches[2][1]), batches[3]])
    assert learner.samples == 8
    learner.steps(batches[2:])
    learner.drain()
    assert learner.samples == 16
    assert learner.samples_seen_once


# How it runs


def test_a_learner_says_which_layers_are_slow_and_why():
    layers = [nn.Linear(6, 8), nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1)), nn.Tanh(), nn.Linear(8, 3)]
    learner = Learner(layers, stack=True)
    learner.steps(samples(1, (6,)))
    told = learner.execution["inline"]
    assert told["node_by_node"] == "not traced: '1'"
    assert told["not_traced"] == {"1": "it draws random numbers"}
    assert told["not_stacked"] == {"2": "it has no weights"}


def test_where_stacks_were_not_asked_for_there_is_nothing_to_say():
    learner = Learner([nn.Linear(6, 3)])
    learner.steps(samples(1, (6,)))
    assert learner.execution == {}
