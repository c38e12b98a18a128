"""What a fused part holds from tick to tick, and what goes into and out of its ticks: trees of tensors."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor
from torch.utils._pytree import tree_map

from hamdist.physics.layers import Point, Tensors
from hamdist.physics.tick import Carry
from hamdist.runtime.aligned import settled


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
    """What a part keeps from tick to tick, by unit or loss; what was said or returned begins with the latest.

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
