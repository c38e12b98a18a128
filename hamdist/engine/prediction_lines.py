"""Predictions as lines of JSON, one a sample, as the loss means its layer's output."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hamdist.engine.loss_node import LossNode, Prediction
from hamdist.physics.losses import classes_of
from hamdist.report.json_text import json_text
from hamdist.report.metrics import LOGITS


@dataclass(frozen=True)
class PredictionLines:
    """{"sample": 7, "prediction": 2, "probabilities": [0.1, 0.2, 0.7]}.

    A prediction is a class where the targets are, by its label where the config lists them, 0 or 1 for a logit, else
    what the layer says: a number, or a list of them. Probabilities stand beside it where the loss gives them a meaning.

    dim: that of the output [R, …] along which classes lie, None where it has none.  scale: what makes probabilities of
    the output: "softmax", "exp", "sigmoid", or "" where that is not known.  labels: of the classes, in their order.
    """

    dim: int | None
    scale: str
    labels: tuple[Any, ...] = ()

    def __call__(self, prediction: Prediction) -> list[str]:
        """Those of one tick."""
        output = prediction.output.detach().cpu()
        told = self._logits(output) if self.scale == "sigmoid" else self._classes(output)
        numbers = range(prediction.first, prediction.first + prediction.rows)
        lines = (
            {"sample": n, **dict(zip(told, row, strict=True))}
            for n, *row in zip(numbers, *told.values(), strict=True)
        )
        return [json_text(line) for line in lines]

    def _classes(self, output: Tensor) -> dict[str, list[Any]]:
        """By name, what is told of every row."""
        if self.dim is None:
            return {"prediction": _rows(output)}
        last = output.movedim(self.dim, -1)
        told = {"prediction": [self._label(best) for best in last.argmax(-1).tolist()]}
        if self.scale:
            shares = last.double().exp() if self.scale == "exp" else last.double().softmax(-1)
            told["probabilities"] = shares.tolist()
        return told

    def _logits(self, output: Tensor) -> dict[str, list[Any]]:
        """Of a lone logit the probabilities of 0 and of 1, of several that of each."""
        ones = output.double().sigmoid()
        lone = output[:1].numel() == 1
        shares = torch.stack([1 - ones.flatten(), ones.flatten()], 1) if lone else ones
        return {"prediction": _rows((output > 0).long()), "probabilities": shares.tolist()}

    def _label(self, best: Any) -> Any:
        if isinstance(best, list):
            return [self._label(each) for each in best]
        return self.labels[best] if best < len(self.labels) else best


def _rows(values: Tensor) -> list[Any]:
    """A number, or a list, a row."""
    return values.flatten().tolist() if values[:1].numel() == 1 else values.tolist()


def lines_of(judge: LossNode, labels: Sequence[Any] = ()) -> PredictionLines:
    """Those of what a loss judges.  labels: of its classes, where they have names."""
    function, name = judge.spec.function, judge.spec.name.rpartition(":")[2]
    known = classes_of(function)
    if known is not None:
        likelihoods = isinstance(function, nn.NLLLoss) or "nll" in getattr(function, "__name__", name)
        return PredictionLines(known.dim, "exp" if likelihoods else "softmax", tuple(labels))
    if name in LOGITS:
        return PredictionLines(None, "sigmoid")
    return PredictionLines(None if judge.example.is_floating_point() else 1, "", tuple(labels))
