"""Losses that do not fit: what is known of a loss is guessed, what a user's own raises is told as it is."""

import re

import pytest
import torch
from support.inline import runtime_of
from torch import nn
from torch.nn import functional as F

from hamdist import Learner
from hamdist.errors import ConfigError, NetworkError, RunError, StreamError
from hamdist.network.loss_fit import check_loss
from hamdist.network.losses import LossSpec
from hamdist.physics.losses import CrossEntropy

OUTPUT = torch.zeros(4, 6, 9)  # 6 positions of 9 classes
POSITIONS = torch.zeros(4, 6, dtype=torch.int64)


def over_the_last(output, target):
    """A user's own loss."""
    return F.cross_entropy(output.flatten(0, 1), target.flatten())


def fits(loss, output=OUTPUT, targets=POSITIONS):
    check_loss("loss", LossSpec(loss, "head", getattr(loss, "__name__", "own")), output, targets)


@pytest.mark.parametrize(
    "loss", [over_the_last, CrossEntropy(-1), CrossEntropy(2), lambda y, t: F.cross_entropy(y.mT, t)]
)
@pytest.mark.parametrize("largest", [0, 5, 8])
def test_classes_along_the_last_dimension_fit(loss, largest):
    fits(loss, targets=POSITIONS + largest)


@pytest.mark.parametrize("loss", [F.cross_entropy, nn.CrossEntropyLoss(), F.nll_loss])
def test_torchs_own_order_is_told_where_it_is_not_that_of_the_output(loss):
    told = "classes are expected along dimension 1 of the output"
    expected = f"{told}: where they lie along -1, say {{type: cross_entropy, class_dim: -1}}"
    with pytest.raises(NetworkError, match=f"{re.escape(expected)}$"):
        fits(loss, targets=POSITIONS + 7)  # which is no class of 6, and not why
    fits(loss, OUTPUT.mT, POSITIONS + 8)
    with pytest.raises(NetworkError, match="where they lie along 1, say"):
        fits(CrossEntropy(-1), OUTPUT.mT)


def test_classes_that_an_output_does_not_have():
    rows = torch.tensor([0, 2, -1, 5])
    with pytest.raises(
        NetworkError, match="; class -1 came in row 2, but the layer has the classes 0 to 2, and -100"
    ):
        fits(F.cross_entropy, torch.zeros(4, 3), rows)
    with pytest.raises(
        NetworkError, match=r"; class 9 came in row 0, but the layer has 9 outputs: it needs 10$"
    ):
        fits(CrossEntropy(-1), targets=POSITIONS + 9)


def test_nothing_is_guessed_of_a_users_own_loss():
    def own(output, target):
        raise ValueError("the moon is full")

    given = "layer 'head' gives [4, 6, 9] float32, the targets are [4, 6] int64"
    with pytest.raises(NetworkError, match=f"loss own does not fit: {re.escape(given)}: the moon is full$"):
        fits(own, targets=POSITIONS + 91)


def test_nor_midway():
    """Cross-entropy over the last dimension with a class beyond it: its own error, with its name and the shapes."""
    batches = [(torch.randn(4, 6, 8).double(), POSITIONS) for _ in range(3)]
    batches[1] = (batches[1][0], POSITIONS + 91)
    runtime = runtime_of([nn.Linear(8, 9).double()], batches, loss=over_the_last, mode="nonlocal")
    list(runtime.present(*batches[0]))
    shapes = (
        "an output [4, 6, 9] float64 and targets [4, 6] int64, failed at tick 1: Target 91 is out of bounds"
    )
    with pytest.raises(RunError, match=f"^the loss over_the_last, of {re.escape(shapes)}"):
        list(runtime.present(*batches[1]))


def test_a_label_below_0_names_its_sample():
    batches = [(torch.randn(4, 8).double(), torch.tensor([0, 1, 2, 0])) for _ in range(3)]
    runtime = runtime_of([nn.Linear(8, 3).double()], batches, mode="nonlocal")
    list(runtime.present(*batches[0]))
    message = (
        r"^class -1 came in sample 6, but layer '0' has the classes 0 to 2, and -100 says that there is none$"
    )
    with pytest.raises(StreamError, match=message):
        list(runtime.present(batches[1][0], torch.tensor([0, 1, -1, 0])))


def test_rows_without_a_target_are_left_out_and_nothing_is_said_of_none_at_all():
    def own(output, target):
        return F.one_hot(target, 3).sub(output).square().mean()  # it has no place for −100

    fits(own, torch.zeros(4, 3), torch.tensor([-100, 1, -100, 2]))
    fits(own, torch.zeros(4, 3), torch.full((4,), -100))
    fits(F.mse_loss, torch.zeros(2, 3), torch.tensor([[torch.nan] * 3, [0.0] * 3]))


@pytest.mark.parametrize("targets", [torch.zeros(4, 0), torch.zeros(0, 3)])
def test_targets_of_nothing(targets):
    with pytest.raises(NetworkError, match="mse_loss has nothing to judge: layer 'head' gives"):
        fits(F.mse_loss, targets, targets)


def test_a_learner_takes_the_dimension_of_the_classes_in_words():
    x, y = torch.randn(4, 6, 8), POSITIONS + 8
    told, made = (
        Learner([nn.Linear(8, 9, dtype=torch.float32)], loss, locality="nonlocal")
        for loss in ({"type": "cross_entropy", "class_dim": -1}, CrossEntropy(-1))
    )
    assert told.step(x, y).loss.shape == made.step(x, y).loss.shape == ()
    assert told.metrics.keys() == {"loss", "accuracy"}


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"type": "mse", "class_dim": -1}, "loss.class_dim: only cross_entropy has one, not mse"),
        (
            {"type": "cross_entropy", "class_dim": 0},
            "loss.class_dim: must be the dimension along which classes lie",
        ),
        ({"type": "cross_entropy", "class_dim": True}, "loss.class_dim: must be the dimension along which"),
    ],
)
def test_dimensions_that_are_none(loss, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        Learner([nn.Linear(8, 9)], loss)
