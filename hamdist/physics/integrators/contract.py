"""What a step is: the coefficients of a costate's equation, and the order in which ω and θ move."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from hamdist.physics.sums import Factor, plus_

Gain = Factor
Motion = Callable[[Tensor, Tensor, Factor], Tensor]
"""How θ' = θ + factor · change is made: in the memory of θ (`plus_`), or beside it (`plus`)."""


class Coefficients(NamedTuple):
    """(a, c) of one costate step  p' = a p − s c ∂H: what dissipation leaves, and the weight of the drive."""

    decay: float
    drive: float


class Step(Protocol):
    """(θ, ω, G, gain, (a, c), s) → (θ', ω'), gain = βτ, s the sign.

    A step consumes ω, and θ where it moves by `plus_`: their memory becomes that of ω' and θ' (large weights would
    otherwise cost more in memory traffic than in arithmetic). G stays as it is.
    """

    def __call__(
        self,
        theta: Tensor,
        omega: Tensor,
        drive: Tensor,
        gain: Gain,
        coefficients: Coefficients,
        sign: int,
        move: Motion = plus_,
    ) -> tuple[Tensor, Tensor]: ...


class Integrator(NamedTuple):
    """coefficients(τ, η) → (a, c), and a step.  lag: how many updates late a drive reaches θ."""

    coefficients: Callable[[float, float], Coefficients]
    step: Step
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
