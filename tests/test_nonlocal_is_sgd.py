"""E1, E3: all delays 0, the Hamiltonian step is torch.optim.SGD, step by step.

Tolerance 1e-12 in float64 over 200 steps: the same operations in another order of rounding; 1e-10 for attention,
whose softmax and normalisation amplify the last bits.
"""

import math

import pytest
import torch
from helpers import (
    cnn,
    largest_difference,
    learning,
    mlp,
    residual_net,
    runtime_of,
    samples,
    transformer,
    weights,
)
from torch import nn

CASES = {
    "mlp": (mlp, (8,), 1e-12),
    "cnn": (cnn, (1, 8, 8), 1e-12),
    "residual": (residual_net, (8,), 1e-12),
    "transformer": (transformer, (5, 8), 1e-10),
}
STEPS = 200


def compare(make, shape, tolerance, rule, optimiser, late=False):
    """Runs both side by side and compares weights after every step."""
    batches = samples(STEPS, shape)
    plain = nn.Sequential(*make())
    optimise = optimiser(plain.parameters())
    runtime = runtime_of(make(), batches, rule=rule, mode="nonlocal")
    previous = None
    for x, y in batches:
        list(runtime.present(x, y))
        optimise.zero_grad()
        nn.functional.cross_entropy(plain(x), y).backward()
        if late:
            gradients = [p.grad.clone() for p in plain.parameters()]
            for index, p in enumerate(plain.parameters()):
                p.grad = torch.zeros_like(p) if previous is None else previous[index]
            previous = gradients
        optimise.step()
        theirs = {name: p.detach() for name, p in plain.named_parameters()}
        assert largest_difference(weights(runtime), theirs) < tolerance
    moved = largest_difference(theirs, {n: p.detach() for n, p in nn.Sequential(*make()).named_parameters()})
    assert moved > 1e-2, "the comparison would hold for weights that never move"
    assert runtime.seen_once()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("nesterov", "decay"), [(False, 0.0), (True, 1e-3)])
def test_semi_implicit(case, nesterov, decay):
    tau, eta, beta = 0.5, 0.4, 0.3
    rule = learning(beta, tau=tau, weight_dissipation=eta, nesterov=nesterov, weight_decay=decay)
    compare(
        *CASES[case],
        rule,
        lambda p: torch.optim.SGD(
            p, lr=beta * tau**2, momentum=1 - tau * eta, nesterov=nesterov, weight_decay=decay
        ),
    )


@pytest.mark.parametrize("case", CASES)
def test_exponential(case):
    tau, eta, beta = 0.5, 0.4, 0.3
    c = -math.expm1(-tau * eta) / eta
    rule = learning(beta, step="exponential", tau=tau, weight_dissipation=eta)
    compare(
        *CASES[case], rule, lambda p: torch.optim.SGD(p, lr=beta * tau * c, momentum=math.exp(-tau * eta))
    )


@pytest.mark.parametrize("case", CASES)
def test_explicit_is_sgd_on_the_gradient_of_one_update_ago(case):
    tau, eta, beta = 0.5, 0.4, 0.3
    rule = learning(beta, step="explicit", tau=tau, weight_dissipation=eta)
    compare(
        *CASES[case], rule, lambda p: torch.optim.SGD(p, lr=beta * tau**2, momentum=1 - tau * eta), late=True
    )


def test_gamma_weighs_the_loss():
    rule = learning(0.1, gamma=2.5)
    compare(mlp, (8,), 1e-12, rule, lambda p: torch.optim.SGD(p, lr=0.25))


def test_the_sign_of_the_costate_does_not_change_the_weights():
    """dω/dt = −ηω − s ∂H/∂θ and dθ/dt = sβω: s appears twice."""
    rule = learning(0.3, sign=1, tau=0.5, weight_dissipation=0.4)
    compare(mlp, (8,), 1e-12, rule, lambda p: torch.optim.SGD(p, lr=0.3 * 0.25, momentum=0.8))
