"""The three steps for weights and weight costates, each a pure function in a file of its own.

explicit.py        θ first, on the old ω: the authors' local scheme
semi_implicit.py   ω first, θ on the new one (default)
exponential.py     as semi-implicit, dissipation integrated exactly
contract.py        what a step is
"""

from hamdist.physics.integrators.contract import Coefficients, Integrator
from hamdist.physics.integrators.explicit import EXPLICIT
from hamdist.physics.integrators.exponential import EXPONENTIAL
from hamdist.physics.integrators.semi_implicit import SEMI_IMPLICIT

INTEGRATORS: dict[str, Integrator] = {
    "explicit": EXPLICIT,
    "semi-implicit": SEMI_IMPLICIT,
    "exponential": EXPONENTIAL,
}

__all__ = ["EXPLICIT", "EXPONENTIAL", "INTEGRATORS", "SEMI_IMPLICIT", "Coefficients", "Integrator"]
