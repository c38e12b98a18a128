"""SOAP without its first moment as an optimiser of torch's kind: the oracle, written from the equations."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

RIDGE = 1e-4


class PlainSoap(torch.optim.Optimizer):
    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        b2: float = 0.95,
        basis: float = 0.95,
        largest: int = 256,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr})
        self.b2, self.basis, self.largest, self.decay = b2, basis, largest, weight_decay

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        for group in self.param_groups:
            for theta in group["params"]:
                kept = self.state.setdefault(theta, {"n": 0, "v": torch.zeros_like(theta)})
                kept["n"] += 1
                theta.mul_(1 - group["lr"] * self.decay).sub_(group["lr"] * self._direction(theta, kept))

    def _direction(self, theta: Tensor, kept: dict[str, Any]) -> Tensor:
        assert theta.grad is not None
        if theta.dim() < 2:
            return self._scaled(theta.grad, kept)
        matrix = theta.grad.reshape(len(theta), -1)
        left = self._basis(matrix, kept, "rows")
        right = self._basis(matrix.T, kept, "columns")
        seen = torch.einsum("ia,ij,jb->ab", left, matrix, right).reshape(theta.shape)
        scaled = self._scaled(seen, kept).reshape(matrix.shape)
        return torch.einsum("ia,ab,jb->ij", left, scaled, right).reshape(theta.shape)

    def _basis(self, matrix: Tensor, kept: dict[str, Any], side: str) -> Tensor:
        one = torch.eye(len(matrix), dtype=matrix.dtype)
        if len(matrix) > self.largest:
            return one
        second, basis = kept.get(side, (torch.zeros_like(one), one))
        second = (
            self.basis * second
            + (1 - self.basis) * torch.einsum("ik,jk->ij", matrix, matrix) / matrix.shape[1]
        )
        ridge = RIDGE * second.norm() / len(one)
        basis = torch.linalg.qr((second + ridge * one) @ basis).Q
        kept[side] = second, basis
        return basis

    def _scaled(self, seen: Tensor, kept: dict[str, Any]) -> Tensor:
        kept["v"] = self.b2 * kept["v"] + (1 - self.b2) * seen**2
        return seen / ((kept["v"] / (1 - self.b2 ** kept["n"])).sqrt() + 1e-8)
