"""Losses, and the costate they give an output layer: q = γ ∂loss/∂y."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hamdist.physics.numerics import transformed

LossFunction = Callable[[Tensor, Tensor], Tensor]

LOSSES: dict[str, LossFunction] = {
    "cross_entropy": F.cross_entropy,
    "nll": F.nll_loss,
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "huber": F.huber_loss,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
}


def loss_and_costate(
    loss: LossFunction, output: Tensor, target: Tensor, rows: int, gamma: float
) -> tuple[Tensor, Tensor]:
    """(loss over the first `rows` rows, γ ∂loss/∂output); the costate of the other, padded rows is zero."""

    def weighted(y: Tensor) -> tuple[Tensor, Tensor]:
        value = loss(y[:rows], target[:rows])
        return gamma * value, value

    if transformed():
        costate, value = torch.func.grad(weighted, has_aux=True)(output)
        return value, costate
    with torch.enable_grad():
        y = output.detach().requires_grad_()
        scaled, value = weighted(y)
    (costate,) = torch.autograd.grad(scaled, y)
    return value.detach(), costate
