"""Learning with delayed gradients as a plain loop: the oracle of all that is stashed."""

import torch
from torch import nn


def delayed_gradients(layers, batches, rates, momentum, delays=None, decay=0.0):
    """A chain whose layer ℓ evaluates sample n at tick n + A(ℓ), and hears of it D(ℓ) ticks later.

    Everything is on the tape of one tick at a time: layer ℓ's output with the weights it had then, and its
    gradient at the input of D ticks ago with the weights of now.
    """
    N, T = len(layers), len(batches)
    delays = delays or [1] * (N - 1)
    arrival = [sum(delays[:i]) for i in range(N)]
    inputs = [{} for _ in range(N + 1)]  # inputs[ℓ][n]: what layer ℓ was fed for sample n
    costates = [{} for _ in range(N + 1)]  # costates[ℓ][n]: ∂loss/∂(output of ℓ − 1) for sample n
    velocity = [[torch.zeros_like(p) for p in layer.parameters()] for layer in layers]
    losses = {}
    for tick in range(T + 2 * arrival[-1]):
        updates = []
        for i, layer in enumerate(layers):
            n = tick - arrival[i]
            if 0 <= n < T:
                x = batches[n][0] if i == 0 else inputs[i][n]
                inputs[i][n] = x
                y = layer(x).detach()
                inputs[i + 1][n] = y
                if i == N - 1:
                    y = y.requires_grad_()
                    losses[n] = nn.functional.cross_entropy(y, batches[n][1])
                    (costates[N][n],) = torch.autograd.grad(losses[n], y)
        for i, layer in reversed(list(enumerate(layers))):
            n = tick - arrival[i] - 2 * (arrival[-1] - arrival[i])
            if 0 <= n < T:
                x = inputs[i][n].detach().requires_grad_()
                wrt = [x, *layer.parameters()]
                gradients = torch.autograd.grad(layer(x), wrt, costates[i + 1][n])
                costates[i][n] = gradients[0]
                updates.append((i, gradients[1:]))
        for i, gradients in updates:
            with torch.no_grad():
                for p, v, g in zip(layers[i].parameters(), velocity[i], gradients, strict=True):
                    v.mul_(momentum).add_(g + decay * p)
                    p.sub_(rates[i] * v)
    return {f"{i}.{n}": p.detach() for i, layer in enumerate(layers) for n, p in layer.named_parameters()}
