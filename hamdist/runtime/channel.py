"""An edge in an executor: first in, first out, with d initial tokens in each direction. A delay is nothing else."""

from collections import deque
from typing import Protocol, TypeVar

from torch import Tensor

from hamdist.network.graph import SOURCE, Edge
from hamdist.runtime.token import INVALID, NO_COSTATE, ZEROS, Costate, Signal

Item = TypeVar("Item")


class Queue(Protocol[Item]):
    """One direction of an edge, as an executor sees it."""

    def append(self, item: Item, /) -> None: ...

    def popleft(self) -> Item: ...


class Way(Protocol):
    """An edge as an executor sees it, wherever its ends are; signals go forward, costates come back."""

    @property
    def edge(self) -> Edge: ...

    @property
    def signals(self) -> Queue[Signal]: ...

    @property
    def costates(self) -> Queue[Costate]: ...


class Channel:
    """An edge inside one process.

    initial: what a forward edge's d initial tokens hold (valid zeros), or None for invalid ones. The source hears no
    costates: they are dropped.
    """

    def __init__(self, edge: Edge, initial: Tensor | None = None) -> None:
        self.edge = edge
        self.signals: deque[Signal] = initial_signals(edge, initial)
        self.costates: deque[Costate] = (
            deque(maxlen=0) if edge.source == SOURCE else deque([NO_COSTATE] * edge.ticks)
        )


def initial_signals(edge: Edge, initial: Tensor | None) -> deque[Signal]:
    """The d tokens that an edge begins with."""
    first = Signal(INVALID) if initial is None else Signal(ZEROS, initial)
    return deque([first] * edge.ticks)
