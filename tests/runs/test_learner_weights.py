"""Learner.load_state_dict: weights that come from elsewhere, at work or before the first batch."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from support.learners import ADAM, KINDS, SETTINGS, Kind, same_tensors
from support.networks import mlp, residual_net
from support.samples import samples
from torch import nn

from hamdist import Learner
from hamdist.errors import UserError

pytestmark = pytest.mark.usefixtures("one_fitter")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_they_are_taken_up_to_the_bit_and_nothing_else_moves(kind: Kind):
    learner, other = kind.learner(), kind.learner(seed=0)
    kind.go(learner, 0, 8)
    kind.go(other, 0, 4)
    before = other.training_state()["tensors"]
    other.load_state_dict(learner.state_dict())
    assert same_tensors(other.state_dict(), learner.state_dict())
    after = other.training_state()["tensors"]
    moved = {
        name.split("carry.")[-1].partition(".")[0]
        for name in before.keys() & after.keys()
        if not torch.equal(before[name], after[name])
    }
    assert moved <= {"parameters", "buffers"}
    kind.go(other, 8, 12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_before_the_first_batch_layers_begin_with_them(kind: Kind):
    """Copies of them, in a learner whose own weights were others, and do not move."""
    learner, fresh = kind.learner(), kind.learner(seed=5, beta=0.0)
    kind.go(learner, 0, 8)
    weights = learner.state_dict()
    fresh.load_state_dict(weights)
    expected = deepcopy(weights)
    for tensor in weights.values():
        if isinstance(tensor, torch.Tensor):
            tensor.zero_()
    kind.go(fresh, 0, 1)
    learning = [f"{layer.name}.{name}" for layer in fresh.layers for name in layer.weights]
    ours = fresh.state_dict()
    assert same_tensors({name: ours[name] for name in learning}, {name: expected[name] for name in learning})


def test_they_are_a_plain_models():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
    learner = Learner([nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)], **SETTINGS)
    learner.load_state_dict(model.state_dict())
    (x, y), *more = samples(4, (8,))
    learner.step(x, y)
    learner.load_state_dict(model.state_dict())
    assert torch.equal(learner.predict(x), model.eval()(x))
    learner.steps(more)


def test_they_may_be_of_shapes_that_are_not_known_yet():
    layers = [nn.LazyLinear(5), nn.Linear(5, 3)]
    learner, fresh = Learner(layers, **SETTINGS), Learner(layers, seed=7, **SETTINGS)
    learner.steps(samples(4, (8,)))
    fresh.load_state_dict(learner.state_dict())
    assert fresh.step(*samples(1, (8,))[0]) is None
    assert torch.equal(fresh.predict(torch.ones(2, 8)), learner.predict(torch.ones(2, 8)))


@pytest.mark.parametrize("batches", [0, 4], ids=["before the first batch", "at work"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("2.weight"), r"^2\.weight: is missing in the state_dict$"),
        (
            lambda w: w.update({"2.wieght": w["2.weight"]}),
            r"2\.wieght: is nothing that the layers have; did you mean ",
        ),
        (
            lambda w: w.update({"2.bias": torch.zeros(4).double()}),
            r"^2\.bias: is \[3\] float64 here, and \[4\] ",
        ),
        (
            lambda w: w.update({"2.bias": torch.zeros(3).cfloat()}),
            r"^2\.bias: is of torch\.float64 here, and of ",
        ),
        (lambda w: w.update({"2.bias": 0}), r"^2\.bias: is \[3\] float64 here, and a int in the state_dict$"),
    ],
    ids=["missing", "unexpected", "another shape", "another dtype", "no tensor"],
)
def test_others_are_refused_by_name_and_change_nothing(
    batches: int, change: Callable[[Any], Any], message: str
):
    learner, other = (Learner(mlp(3), **SETTINGS) for _ in range(2))
    other.steps(samples(2, (8,)))
    learner.steps(samples(batches, (8,)))
    weights = dict(other.state_dict())
    change(weights)
    with pytest.raises(UserError, match=message):
        learner.load_state_dict(weights)
    learner.steps(samples(3, (8,)))
    untouched = Learner(mlp(3), **SETTINGS)
    untouched.steps(samples(batches, (8,)))
    untouched.steps(samples(3, (8,)))
    assert same_tensors(learner.state_dict(), untouched.state_dict())


def test_all_that_is_wrong_is_said_at_once():
    learner = Learner(mlp(3), **SETTINGS)
    with pytest.raises(UserError) as raised:
        learner.load_state_dict({"0.0.weight": torch.zeros(8, 8).double(), "more": torch.zeros(1)})
    assert {problem.key for problem in raised.value.problems} == {
        "0.0.bias",
        "1.0.weight",
        "1.0.bias",
        "2.weight",
        "2.bias",
        "more",
    }


def test_numbers_of_fewer_digits_are_taken_as_they_are():
    weights = {key: tensor.float() for key, tensor in nn.Sequential(*mlp(3)).state_dict().items()}
    learner = Learner(mlp(3, seed=9), **SETTINGS)
    learner.load_state_dict(weights)
    learner.step(*samples(1, (8,))[0])
    assert all(torch.equal(tensor, weights[key].double()) for key, tensor in learner.state_dict().items())


def test_costates_and_moments_go_on():
    learner = Learner(residual_net(), **SETTINGS, **ADAM)
    learner.steps(samples(8, (8,)))
    before = [layer.weight_costate for layer in learner.layers]
    learner.load_state_dict(nn.Sequential(*residual_net(seed=3)).state_dict())
    after = [layer.weight_costate for layer in learner.layers]
    assert all(same_tensors(one, other) for one, other in zip(before, after, strict=True))
