"""What a module comes to under torch.optim.SGD, for a non-local network to be compared with."""

import torch
from support.inline import learning, run_through, runtime_of
from torch import Tensor, nn


def sgd(module: nn.Module, batches, lr: float = 0.1) -> dict[str, Tensor]:
    """Its state_dict after a step a batch."""
    optimiser = torch.optim.SGD(module.parameters(), lr)
    for x, y in batches:
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimiser.step()
    return {name: tensor.detach() for name, tensor in module.state_dict().items()}


def nonlocal_run(layers, batches, **place) -> dict[str, Tensor]:
    """The same of a non-local network, by "<layer>.<tensor>"."""
    runtime = runtime_of(layers, batches, rule=learning(0.1), mode="nonlocal", **place)
    run_through(runtime, batches)
    return {f"{name}.{key}": t for name, tensors in runtime.tensors().items() for key, t in tensors.items()}
