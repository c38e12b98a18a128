"""Networks with dropout, and dropout that a plain loop draws with the seed of every sample."""

import random

import numpy as np
import torch
from torch import Tensor, nn

from hamdist.physics.randomness import derive_seed


class Reseeded(nn.Module):
    """For the plain loop: its n-th evaluation, and its n-th recomputation, draw from sample n's seed."""

    def __init__(self, inner: nn.Module, name: str, rows: int) -> None:
        super().__init__()
        self.inner, self.name, self.rows = inner, name, rows
        self.calls = {False: 0, True: 0}

    def forward(self, x: Tensor) -> Tensor:
        number = self.rows * self.calls[x.requires_grad]
        self.calls[x.requires_grad] += 1
        with torch.random.fork_rng():
            seed = derive_seed(0, self.name, number)
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            return self.inner(x)


def dropping(depth=3, seed=0):
    torch.manual_seed(seed)
    hidden = [nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.4), nn.Tanh()).double() for _ in range(depth - 1)]
    return [*hidden, nn.Linear(8, 3).double()]
