"""ω' = aω − s c G, then θ' = θ + sβτ ω': with s = −1, SGD of lr = βτ² and momentum = 1 − τη."""

from torch import Tensor

from hamdist.physics.integrators.contract import (
    Coefficients,
    Gain,
    Integrator,
    Motion,
    driven,
    euler_coefficients,
)
from hamdist.physics.sums import plus_


def step(
    theta: Tensor,
    omega: Tensor,
    drive: Tensor,
    gain: Gain,
    coefficients: Coefficients,
    sign: int,
    move: Motion = plus_,
) -> tuple[Tensor, Tensor]:
    """The symplectic order: the costate first, the weights on its new value."""
    omega = driven(omega, drive, coefficients, sign)
    return move(theta, omega, sign * gain), omega


def nesterov_step(
    theta: Tensor,
    omega: Tensor,
    drive: Tensor,
    gain: Gain,
    coefficients: Coefficients,
    sign: int,
    move: Motion = plus_,
) -> tuple[Tensor, Tensor]:
    """θ' = θ + sβτ (a ω' − s c G): the look-ahead of torch.optim.SGD(nesterov=True)."""
    omega = driven(omega, drive, coefficients, sign)
    ahead = plus_(omega * coefficients.decay, drive, -sign * coefficients.drive)
    return move(theta, ahead, sign * gain), omega


SEMI_IMPLICIT = Integrator(euler_coefficients, step)
