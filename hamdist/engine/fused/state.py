"""What a fused partition holds from tick to tick, and what goes into and out of its ticks: trees of tensors.

A stack's tensors have its members along a first dimension. The points that stashed costates will meet lie in rings:
of every member its inputs and states of the last D ticks, and no more. Members have different D; each has a ring of its
own length in one flat tensor, so that what all members meet in a tick is one gather, and what they leave one scatter.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from hamdist.engine.aligned import settled
from hamdist.errors import RunError
from hamdist.physics.layers import Point
from hamdist.physics.pure_module import Tensors
from hamdist.physics.step import Carry

Tree = TypeVar("Tree")


def together(trees: Sequence[Tree]) -> Tree:
    """Trees of tensors of equal structure as one."""
    return tree_map(lambda *tensors: torch.stack(tensors), *trees)


def apart(tree: Tree, count: int) -> list[Tree]:
    """The tree of each member, in memory of its own."""
    return [tree_map(lambda tensor, k=k: tensor[k].clone(), tree) for k in range(count)]


def along(factors: Tensor, like: Tensor) -> Tensor:
    """One factor a member [N], so that it multiplies every number of that member in `like` [N, …]."""
    return factors.view(-1, *[1] * (like.dim() - 1))


def there(value: Tensor | None) -> Tensor:
    """What a valid token brings."""
    if value is None:
        raise RunError("a valid token came without a value; this is a fault of hamdist: please report it")
    return value


class At(NamedTuple):
    """What a unit was evaluated at: its inputs, by slot, its state, and the rows in which an episode began.

    restarts: one tensor, or none where nobody asks.
    """

    inputs: tuple[Tensor, ...]
    state: tuple[Tensor, ...]
    restarts: tuple[Tensor, ...] = ()

    def stashed(self) -> "At":
        """What a stash keeps of it; restarts are known from tokens."""
        return self._replace(restarts=())

    @property
    def point(self) -> Point:
        return Point(self.inputs, self.state, restarts=self.restarts[0] if self.restarts else None)


class Back(NamedTuple):
    """What a unit returns: ∂H/∂a by slot, for the slots that return any, and under `reversible` the inputs used."""

    costates: Mapping[int, Tensor]
    used: tuple[Tensor, ...]


class Flow(NamedTuple):
    """What a partition keeps from tick to tick, by unit or loss; what was said or returned begins with the latest.

    scores: of each loss, the sums over all rows so far, and over those of the window.
    """

    carries: tuple[Carry, ...]
    rates: tuple[Tensors, ...]
    said: tuple[tuple[Tensor, ...], ...]
    returned: tuple[tuple[Back, ...], ...]
    judged: tuple[tuple[Back, ...], ...]
    scores: tuple[tuple[Tensor, Tensor], ...]


class Entering(NamedTuple):
    """What comes from outside in some ticks, by edge: tensors of all of them [ticks, …], or of the only one.

    restarts: by unit, the rows in which an episode begins, where any does in a unit that remembers.
    """

    signals: Mapping[int, Tensor]
    costates: Mapping[int, Back]
    restarts: Mapping[int, Tensor]

    def leaves(self) -> list[Tensor]:
        """All tensors, in the order in which torch takes the tree apart."""
        backs = (t for back in self.costates.values() for t in (*back.costates.values(), *back.used))
        return [*self.signals.values(), *backs, *self.restarts.values()]

    def at(self, tick: int) -> "Entering":
        """That of one of several ticks."""
        return tree_map(lambda tensor: settled(tensor[tick]), self)


class Verdict(NamedTuple):
    """Of a loss: the outputs judged [ticks, B, …], and their mean losses [ticks]."""

    output: Tensor
    loss: Tensor


class Leaving(NamedTuple):
    """What goes out in some ticks, by edge: tensors of all of them [ticks, …], or of the only one."""

    signals: Mapping[int, Tensor]
    costates: Mapping[int, Back]


class Chunk(NamedTuple):
    """What came of several ticks.  left: in all of them.  met: what units with a stash were evaluated at, [ticks, …].

    latest: what all units were evaluated at in the last.  verdicts: of the losses, in their order.
    """

    flow: Flow
    left: Leaving
    met: dict[int, At]
    latest: dict[int, At]
    verdicts: tuple[Verdict, ...]


class Stashes:
    """Of one unit, for chunks of up to `chunk` ticks.

    depths: D of every member.  like: the tensors of one tick, each [N, …] where the unit stacks.
    """

    def __init__(self, depths: Sequence[int], chunk: int, like: tuple[Tensor, ...], stacks: bool) -> None:
        self._stacks = stacks
        self._depths = np.array(depths)
        self._lengths = self._depths + chunk
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._rings = tuple(
            t.new_zeros(int(self._lengths.sum()), *(t.shape[1:] if stacks else t.shape)) for t in like
        )

    def put(self, tick: int, ticks: int, met: tuple[Tensor, ...]) -> None:
        """What the members were evaluated at in so many ticks, from `tick` on: tensors [ticks, …]."""
        places = self._places(tick + np.arange(ticks)[:, None])
        for ring, tensor in zip(self._rings, met, strict=True):
            ring.index_copy_(0, places, tensor.flatten(0, 1) if self._stacks else tensor)

    def get(self, tick: int, ticks: int) -> tuple[Tensor, ...]:
        """What the costates of all members meet in so many ticks, from `tick` on, if it was put before: [ticks, …]."""
        places = self._places(tick + np.arange(ticks)[:, None] - self._depths)
        rows = (ring.index_select(0, places) for ring in self._rings)
        return tuple(t.unflatten(0, (ticks, -1)) if self._stacks else t for t in rows)

    def put_one(self, member: int, tick: int, met: tuple[Tensor, ...]) -> None:
        """What one member was evaluated at."""
        for ring, tensor in zip(self._rings, met, strict=True):
            ring[self._place(member, tick)] = tensor

    def get_one(self, member: int, tick: int) -> tuple[Tensor, ...]:
        """A copy of what one member was evaluated at."""
        return tuple(ring[self._place(member, tick)].clone() for ring in self._rings)

    def _place(self, member: int, tick: int) -> int:
        return int(self._starts[member] + tick % self._lengths[member])

    def _places(self, ticks: np.ndarray) -> Tensor:
        places = (self._starts + ticks % self._lengths).reshape(-1)
        return torch.from_numpy(places).to(self._rings[0].device)
