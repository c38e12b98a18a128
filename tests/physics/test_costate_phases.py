"""A state costate that goes forward in time against one that goes back, for errors that oscillate.

In a linear layer the two have the same amplitude and opposite phases: with ∂H/∂ξ = Cᵀq + fᵀ_ξ p, M = 1 + τ f_ξᵀ and
q_t = e^{iντt}, backward p_t = τ (1 − e^{iντ} M)⁻¹ Cᵀ q_t, forward p_t = e^{−iντ} times the complex conjugate of that.
"""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from hamdist.physics import statespace as ss
from hamdist.physics.bptt import stepped, swept
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.hamiltonian import Wanted
from hamdist.physics.layers import Layer, Point
from hamdist.physics.statespace.layer import PureMemory, StateSpaceLayer
from hamdist.physics.step import Carry, Evaluation, Motion, Pattern, initial_carry, react

TOLERANCE = 1e-10  # float64; what is left of the start after TICKS is below 1e-15
TAU, TICKS, DAMPING = 0.2, 300, 1.2
WANTED = Wanted(weights=False, inputs=(False,))

MEMORIES = {
    "CTB": lambda: ss.CTB(2, 6, 1, damping=DAMPING),
    "DiagonalReal": lambda: ss.DiagonalReal(2, 6, 1),
    "CSSM": lambda: ss.CSSM(2, 6, 1, activation="identity"),
}


def stable(name: str) -> nn.Module:
    """A module of weights that let no error stay for long."""
    torch.manual_seed(3)
    module = MEMORIES[name]().double()
    if name != "CTB":
        with torch.no_grad():
            dict(module.named_parameters())["d" if name == "DiagonalReal" else "a.weight"].mul_(0.5)
    return module


@pytest.fixture(params=MEMORIES)
def layer(request: pytest.FixtureRequest) -> Layer:
    return StateSpaceLayer(PureMemory(stable(request.param), "sum", TAU, "old"))


def errors(frequency: float) -> Tensor:
    """Cosine and sine, the rows of a batch, [ticks, 2, 1]: the real and the imaginary part of what follows."""
    angles = frequency * TAU * torch.arange(TICKS, dtype=torch.float64)
    return torch.stack([angles.cos(), angles.sin()], dim=1).unsqueeze(2)


def started(layer: Layer) -> tuple[Carry, Point]:
    inputs = (torch.zeros(2, 2, dtype=torch.float64),)
    carry = initial_carry(layer, inputs, Dynamics(tau=TAU))
    return carry, Point(inputs, carry.state)


def amplitude(carry: Carry) -> Tensor:
    return torch.complex(*carry.state_costate[0])


def forward(layer: Layer, frequency: float) -> Tensor:
    """p after TICKS, over the error's phase then."""
    carry, point = started(layer)
    motion, only_costates = Motion(layer, Dynamics(tau=TAU), WANTED), Pattern(weights=False)
    for q in errors(frequency):
        carry, _ = react(motion, carry, Evaluation(point), q, only_costates)
    phase = torch.tensor(1j * frequency * TAU * TICKS, dtype=torch.complex128).exp()
    return amplitude(carry) / phase


def backward(layer: Layer, frequency: float) -> Tensor:
    """p at the first of TICKS, where the error's phase is 0."""
    carry, point = started(layer)
    step = partial(stepped, layer, TAU)
    carry, _ = swept(step, carry, [point] * TICKS, list(errors(frequency)), WANTED)
    return amplitude(carry)


@pytest.mark.slow
@pytest.mark.parametrize("frequency", [0.0, 0.3, 1.1, 4.0])
def test_both_have_one_amplitude_and_opposite_phases(layer: Layer, frequency: float) -> None:
    turn = torch.tensor(1j * frequency * TAU, dtype=torch.complex128).exp()
    (drift,) = torch.autograd.functional.jacobian(
        lambda xi: layer.pure.step(layer.pure.parameters(), {}, started(layer)[1]._replace(state=(xi,)))[1][
            0
        ][0],
        started(layer)[1].state,
    )
    m = torch.eye(6, dtype=torch.float64) + TAU * drift[:, 0].T
    assert torch.linalg.eigvals(m).abs().max() < math.exp(-36 / TICKS)
    readout = layer.pure.parameters()["c.weight"][0].to(torch.complex128)
    expected = TAU * torch.linalg.solve(torch.eye(6) - turn * m, readout)
    torch.testing.assert_close(backward(layer, frequency), expected, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(forward(layer, frequency), expected.conj() / turn, rtol=0, atol=TOLERANCE)
