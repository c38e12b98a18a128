"""What a step is: the coefficients of a costate's equation, and the order in which ω and θ move."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from hamdist.physics.sums import Factor, plus_

Gain = Factor


class Coefficients(NamedTuple):
    """(a, c) of one costate step  p' = a p − s c ∂H: what dissipation leaves, and the weight of the drive."""

    decay: float
    drive: float


class Integrator(NamedTuple):
    """coefficients(τ, η) → (a, c);  step(θ, ω, G, gain, (a, c), s) → (θ', ω'), gain = βτ, s the sign.

    A step consumes θ and ω: their memory becomes that of θ' and ω' (large weights would otherwise cost more in
    memory traffic than in arithmetic). G stays as it is.  lag: how many updates late a drive reaches θ.
    """

    coefficients: Callable[[float, float], Coefficients]
    step: Callable[[Tensor, Tensor, Tensor, Gain, Coefficients, int], tuple[Tensor, Tensor]]
    lag: int = 0


def euler_coefficients(tau: float, eta: float) -> Coefficients:
    """(1 − τη, τ): a plain step of −ηp − s ∂H."""
    return Coefficients(1.0 - tau * eta, tau)


def driven(omega: Tensor, drive: Tensor, coefficients: Coefficients, sign: int) -> Tensor:
    """ω' = a ω − s c G, in the memory of ω."""
    a, c = coefficients
    if a == 0.0:
        return drive if -sign * c == 1.0 else drive * (-sign * c)
    if a != 1.0:
        omega.mul_(a)
    return plus_(omega, drive, -sign * c)
