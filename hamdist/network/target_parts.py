"""Targets of several losses, each its own, as one tensor: packed by row, of which every loss takes its part."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

PACKED = torch.float64
"""Of this type are packed targets: it holds every float, and whole numbers up to 2^53."""


@dataclass(frozen=True)
class Part:
    """The targets of one loss among packed ones [R, N]: from which column on, the shape of a row, the type."""

    first: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def end(self) -> int:
        return self.first + math.prod(self.shape)

    def of(self, targets: Tensor) -> Tensor:
        """The loss's own [R, …], of packed ones."""
        return targets[:, self.first : self.end].reshape(len(targets), *self.shape).to(self.dtype)


def parts_of(targets: Mapping[str, Tensor]) -> dict[str, Part]:
    """Where `packed` puts the targets [R, …] of each loss."""
    parts: dict[str, Part] = {}
    first = 0
    for name, target in targets.items():
        parts[name] = Part(first, tuple(target.shape[1:]), target.dtype)
        first = parts[name].end
    return parts


def packed(targets: Mapping[str, Tensor]) -> Tensor:
    """Those of all losses [R, N], exactly."""
    return torch.cat([target.reshape(len(target), -1).to(PACKED) for target in targets.values()], 1)
