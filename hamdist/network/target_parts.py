"""Targets of several losses, each its own, as one tensor: packed by row, of which every loss takes its part."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hamdist.physics.targets import IGNORED, unlabelled

PACKED = torch.float64
"""Of this type are packed targets: it holds every float, and whole numbers up to 2^53."""


@dataclass(frozen=True)
class Part:
    """The targets of one loss among packed ones [R, N]: from which column on, the shape of a row, the type."""

    first: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"shape {self.shape} and {str(self.dtype).removeprefix('torch.')}"

    def told(self) -> list[Any]:
        """As JSON."""
        return [self.first, list(self.shape), str(self.dtype).removeprefix("torch.")]

    @classmethod
    def of_told(cls, told: list[Any]) -> "Part":
        """As it was told. Raises ValueError, TypeError, AttributeError for anything else."""
        first, shape, dtype = told
        return cls(int(first), tuple(map(int, shape)), getattr(torch, dtype))

    @property
    def end(self) -> int:
        return self.first + math.prod(self.shape)

    def of(self, targets: Tensor) -> Tensor:
        """The loss's own [R, …], of packed ones."""
        return targets[:, self.first : self.end].reshape(len(targets), *self.shape).to(self.dtype)


class Absence(NamedTuple):
    """What it looks like where a row has no target.  ignored: the class that is none.  parts: those of several losses,
    with the class that is none for each."""

    ignored: int = IGNORED
    parts: tuple[tuple[Part, int], ...] = ()

    def lacking(self, targets: Tensor) -> "Lacking":
        """What the rows of targets [R, …] lack."""
        if not self.parts:
            return Lacking(int(unlabelled(targets, self.ignored).count_nonzero()))
        by_loss = torch.stack([unlabelled(part.of(targets), ignored) for part, ignored in self.parts])
        nothing = by_loss.all(0)
        return Lacking(int(nothing.count_nonzero()), bool((by_loss.any(0) & ~nothing).any()))


class Lacking(NamedTuple):
    """unlabelled: rows without any target.  partly: whether another lacks that of one of several losses."""

    unlabelled: int = 0
    partly: bool = False


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
