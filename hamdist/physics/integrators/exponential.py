"""The semi-implicit order with dissipation integrated exactly: (a, c) = (e^{−τη}, (1 − e^{−τη})/η)."""

import math

from hamdist.physics.integrators.contract import Coefficients, Integrator
from hamdist.physics.integrators.semi_implicit import step


def coefficients(tau: float, eta: float) -> Coefficients:
    """c → τ as η → 0."""
    return Coefficients(math.exp(-tau * eta), -math.expm1(-tau * eta) / eta if eta else tau)


EXPONENTIAL = Integrator(coefficients, step)
