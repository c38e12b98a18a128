"""SOAP, step by step beside a plain loop over its equations, and where it leads.

Tolerance 1e-9 in float64: a basis is found to rounding over the ridge of 1e-4, and 1e-12 of that is left after a while.
"""

from functools import partial

import pytest
import torch
from support.comparing import largest_difference
from support.inline import learning, runtime_of, weights
from support.networks import residual_net
from support.plain_soap import PlainSoap
from support.samples import samples
from support.torch_optimisers import CASES
from torch import nn

from hamdist import Learner
from hamdist.physics.soap import Soap

TOLERANCE = 1e-9


@pytest.mark.parametrize("case", ["mlp", "cnn", "transformer"])
@pytest.mark.parametrize("largest", [256, 8])
def test_every_step_is_that_of_a_plain_loop(case, largest):
    make, shape, _ = CASES[case]
    batches = samples(20, shape)
    plain = nn.Sequential(*make())
    optimiser = PlainSoap(plain.parameters(), 0.003, b2=0.9, basis=0.8, largest=largest, weight_decay=0.1)
    rule = learning(0.003, weight_decay=0.1, adaptive=Soap(b2=0.9, basis=0.8, largest=largest))
    runtime = runtime_of(make(), batches, rule=rule, mode="nonlocal")
    for x, y in batches:
        list(runtime.present(x, y))
        optimiser.zero_grad()
        nn.functional.cross_entropy(plain(x), y).backward()
        optimiser.step()
        theirs = {name: p.detach() for name, p in plain.named_parameters()}
        assert largest_difference(weights(runtime), theirs) < TOLERANCE
    assert (
        largest_difference(theirs, {n: p.detach() for n, p in nn.Sequential(*make()).named_parameters()})
        > 1e-2
    )


def test_a_drive_that_stays_the_same_moves_weights_by_its_orthogonal_factor():
    """G = UsVᵀ has one eigenbasis; in it the step is the sign of every s: UVᵀ, whatever s is."""
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64)).Q for _ in range(2)
    )
    drive = left @ torch.diag(torch.tensor([5.0, 1.0, 0.3, 0.1], dtype=torch.float64)) @ right.T
    rule = Soap(b2=0.9, basis=0.9)
    moments = rule.moments(drive)
    for n in range(1, 400):
        step, moments, gain = rule(drive, moments, torch.tensor(float(n)))
    assert gain == 1.0
    assert (step - left @ right.T).abs().max() < 1e-6  # eps over the least drive, 0.1, and more


def test_what_it_keeps_of_each_parameter():
    rule = Soap(largest=16)
    shapes = {(3,): 0, (3, 4): 2, (3, 40): 1, (40, 20): 0, (5, 2, 2, 2): 2, (0, 3): 0}
    assert {shape: (len(rule.moments(torch.zeros(shape))) - 1) // 2 for shape in shapes} == shapes
    assert len(rule.moments(torch.zeros(3, 4, dtype=torch.complex64))) == 1


@pytest.mark.parametrize("execution", [{}, {"stack": True}])
def test_late_gradients_move_the_weights_of_every_layer_as_in_a_plain_loop(execution):
    """Three layers, fully local, as graphs: gradients at the weights that a sample met, 4, 2 and 0 updates late."""
    batches = samples(12, (8,))
    settings = {"stash": "graph", "beta": 0.01, "rate": "constant", "adaptive": {"type": "soap"}}
    learner = Learner(residual_net()[:3], seed=0, dtype=torch.float64, **settings, **execution)
    learner.steps(batches)
    learner.drain()
    plain = residual_net()[:3]
    optimisers = [PlainSoap(layer.parameters(), 0.01) for layer in plain]
    waiting: list[list] = [[] for _ in plain]
    for x, y in batches:
        gradients = iter(
            torch.autograd.grad(
                nn.functional.cross_entropy(nn.Sequential(*plain)(x), y),
                list(nn.Sequential(*plain).parameters()),
            )
        )
        for late, layer, optimiser, queue in zip((4, 2, 0), plain, optimisers, waiting, strict=True):
            queue.append([next(gradients) for _ in layer.parameters()])
            if len(queue) > late:
                moved(layer, optimiser, queue.pop(0))
    for layer, optimiser, queue in zip(plain, optimisers, waiting, strict=True):
        for each in queue:
            moved(layer, optimiser, each)
    theirs = {f"{i}.{n}": p.detach() for i, layer in enumerate(plain) for n, p in layer.named_parameters()}
    assert largest_difference(learner.state_dict(), theirs) < TOLERANCE


def moved(layer, optimiser, gradients):
    for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()


def test_half_precision_is_rotated_in_single():
    layer = nn.Linear(4, 3, dtype=torch.bfloat16)
    _, second, basis, *_ = Soap().moments(layer.weight)
    assert second.dtype == basis.dtype == torch.float32
    learner = Learner([layer], "mse", dtype=torch.bfloat16, beta=0.01, adaptive={"type": "soap"})
    learner.step(torch.randn(2, 4).bfloat16(), torch.randn(2, 3).bfloat16())
    assert not torch.equal(learner.state_dict()["0.weight"], layer.weight)


def test_it_goes_on_from_a_state_as_if_nothing_had_been():
    batches = samples(8, (8,))
    make = partial(Learner, residual_net(), beta=0.01, dtype=torch.float64, adaptive={"type": "soap"})
    whole, first, second = make(), make(), make()
    whole.steps(batches)
    first.steps(batches[:4])
    second.load_training_state(first.training_state())
    second.steps(batches[4:])
    assert all(torch.equal(whole.state_dict()[k], t) for k, t in second.state_dict().items())
