"""E10: the order of the steps by fitted slopes, and the energy of a quadratic potential by its formulas."""

import math

import numpy as np
import pytest
import torch
from support.inline import learning, runtime_of
from torch import nn
from torch.utils._pytree import tree_map

from hamdist.network.layer_spec import LayerSpec
from hamdist.network.losses import LossSpec
from hamdist.network.network import Network
from hamdist.physics.integrators import INTEGRATORS

STEPS = sorted(INTEGRATORS)


def smooth_system(step, tau):
    """A relaxing tanh layer and a linear readout, all delays 0, driven by one held batch: a smooth flow.

    Three ticks bring the targets to the loss; then everything is put at one generic point of phase space.
    """
    torch.manual_seed(0)
    hidden, head = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 2)
    layers = (LayerSpec("hidden", lambda: hidden, relaxing=0.8), LayerSpec("head", lambda: head))
    network = Network(layers, {"loss": LossSpec(nn.functional.mse_loss, "head")})
    batch = (torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64))
    rule = learning(0.7, step=step, tau=tau, weight_dissipation=0.3, state_dissipation=0.2)
    runtime = runtime_of(network, [batch], rule=rule, mode="nonlocal", pairing="current")
    starts = [tree_map(torch.clone, node.carry) for node in runtime.nodes.values()]
    for _ in range(3):
        list(runtime.present(*batch))
    generator = torch.Generator().manual_seed(5)
    for node, start in zip(runtime.nodes.values(), starts, strict=True):
        node.carry = tree_map(
            lambda t: t + 0.3 * torch.randn(t.shape, generator=generator, dtype=t.dtype), start
        )
    return runtime, batch


def flow(step, tau, ticks):
    """Everything that moves, as one vector, after so many steps of τ."""
    runtime, batch = smooth_system(step, tau)
    for _ in range(ticks):
        list(runtime.present(*batch))
    carries = [node.carry for node in runtime.nodes.values()]
    return torch.cat(
        [
            part.flatten()
            for c in carries
            for part in (*c.parameters.values(), *c.weight_costate.values(), *c.state, *c.state_costate)
        ]
    )


def exact(duration, ticks):
    """The flow by Richardson's extrapolation of the semi-implicit step: its error is of second order in τ."""
    fine, finer = (flow("semi-implicit", duration / n, n) for n in (ticks, 2 * ticks))
    return 2 * finer - fine


def slope(taus, errors):
    """The exponent k of error ∝ τ^k, by least squares on logarithms."""
    return np.polyfit(np.log(taus), np.log(errors), 1)[0]


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_the_local_error_is_of_second_order(step):
    """One step from a generic point; 0.15 covers the next order at these τ."""
    taus = [2.0**-k for k in (4, 5, 6, 7)]
    errors = [(flow(step, tau, 1) - exact(tau, 16)).norm().item() for tau in taus]
    assert slope(taus, errors) == pytest.approx(2.0, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_the_global_error_is_of_first_order(step):
    """Over a duration of 1; 0.15 covers the next order at these τ."""
    ticks = [16, 32, 64]
    reference = exact(1.0, 256)
    errors = [(flow(step, 1 / n, n) - reference).norm().item() for n in ticks]
    assert slope([1 / n for n in ticks], errors) == pytest.approx(1.0, abs=0.15)


def oscillate(step, beta, k, tau, steps):
    """θ and ω after every step of L = kθ²/2 without dissipation, HL's sign."""
    integrator = INTEGRATORS[step]
    coefficients = integrator.coefficients(tau, 0.0)
    theta, omega = (
        torch.tensor([1.0, 0.3], dtype=torch.float64),
        torch.tensor([0.2, -1.0], dtype=torch.float64),
    )
    yield theta.clone(), omega.clone()
    for _ in range(steps):
        theta, omega = integrator.step(theta, omega, k * theta, beta * tau, coefficients, -1)
        yield theta.clone(), omega.clone()


@pytest.mark.parametrize("step", ["semi-implicit", "exponential"])
def test_semi_implicit_conserves_a_shadow_energy(step):
    """βω² + kθ² + τβkθω stays, to 1e-12 over 1000 steps; βω² + kθ² alone does not."""
    beta, k, tau = 0.7, 1.3, 0.4
    path = list(oscillate(step, beta, k, tau, 1000))
    shadow = torch.stack([beta * o**2 + k * t**2 + tau * beta * k * t * o for t, o in path])
    energy = torch.stack([beta * o**2 + k * t**2 for t, o in path])
    assert (shadow - shadow[0]).abs().max() < 1e-12
    assert (energy - energy[0]).abs().max() > 1e-2


def test_explicit_multiplies_the_energy():
    """βω² + kθ² grows by exactly 1 + τ²βk a step: relative 1e-12 over 200 steps."""
    beta, k, tau = 0.7, 1.3, 0.1
    path = list(oscillate("explicit", beta, k, tau, 200))
    energy = torch.stack([beta * o**2 + k * t**2 for t, o in path])
    growth = (1 + tau**2 * beta * k) ** torch.arange(201, dtype=torch.float64)
    assert (energy / (energy[0] * growth[:, None]) - 1).abs().max() < 1e-12


def test_exponential_decay_is_exact():
    """With β = 0 and no drive ω(t) = ω(0) e^{−ηt}, whatever the step."""
    integrator = INTEGRATORS["exponential"]
    omega, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for _ in range(10):
        _, omega = integrator.step(zero, omega, zero, 0.0, integrator.coefficients(0.5, 1.7), -1)
    assert omega.item() == pytest.approx(math.exp(-1.7 * 5), rel=1e-13)
