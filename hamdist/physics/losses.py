"""Losses, and the costate they give an output layer: q = γ ∂loss/∂y."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hamdist.physics.numerics import transformed
from hamdist.physics.targets import IGNORED

LossFunction = Callable[[Tensor, Tensor], Tensor]

LOSSES: dict[str, LossFunction] = {
    "cross_entropy": F.cross_entropy,
    "nll": F.nll_loss,
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "huber": F.huber_loss,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
}


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy with the classes of an output along any dimension but its rows.

    class_dim: −1 for an output [B, T, V] whose every position has a class, with targets [B, T]; 1 is torch's own order,
    [B, V, T]. The mean is over all positions that have a target. Raises ValueError for the dimension of the rows.
    """

    class_dim: int = 1

    def __post_init__(self) -> None:
        if self.class_dim == 0:
            raise ValueError("class_dim 0 is the rows of a batch: classes lie along another, such as 1 or -1")

    @property
    def __name__(self) -> str:
        return "cross_entropy"

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output.movedim(self.class_dim, 1), target)


class Classes(NamedTuple):
    """How a loss reads classes.  dim: that of the output along which they lie.  ignored: the one that is none."""

    dim: int
    ignored: int


OVER_CLASSES = (F.cross_entropy, F.nll_loss)
OVER_NUMBERS = (F.mse_loss, F.l1_loss, F.huber_loss, F.smooth_l1_loss, F.binary_cross_entropy_with_logits)
MODULES_OVER_NUMBERS = (nn.MSELoss, nn.L1Loss, nn.HuberLoss, nn.SmoothL1Loss, nn.BCEWithLogitsLoss)


def classes_of(loss: LossFunction) -> Classes | None:
    """None for a loss that is not over classes, and for one whose meaning is not known, such as a user's own."""
    if isinstance(loss, CrossEntropy):
        return Classes(loss.class_dim, IGNORED)
    if type(loss) in (nn.CrossEntropyLoss, nn.NLLLoss):
        return Classes(1, loss.ignore_index)  # type: ignore[attr-defined]
    if isinstance(loss, partial) and loss.func in OVER_CLASSES:
        return Classes(1, loss.keywords.get("ignore_index", IGNORED))
    return Classes(1, IGNORED) if any(loss is known for known in OVER_CLASSES) else None


def over_numbers(loss: LossFunction) -> bool:
    """Whether a loss is known to compare numbers with numbers."""
    return any(loss is known for known in OVER_NUMBERS) or type(loss) in MODULES_OVER_NUMBERS


def ignored_by(losses: Iterable[LossFunction]) -> int:
    """The class that all of them ignore: the usual one, unless they agree on another."""
    found = {IGNORED if (classes := classes_of(loss)) is None else classes.ignored for loss in losses}
    return found.pop() if len(found) == 1 else IGNORED


def loss_and_costate(
    loss: LossFunction,
    output: Tensor,
    target: Tensor,
    rows: int,
    gamma: float,
    labelled: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(loss over some rows, γ ∂loss/∂output); the costate of the other rows is zero.

    These are the first `rows`, not those that fill up a batch; of them those at the places `labelled`, None: all.
    """

    def weighted(y: Tensor) -> tuple[Tensor, Tensor]:
        value = loss(chosen(y, rows, labelled), chosen(target, rows, labelled))
        return gamma * value, value

    if transformed():
        costate, value = torch.func.grad(weighted, has_aux=True)(output)
        return value, costate
    with torch.enable_grad():
        y = output.detach().requires_grad_()
        scaled, value = weighted(y)
    (costate,) = torch.autograd.grad(scaled, y)
    return value.detach(), costate


def chosen(values: Tensor, rows: int, labelled: Tensor | None) -> Tensor:
    """The first rows of them [B, …], or of these those at some places."""
    return values[:rows] if labelled is None else values.index_select(0, labelled)
