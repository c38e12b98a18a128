"""The points that stashed costates will meet: of every member its inputs and states of the last D ticks, and no more.

Members have different D. Each has a ring of its own length in one flat tensor, so that what all members meet in a tick
is one gather, and what they leave is one scatter.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]


class Stashes:
    """Of one unit, for chunks of up to `chunk` ticks.

    depths: D of every member.  like: the tensors of one tick, each [N, …] where the unit stacks.
    """

    def __init__(self, depths: Sequence[int], chunk: int, like: Tensors, stacks: bool) -> None:
        self._stacks = stacks
        self._depths = np.array(depths)
        self._lengths = self._depths + chunk
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._rings = tuple(
            t.new_zeros(int(self._lengths.sum()), *(t.shape[1:] if stacks else t.shape)) for t in like
        )

    def put(self, tick: int, ticks: int, met: Tensors) -> None:
        """What the members were evaluated at in so many ticks, from `tick` on: tensors [ticks, …]."""
        places = self._places(tick + np.arange(ticks)[:, None])
        for ring, tensor in zip(self._rings, met, strict=True):
            ring.index_copy_(0, places, tensor.flatten(0, 1) if self._stacks else tensor)

    def get(self, tick: int, ticks: int) -> Tensors:
        """What the costates of all members meet in so many ticks, from `tick` on, if it was put before: [ticks, …]."""
        places = self._places(tick + np.arange(ticks)[:, None] - self._depths)
        rows = (ring.index_select(0, places) for ring in self._rings)
        return tuple(t.unflatten(0, (ticks, -1)) if self._stacks else t for t in rows)

    def put_one(self, member: int, tick: int, met: Tensors) -> None:
        """What one member was evaluated at."""
        for ring, tensor in zip(self._rings, met, strict=True):
            ring[self._place(member, tick)] = tensor

    def get_one(self, member: int, tick: int) -> Tensors:
        """A copy of what one member was evaluated at."""
        return tuple(ring[self._place(member, tick)].clone() for ring in self._rings)

    def _place(self, member: int, tick: int) -> int:
        return int(self._starts[member] + tick % self._lengths[member])

    def _places(self, ticks: np.ndarray) -> Tensor:
        places = (self._starts + ticks % self._lengths).reshape(-1)
        return torch.from_numpy(places).to(self._rings[0].device)
