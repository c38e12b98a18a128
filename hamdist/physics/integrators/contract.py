"""What a step is: the coefficients of a costate's equation, and the order in which ω and θ move."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

Gain = float | Tensor


class Coefficients(NamedTuple):
    """(a, c) of one costate step  p' = a p − s c ∂H: what dissipation leaves, and the weight of the drive."""

    decay: float
    drive: float


class Integrator(NamedTuple):
    """coefficients(τ, η) → (a, c);  step(θ, ω, G, gain, (a, c), s) → (θ', ω'), gain = βτ, s the sign.

    lag: how many updates late a drive reaches θ (1 for the explicit step).
    """

    coefficients: Callable[[float, float], Coefficients]
    step: Callable[[Tensor, Tensor, Tensor, Gain, Coefficients, int], tuple[Tensor, Tensor]]
    lag: int = 0


def euler_coefficients(tau: float, eta: float) -> Coefficients:
    """(1 − τη, τ): a plain step of −ηp − s ∂H."""
    return Coefficients(1.0 - tau * eta, tau)


def driven(omega: Tensor, drive: Tensor, coefficients: Coefficients, sign: int) -> Tensor:
    """ω' = a ω − s c G."""
    a, c = coefficients
    if a == 0.0:
        return drive if -sign * c == 1.0 else drive * (-sign * c)
    return scaled_sum(omega if a == 1.0 else omega * a, drive, -sign * c)


def moved(theta: Tensor, direction: Tensor, gain: Gain) -> Tensor:
    """θ + gain · direction, gain a number or a tensor that broadcasts to θ."""
    return scaled_sum(theta, direction, gain)


def scaled_sum(base: Tensor, change: Tensor, factor: Gain) -> Tensor:
    """base + factor · change in one kernel."""
    if isinstance(factor, Tensor):
        return base.addcmul(factor, change)
    return base.add(change, alpha=factor)
