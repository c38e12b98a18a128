"""What a line says of a prediction, against torch's own softmax, sigmoid and argmax; to 1e-6, which is float32's."""

import json
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hamdist.engine.loss_node import LossNode, Prediction
from hamdist.engine.prediction_lines import lines_of
from hamdist.network.locality import Locality
from hamdist.network.losses import LossSpec
from hamdist.physics.losses import CrossEntropy


def told(loss: Any, name: str, output: Tensor, target: Tensor, labels: Any = ()) -> list[dict[str, Any]]:
    """The lines of the rows of an output, which are the samples 10, 11, …"""
    judge = LossNode("loss", LossSpec(loss, "head", name), 1.0, Locality(), (output, target))
    lines = lines_of(judge, labels)(Prediction(output, 10, len(output), torch.tensor(0.0)))
    found = [json.loads(line) for line in lines]
    assert [line.pop("sample") for line in found] == list(range(10, 10 + len(output)))
    return found


def close(found: list[Any], expected: Tensor) -> bool:
    return torch.allclose(torch.tensor(found, dtype=expected.dtype), expected, rtol=0, atol=1e-6)


OUTPUT = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(
    "loss", [F.cross_entropy, nn.CrossEntropyLoss(), partial(F.cross_entropy, label_smoothing=0.1)]
)
def test_classes_and_their_probabilities(loss: Any):
    found = told(loss, "cross_entropy", OUTPUT, CLASSES)
    assert [line["prediction"] for line in found] == OUTPUT.argmax(1).tolist()
    assert close([line["probabilities"] for line in found], OUTPUT.softmax(1))


@pytest.mark.parametrize("loss", [F.nll_loss, nn.NLLLoss()])
def test_likelihoods(loss: Any):
    found = told(loss, "nll", OUTPUT.log_softmax(1), CLASSES)
    assert close([line["probabilities"] for line in found], OUTPUT.softmax(1))


def test_labels_in_the_place_of_classes():
    found = told(F.cross_entropy, "cross_entropy", OUTPUT, CLASSES, ("a", 7, "c"))
    assert [line["prediction"] for line in found] == [("a", 7, "c")[best] for best in OUTPUT.argmax(1)]


@pytest.mark.parametrize(("loss", "dim"), [(F.cross_entropy, 1), (CrossEntropy(-1), 2)])
def test_a_class_for_every_position(loss: Any, dim: int):
    output = torch.randn(2, 5, 5)
    found = told(loss, "cross_entropy", output, torch.zeros(2, 5, dtype=torch.long), tuple("abcde"))
    assert [line["prediction"] for line in found] == [["abcde"[b] for b in row] for row in output.argmax(dim)]
    assert close([line["probabilities"] for line in found], output.softmax(dim).movedim(dim, -1))


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3)])
def test_logits(shape: tuple[int, ...]):
    output = torch.randn(shape)
    found = told(F.binary_cross_entropy_with_logits, "bce_with_logits", output, torch.zeros(shape))
    ones = output.sigmoid()
    if shape == (4, 3):
        assert [line["prediction"] for line in found] == (output > 0).long().tolist()
        assert close([line["probabilities"] for line in found], ones)
    else:
        assert [line["prediction"] for line in found] == (output > 0).long().flatten().tolist()
        assert close([line["probabilities"] for line in found], torch.stack([1 - ones, ones], -1).view(4, 2))


def test_numbers_are_as_a_target_is_written():
    """A row of one is a number; what is not finite is null."""
    assert told(F.mse_loss, "mse", torch.tensor([[1.5], [float("nan")]]), torch.zeros(2, 1)) == [
        {"prediction": 1.5},
        {"prediction": None},
    ]
    assert told(F.mse_loss, "mse", torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)) == [
        {"prediction": [1.0, 2.0]}
    ]


def test_a_loss_of_ones_own_over_classes_has_no_probabilities():
    found = told(lambda y, t: F.multi_margin_loss(y, t), "mine:loss", OUTPUT, CLASSES)
    assert found == [{"prediction": best} for best in OUTPUT.argmax(1).tolist()]
