"""The three steps for weights and weight costates: (θ, ω, G) → (θ', ω').

explicit        θ first, on the old ω: the authors' local scheme; a drive reaches the weights one update late
semi-implicit   ω first, θ on the new one (default)
exponential     as semi-implicit, dissipation integrated exactly

A step is a pure function beside these and an entry in INTEGRATORS. It consumes ω, and θ where it moves by `plus_`:
their memory becomes that of ω' and θ' (large weights would otherwise cost more in memory traffic than in arithmetic).
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from hamdist.physics.numerics import Factor, plus_

Gain = Factor
Motion = Callable[[Tensor, Tensor, Factor], Tensor]
"""How θ' = θ + factor · change is made: in the memory of θ (`plus_`), or beside it (`plus`)."""


class Coefficients(NamedTuple):
    """(a, c) of one costate step  p' = a p − s c ∂H: what dissipation leaves, and the weight of the drive."""

    decay: float
    drive: float


class Step(Protocol):
    """(θ, ω, G, gain, (a, c), s) → (θ', ω'), gain = βτ, s the sign; G stays as it is."""

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


def exponential_coefficients(tau: float, eta: float) -> Coefficients:
    """(e^{−τη}, (1 − e^{−τη})/η): dissipation integrated exactly; c → τ as η → 0."""
    return Coefficients(math.exp(-tau * eta), -math.expm1(-tau * eta) / eta if eta else tau)


def driven(omega: Tensor, drive: Tensor, coefficients: Coefficients, sign: int) -> Tensor:
    """ω' = a ω − s c G, in the memory of ω."""
    a, c = coefficients
    if a == 0.0:
        return drive if -sign * c == 1.0 else drive * (-sign * c)
    if a != 1.0:
        omega.mul_(a)
    return plus_(omega, drive, -sign * c)


def explicit_step(
    theta: Tensor,
    omega: Tensor,
    drive: Tensor,
    gain: Gain,
    coefficients: Coefficients,
    sign: int,
    move: Motion = plus_,
) -> tuple[Tensor, Tensor]:
    """θ' = θ + sβτ ω, then ω' = aω − s c G: the authors' `local=True` order.

    With s = −1 it is SGD fed the gradient of one update ago.
    """
    return move(theta, omega, sign * gain), driven(omega, drive, coefficients, sign)


def semi_implicit_step(
    theta: Tensor,
    omega: Tensor,
    drive: Tensor,
    gain: Gain,
    coefficients: Coefficients,
    sign: int,
    move: Motion = plus_,
) -> tuple[Tensor, Tensor]:
    """ω' = aω − s c G, then θ' = θ + sβτ ω': the symplectic order.

    With s = −1 it is SGD of lr = βτ² and momentum = 1 − τη.
    """
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


INTEGRATORS: dict[str, Integrator] = {
    "explicit": Integrator(euler_coefficients, explicit_step, lag=1),
    "semi-implicit": Integrator(euler_coefficients, semi_implicit_step),
    "exponential": Integrator(exponential_coefficients, semi_implicit_step),
}
