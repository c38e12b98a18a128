"""θ' = θ + sβτ ω, then ω' = aω − s c G: a drive reaches the weights one update late."""

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
    """The authors' `local=True` order; with s = −1 it is SGD fed the gradient of one update ago."""
    return move(theta, omega, sign * gain), driven(omega, drive, coefficients, sign)


EXPLICIT = Integrator(euler_coefficients, step, lag=1)
