"""The Hamiltonian step side by side with an optimiser of torch.optim, and the networks to compare them on."""

import torch
from support.comparing import largest_difference
from support.inline import runtime_of, weights
from support.networks import cnn, mlp, residual_net, transformer
from support.samples import samples
from torch import nn

CASES = {
    "mlp": (mlp, (8,), 1e-12),
    "cnn": (cnn, (1, 8, 8), 1e-12),
    "residual": (residual_net, (8,), 1e-12),
    "transformer": (transformer, (5, 8), 1e-10),
}
STEPS = 200


def compare_every_step(make, shape, tolerance, rule, optimiser, late=False):
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
