"""The partial derivatives of H = ⟨q, y⟩ + ⟨p, f⟩ in one reverse-mode call, against autograd on H formed as a number.

Tolerance 1e-13 in float64: the same products, summed in another order.
"""

import torch
from support.comparing import largest_difference
from torch import nn

from hamdist.physics.hamiltonian import Wanted, hamiltonian, linearise
from hamdist.physics.layers import Instant, Point, Relaxing
from hamdist.physics.pure_module import PureModule


def leaves(tensors):
    return [tensor.clone().requires_grad_() for tensor in tensors]


def check(layer, point, wanted):
    parameters, buffers = layer.pure.parameters(), layer.pure.buffers()
    values, pullback = linearise(layer, parameters, buffers, point, wanted)
    q = torch.randn_like(values.output)
    p = tuple(torch.randn_like(f) for f in values.drift)
    partials = pullback(q, p)

    names = list(parameters)
    weights, inputs, state = (leaves(part) for part in (parameters.values(), point.inputs, point.state))
    here = Point(tuple(inputs), tuple(state), point.context)
    H = hamiltonian(layer(dict(zip(names, weights, strict=True)), buffers, here), q, p)
    gradients = torch.autograd.grad(H, [*weights, *inputs, *state])
    if wanted.weights:
        theirs = dict(zip(names, gradients, strict=False))
        assert largest_difference(partials.weights, theirs) < 1e-13
    else:
        assert partials.weights == {}
    for ours, gradient, want in zip(partials.inputs, gradients[len(names) :], wanted.inputs, strict=False):
        assert (ours is not None) == want
        assert not want or (ours - gradient).abs().max() < 1e-13
    for ours, gradient in zip(partials.state, gradients[len(names) + len(inputs) :], strict=True):
        assert (ours - gradient).abs().max() < 1e-13


def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 5), nn.Tanh()).double()


def test_instant_layer():
    check(Instant(PureModule(module())), Point((torch.randn(3, 5).double(),)), Wanted())


def test_several_inputs_of_which_one_returns_nothing():
    inputs = (torch.randn(3, 5).double(), torch.randn(3, 5).double())
    check(Instant(PureModule(module())), Point(inputs), Wanted(inputs=(False, True)))


def test_a_closed_gate_asks_for_no_weights():
    check(Instant(PureModule(module())), Point((torch.randn(3, 5).double(),)), Wanted(weights=False))


def test_relaxing_layer_with_state_and_costate():
    point = Point((torch.randn(3, 5).double(),), (torch.randn(3, 5).double(),))
    check(Relaxing(PureModule(module()), 1.7), point, Wanted())


def test_complex_costates_pair_with_the_real_part():
    """⟨p, f⟩ = Re Σ p̄ f."""
    a, b = torch.randn(4, dtype=torch.complex128), torch.randn(4, dtype=torch.complex128)

    class Values:
        output, drift = torch.zeros(1), (b,)

    expected = (a.real * b.real + a.imag * b.imag).sum()
    assert abs(hamiltonian(Values, torch.zeros(1), (a,)) - expected) < 1e-14
