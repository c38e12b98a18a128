"""Adam in the eigenbasis of the drive's own second moments (SOAP: Vyas et al., 2024), its basis turned at every update.

Shapes: G [A, B…] as a matrix [A, B]; S, Q [A, A] of its rows and [B, B] of its columns. For the rows:

    S' = sS + (1−s) GGᵀ/B
    Q' = orth((S' + ρ‖S'‖/A) Q)               one step of orthogonal iteration towards its eigenvectors, Q₀ = 1

GᵀG for the columns, and with both, P and Q:

    Ĝ  = P'ᵀGQ',  v' = b2 v + (1−b2) Ĝ²
    ω' = c P'(Ĝ / (√(v'/(1−b2ⁿ)) + ε))Q'ᵀ,  β = lr / (cτ)

SOAP has a first moment besides. It is a momentum, which a late drive bears worst and this rule does not need.

Curvature lies along few directions that are no single weights. Adam's step has parts along all of them, and a late one
overshoots along the steepest; in a basis of these directions each has a step of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hamdist.physics.numerics import plus_
from hamdist.physics.rates import Moments

RIDGE = 1e-4
"""ρ: directions that have hardly been driven stay where they are, and are no accident of rounding."""


@dataclass(frozen=True)
class Soap:
    """b2, basis: decay of v, and of S (s above).

    largest: a longer side of a matrix is not rotated. Neither are vectors, nor complex numbers: these Adam moves,
    without its first moment.
    """

    b2: float = 0.95
    eps: float = 1e-8
    basis: float = 0.95
    largest: int = 256
    decoupled: bool = True
    counts: bool = True
    stacks: bool = False
    decay: float = 0.0

    def moments(self, theta: Tensor) -> Moments:
        """v, and S and Q of every side that is rotated."""
        sides: list[Tensor] = []
        for side in self._sides(theta):
            exact = torch.promote_types(theta.dtype, torch.float32)  # half precision has no factorisation
            one = torch.eye(_flat(theta).shape[side], dtype=exact, device=theta.device)
            sides += [torch.zeros_like(one), one]
        return torch.zeros_like(theta), *sides

    def __call__(self, drive: Tensor, moments: Moments, n: Tensor) -> tuple[Tensor, Moments, Tensor | float]:
        moment, *known = moments
        sides = self._sides(drive) if known else ()
        for side, second, basis in zip(sides, known[::2], known[1::2], strict=True):
            self._turn(_upright(drive, side).to(basis.dtype), second, basis)
        bases = list(zip(sides, known[1::2], strict=True))
        seen = drive
        for side, basis in bases:
            seen = _rotated(seen, side, basis.T)
        moment = plus_(moment.mul_(self.b2), seen * seen, 1 - self.b2)
        step = seen / (torch.sqrt(moment / (1 - self.b2**n)).to(drive.dtype) + self.eps)
        for side, basis in bases:
            step = _rotated(step, side, basis)
        return step, (moment, *known), 1.0

    def _sides(self, theta: Tensor) -> Sequence[int]:
        if theta.dim() < 2 or theta.is_complex() or not theta.numel():
            return ()
        return [side for side, length in enumerate(_flat(theta).shape) if length <= self.largest]

    def _turn(self, upright: Tensor, second: Tensor, basis: Tensor) -> None:
        """S' and Q', in the memory of S and Q."""
        plus_(second.mul_(self.basis), upright @ upright.T, (1 - self.basis) / upright.shape[1])
        ridge = RIDGE * second.square().sum().sqrt() / len(second)
        basis.copy_(torch.linalg.qr(second @ basis + ridge * basis).Q)


def _flat(tensor: Tensor) -> Tensor:
    """[A, …] as a matrix [A, B]."""
    return tensor.flatten(1)


def _upright(tensor: Tensor, side: int) -> Tensor:
    """As a matrix whose rows are along the side."""
    return _flat(tensor) if side == 0 else _flat(tensor).T


def _rotated(tensor: Tensor, side: int, rotation: Tensor) -> Tensor:
    """The rotation applied along one side, [A, B…] to the same."""
    turned = rotation @ _upright(tensor, side).to(rotation.dtype)
    return (turned if side == 0 else turned.T).to(tensor.dtype).reshape(tensor.shape)
