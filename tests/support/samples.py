"""Streams of random samples."""

from collections.abc import Sequence

import torch
from torch import Tensor

Batches = list[tuple[Tensor, Tensor]]


def samples(count: int, shape: Sequence[int], classes: int = 3, batch: int = 4, seed: int = 1) -> Batches:
    """Random classification batches; an output with positions has one class for each."""
    generator = torch.Generator().manual_seed(seed)
    positions = tuple(shape[:1]) if len(shape) == 2 else ()
    return [
        (
            torch.randn(batch, *shape, generator=generator, dtype=torch.float64),
            torch.randint(0, classes, (batch, *positions), generator=generator),
        )
        for _ in range(count)
    ]
