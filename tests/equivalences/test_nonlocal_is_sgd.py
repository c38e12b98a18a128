"""E1, E3: all delays 0, the Hamiltonian step is torch.optim.SGD, step by step.

Tolerance 1e-12 in float64 over 200 steps: the same operations in another order of rounding; 1e-10 for attention,
whose softmax and normalisation amplify the last bits.
"""

import math

import pytest
import torch
from support.inline import learning
from support.networks import mlp
from support.torch_optimisers import CASES, compare_every_step


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("nesterov", "decay"), [(False, 0.0), (True, 1e-3)])
def test_semi_implicit(case, nesterov, decay):
    tau, eta, beta = 0.5, 0.4, 0.3
    rule = learning(beta, tau=tau, weight_dissipation=eta, nesterov=nesterov, weight_decay=decay)
    compare_every_step(
        *CASES[case],
        rule,
        lambda p: torch.optim.SGD(
            p, lr=beta * tau**2, momentum=1 - tau * eta, nesterov=nesterov, weight_decay=decay
        ),
    )


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[] if c == "mlp" else pytest.mark.slow) for c in CASES]
)
def test_dampening_spares_the_first_drive(case):
    tau, eta, beta = 0.5, 0.4, 0.3
    rule = learning(beta, tau=tau, weight_dissipation=eta, dampening=0.6, weight_decay=1e-3)
    compare_every_step(
        *CASES[case],
        rule,
        lambda p: torch.optim.SGD(
            p, lr=beta * tau**2, momentum=1 - tau * eta, dampening=0.6, weight_decay=1e-3
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_exponential(case):
    tau, eta, beta = 0.5, 0.4, 0.3
    c = -math.expm1(-tau * eta) / eta
    rule = learning(beta, step="exponential", tau=tau, weight_dissipation=eta)
    compare_every_step(
        *CASES[case], rule, lambda p: torch.optim.SGD(p, lr=beta * tau * c, momentum=math.exp(-tau * eta))
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_explicit_is_sgd_on_the_gradient_of_one_update_ago(case):
    tau, eta, beta = 0.5, 0.4, 0.3
    rule = learning(beta, step="explicit", tau=tau, weight_dissipation=eta)
    compare_every_step(
        *CASES[case], rule, lambda p: torch.optim.SGD(p, lr=beta * tau**2, momentum=1 - tau * eta), late=True
    )


@pytest.mark.slow
def test_gamma_weighs_the_loss():
    rule = learning(0.1, gamma=2.5)
    compare_every_step(mlp, (8,), 1e-12, rule, lambda p: torch.optim.SGD(p, lr=0.25))


@pytest.mark.slow
def test_the_sign_of_the_costate_does_not_change_the_weights():
    """dω/dt = −ηω − s ∂H/∂θ and dθ/dt = sβω: s appears twice."""
    rule = learning(0.3, sign=1, tau=0.5, weight_dissipation=0.4)
    compare_every_step(mlp, (8,), 1e-12, rule, lambda p: torch.optim.SGD(p, lr=0.3 * 0.25, momentum=0.8))
